"""`make fuzz`: damages inputs for some minutes; the exit code is 1 when one got past the errors meant for it.

    python -m fuzz --minutes 2 [--seed 7] [--targets raw mcap ...]
    python -m fuzz --replay fuzz/corpus/failures/TARGET-ORIGIN-DIGEST

The same seed gives the same inputs, from the valid ones alone; without one, the inputs of earlier runs that had an
outcome of their own are damaged further. Inputs that fail are kept, one for each place in the code.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cnn_perception.errors import EXIT_DEFECT, EXIT_INTERRUPTED, EXIT_OK
from fuzz import ROOT
from fuzz.supervisor import Fuzzing
from fuzz.worker import TARGETS, Batch, judge, load, samples_of, save, target_of

CORPUS = ROOT / "fuzz" / "corpus"
"""Inputs that are kept from run to run; git ignores them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzzes, or reads one input again; returns the exit code."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", help="any text; the inputs of earlier runs are then left out")
    parser.add_argument("--targets", nargs="+", choices=[target.name for target in TARGETS], metavar="TARGET")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--replay", type=Path, help="folder of one input, which is read once more, here")
    options = parser.parse_args(argv)
    if options.replay:
        return replay(options.replay)
    names = options.targets or [target.name for target in TARGETS]
    if broken := [line for name in names for line in _broken_samples(name)]:
        print("\n".join(broken))
        return EXIT_DEFECT
    return fuzz(names, options.seed, options.minutes * 60, options.workers)


def fuzz(names: list[str], seed: str | None, seconds: float, workers: int) -> int:
    """Fuzzes for a time, prints what was found, keeps it, and returns the exit code."""
    stored = CORPUS if seed is None else None
    seed = seed or str(time.time_ns() % 10**9)
    fuzzing = Fuzzing(names, seed, stored and stored / "outcomes", workers)
    print(f"seed {seed}, {workers} processes, {seconds:.0f} s, targets: {' '.join(names)}", flush=True)
    interrupted = False
    told: set[tuple[str, str]] = set()
    began_s = time.monotonic()
    try:
        for _ in fuzzing.run(seconds):
            print(_progress(fuzzing, time.monotonic() - began_s), flush=True)
            _keep_failures(fuzzing, told)
    except KeyboardInterrupt:
        interrupted = True
    if stored:
        fuzzing.save_corpus(stored / "outcomes")
    _keep_failures(fuzzing, told)
    _report(fuzzing, time.monotonic() - began_s)
    if told:
        return EXIT_DEFECT
    return EXIT_INTERRUPTED if interrupted else EXIT_OK


def replay(path: Path) -> int:
    """Reads one input that was kept, prints what becomes of it, and returns the exit code."""
    name, sample = load(path)
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        samples_of(name)
        batch = Batch()
        outcome = judge(target_of(name), sample, batch)
    for failure in batch.failures.values():
        print(failure.report)
    print(f"{name}: {outcome}; {batch.slowest_s:.2f} s")
    return EXIT_DEFECT if batch.failures else EXIT_OK


def _broken_samples(name: str) -> list[str]:
    """Returns a line for each valid input that is refused, or that fails."""
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        batch = Batch()
        outcomes = {sample.origin: judge(target_of(name), sample, batch) for sample in samples_of(name)}
        tempfile.tempdir = None
    lines = [f"{name}: a valid input fails: {failure.report}" for failure in batch.failures.values()]
    if batch.refused or any("damage" in outcome for outcome in outcomes.values()):
        lines.append(f"{name}: valid inputs are refused: {outcomes}")
    return lines


def _progress(fuzzing: Fuzzing, elapsed_s: float) -> str:
    counts = " ".join(f"{name} {tally.inputs}" for name, tally in fuzzing.tallies.items())
    failures = sum(len(tally.failures) for tally in fuzzing.tallies.values())
    total = sum(tally.inputs for tally in fuzzing.tallies.values())
    return f"{elapsed_s:5.0f} s {total / elapsed_s:7.0f}/s  {failures} failures  {counts}"


def _report(fuzzing: Fuzzing, elapsed_s: float) -> None:
    """Prints the counts."""
    print(
        f"\n{'target':<12}{'inputs':>10}{'refused':>10}{'outcomes':>9}{'inputs/s':>10}{'slowest s':>10}{'failures':>9}"
    )
    for name, tally in fuzzing.tallies.items():
        rate = tally.inputs / max(tally.busy_s, 1e-9)
        numbers = f"{tally.inputs:>10}{tally.refused:>10}{len(tally.found):>9}{rate:>10.0f}{tally.slowest_s:>10.2f}"
        print(f"{name:<12}{numbers}{len(tally.failures):>9}")
    total = sum(tally.inputs for tally in fuzzing.tallies.values())
    print(f"{'all':<12}{total:>10} in {elapsed_s:.0f} s")


def _keep_failures(fuzzing: Fuzzing, told: set[tuple[str, str]]) -> None:
    """Stores each failure that is not among `told`, adds it, and prints it with the command that shows it again."""
    for failure in (failure for tally in fuzzing.tallies.values() for failure in tally.failures.values()):
        if (failure.target, failure.place) not in told:
            told.add((failure.target, failure.place))
            path = save(CORPUS / "failures", failure.target, failure.sample)
            (path.parent / f"{path.name}.txt").write_text(failure.report)
            print(f"\n{failure.target}: {failure.place}\n  {_command(path)}", flush=True)


def _command(path: Path) -> str:
    python = Path(sys.executable)
    where = path.relative_to(ROOT)
    return f"{python.relative_to(ROOT) if python.is_relative_to(ROOT) else 'python'} -m fuzz --replay {where}"


if __name__ == "__main__":
    sys.exit(main())

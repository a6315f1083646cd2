"""`make bench`: one measurement after the other, then a table of every ratio, its target and the last run's figure.

    python -m benchmark
    python -m benchmark --all --data photos --weights resnet50.safetensors --backbone resnet50_v1
    python -m benchmark node_rate viewers

Without --all those that matter most on a robot, in a quarter of an hour on two cores. Leaves the newest figure of each
ratio in results.json in --output, after each benchmark; the next run there compares itself with what the same machine
has left, and says of which day that is. The machine has to be idle: nothing is measured beside anything else.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.support.options import OUTPUT, option_parser
from benchmark.support.pairs import RECORD, Figure, machine
from cnn_perception.errors import EXIT_DEFECT, EXIT_INTERRUPTED, EXIT_OK
from demo.processes import child_environment, module_command
from training.run_files import make_folder, write_text
from training.text_table import text_table


@dataclass(frozen=True)
class Measurement:
    """A benchmark, as it is run here.

    Attributes:
        module: Its module in this package.
        arguments: What it is given.
        is_core: Whether it is run without --all.
    """

    module: str
    arguments: tuple[str, ...] = ()
    is_core: bool = False


_ONE_CORE_LEFT = str(max(1, (os.cpu_count() or 1) - 1))
_LARGER = ("--seconds", "2", "--size", "1280x720", "1920x1080", "3840x2160", "--transport", "raw", "compressed")
_SHORT = ("--seconds", "5")
"""For each measurement of those with many, so that all of them fit into an hour; their own command takes longer."""
MEASUREMENTS = (
    Measurement("node_rate", is_core=True),
    Measurement("start", is_core=True),
    Measurement("cameras", is_core=True),
    Measurement("preprocessing", is_core=True),
    Measurement("outputs", is_core=True),
    Measurement("score_map", is_core=True),
    Measurement("evaluation", is_core=True),
    Measurement("node_rate", ("--backbone", "resnet50", "--threads", _ONE_CORE_LEFT)),
    Measurement("node_rate", ("--threads", _ONE_CORE_LEFT, *_LARGER)),
    Measurement("viewers", _SHORT),
    Measurement("stranger", _SHORT),
    Measurement("dashboard", (*_SHORT, "--rounds", "3")),
    Measurement("black_box", _SHORT),
    Measurement("regions", ("--rounds", "9")),
    Measurement("bags"),
    Measurement("video", ("--rounds", "2")),
    Measurement("demo"),
    Measurement("convolution"),
    Measurement("gpu"),
)
_WITH_DATA = ("loading", "finetuning")
_WITH_WEIGHTS = ("probe", "look")
"""Of training, which is measured on the user's images only."""


def chosen(options: argparse.Namespace) -> list[Measurement]:
    """Returns what is to be measured, those of training last: they need data."""
    found = [one for one in MEASUREMENTS if one.is_core or options.all or one.module in options.names]
    if options.data:
        found += [Measurement(name, ("--data", options.data)) for name in _WITH_DATA]
    if options.data and options.weights:
        network = ("--weights", options.weights, "--backbone", options.backbone)
        found += [Measurement(name, ("--data", options.data, *network)) for name in _WITH_WEIGHTS]
    return [one for one in found if not options.names or one.module in options.names]


def run(measurement: Measurement, figures: Path) -> tuple[list[Figure], int]:
    """Runs a benchmark; returns the ratios that it found and its exit code."""
    figures.unlink(missing_ok=True)
    command = module_command(f"benchmark.{measurement.module}", *measurement.arguments)
    code = subprocess.run(command, env=child_environment() | {RECORD: str(figures.absolute())}).returncode
    lines = figures.read_text().splitlines() if figures.is_file() else []
    figures.unlink(missing_ok=True)
    return [Figure(**json.loads(line)) for line in lines], code


def table(found: Sequence[Figure], last: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the lines of the table at the end; `last` has what this machine has measured before, by name."""
    rows = [["", "median", "least to most", "target", "", "last run"]]
    for one in found:
        verdict = ("reached" if one.is_reached else "MISSED") if one.target else ""
        before = f"{last[one.name]['median']:.3f} of {last[one.name]['date']}" if one.name in last else ""
        rows.append([one.name, f"{one.median:.3f}", f"{one.least:.3f} to {one.most:.3f}", one.target, verdict, before])
    return text_table(rows)


def earlier(results: Path) -> dict[str, dict[str, Any]]:
    """Returns what earlier runs have left, by the names of the figures; nothing where it cannot be read."""
    try:
        rows: list[dict[str, Any]] = json.loads(results.read_text())
        return {row["name"]: row for row in rows if isinstance(row["median"], float) and row["date"] and row["machine"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def merged(found: Sequence[Figure], last: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns what results.json holds now: of each figure the newest, with its day and its machine."""
    day = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    new = {one.name: {**vars(one), "date": day, "machine": machine()} for one in found}
    return list({**last, **new}.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code, 1 where a benchmark failed."""
    parser = option_parser("", __doc__, output=OUTPUT)
    names = sorted({one.module for one in MEASUREMENTS} | {*_WITH_DATA, *_WITH_WEIGHTS})
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"those alone: {', '.join(names)}")
    parser.add_argument("--all", action="store_true", help="all of them, in about an hour")
    parser.add_argument("--data", default="", help="folder of class folders: measures training, too")
    parser.add_argument("--weights", default="", help="of a pretrained backbone: measures probe and look, too")
    parser.add_argument("--backbone", default="resnet18", help="of probe and look (default: %(default)s)")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - set(names):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    measurements = chosen(options)
    if not_given := set(options.names) - {one.module for one in measurements}:
        parser.error(f"{', '.join(sorted(not_given))}: give --data, for {' and '.join(_WITH_WEIGHTS)} with --weights")
    make_folder(options.output)
    results = options.output / "results.json"
    last = earlier(results)
    started = time.monotonic()

    def keep(found: Sequence[Figure]) -> None:
        write_text(results, json.dumps(merged(found, last), indent=2) + "\n")

    found, failed, is_interrupted = measure(measurements, options.output / "figures.jsonl", keep)
    print(f"\n{machine()}, {(time.monotonic() - started) / 60:.0f} minutes")
    print("\n".join(table(found, {name: row for name, row in last.items() if row["machine"] == machine()})))
    if left_out := sorted({*names} - {one.module for one in measurements}):
        print(f"not measured: {', '.join(left_out)}")
    print(f"written: {results}")
    if failed:
        print(f"error: failed: {', '.join(failed)}; see above", file=sys.stderr)
        return EXIT_DEFECT
    return EXIT_INTERRUPTED if is_interrupted else EXIT_OK


def measure(
    measurements: Sequence[Measurement], figures: Path, keep: Callable[[Sequence[Figure]], None]
) -> tuple[list[Figure], list[str], bool]:
    """Runs benchmarks one after the other.

    Args:
        measurements: Which, in this order.
        figures: A file of their own, for the ratio that each leaves.
        keep: Is given all ratios so far after each benchmark: a run that is ended has left what it has measured.

    Returns:
        The ratios, the benchmarks that failed, and whether Ctrl-C ended it early.
    """
    found: list[Figure] = []
    failed: list[str] = []
    started = time.monotonic()
    for number, one in enumerate(measurements, 1):
        minutes = (time.monotonic() - started) / 60
        words = " ".join((one.module, *one.arguments))
        print(f"\n[{number} of {len(measurements)}, {minutes:.0f} min] {words}", flush=True)
        try:
            ratios, code = run(one, figures)
        except KeyboardInterrupt:
            return found, failed, True
        found += ratios
        keep(found)
        if code != EXIT_OK:
            failed.append(one.module)
    return found, failed, False


if __name__ == "__main__":
    sys.exit(main())

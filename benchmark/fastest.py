"""The rate of the file and provider that `providers: [fastest]` takes, over that of the best found by hand.

    python -m benchmark.fastest --model models/NAME.onnx

with NAME_int8.onnx or NAME_fp16.onnx beside it. By hand each file on each provider has a process of its own, and they
take turns; then the choice is made as often as there are rounds, each time anew.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmark.support.options import option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import BareLoop
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, PerceptionError
from cnn_perception.fastest.candidates import Candidate, candidates_of
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.providers import FASTEST, SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline

_TARGET = Target(0.95, is_lower_bound=True)
_Key = tuple[Path, str]


def by_hand(candidates: Sequence[Candidate], threads: int, rounds: int, seconds: float) -> dict[_Key, float]:
    """Returns the images a second of each file on each provider that runs it, medians of some rounds."""
    usable = []
    for one in candidates:
        model = OnnxModel(one.file.path, SessionOptions(providers=(one.provider,), intra_op_threads=threads))
        if model.provider == one.provider:
            usable.append(one)
    loops = {(one.file.path, one.provider): BareLoop(one.file.path, threads, one.provider) for one in usable}
    rates: dict[_Key, list[float]] = {key: [] for key in loops}
    for _ in range(rounds):
        for key, loop in loops.items():
            rates[key].append(loop.rate_hz(seconds))
    for loop in loops.values():
        loop.close()
    return {key: statistics.median(values) for key, values in rates.items()}


def choose(path: Path, threads: int) -> _Key:
    """Returns the file and the provider that are taken where nothing was kept before."""
    with tempfile.TemporaryDirectory() as folder:
        options = SessionOptions(providers=(FASTEST,), intra_op_threads=threads, cache_dir=folder)
        model = Pipeline.load(path, options).model
    return model.path, model.provider


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("fastest", __doc__, rounds=5, seconds=2.0, threads=0)
    parser.add_argument("--model", type=Path, required=True, help="a file of the network")
    options = parser.parse_args(argv)
    try:
        candidates = candidates_of(options.model, SessionOptions(providers=(FASTEST,)))
    except PerceptionError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"{machine()}, {f'{options.threads} threads' if options.threads else 'a thread a core'}", flush=True)
    rates = by_hand(candidates, options.threads, options.rounds, options.seconds)
    for (path, provider), rate in sorted(rates.items(), key=lambda item: -item[1]):
        print(f"  {path.name} on {provider}: {1000 / rate:.2f} ms by hand", flush=True)
    best = max(rates.values())
    ratios = [rates[choose(options.model, options.threads)] / best for _ in range(options.rounds)]
    report("providers", "rate of what is taken / of the best by hand", ratios, _TARGET)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

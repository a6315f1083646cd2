"""The time of a model file in a smaller precision for an image, over that of the float32 file.

    python -m benchmark.precision --model models/NAME.onnx --small models/NAME_int8.onnx

Each file has a process of its own, and they take turns; the ratio is taken pair by pair, because the speed of a shared
machine drifts.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.support.options import CPU, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import alternate
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, PerceptionError
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions


def _description(path: Path, provider: str) -> str:
    """Returns the size, the precision and the accuracy of a model file in one line."""
    model = OnnxModel(path, SessionOptions(providers=(provider,)))
    cost = model.spec.precision
    text = f"{path} ({path.stat().st_size / 1e6:.1f} MB): {model.spec.architecture}, {cost.precision}"
    if not cost.images:
        return text
    return f"{text}, {cost.metric} {cost.before:.4f} -> {cost.after:.4f} on {cost.images}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("precision", __doc__, rounds=15, seconds=1.0, threads=1, provider=CPU)
    parser.add_argument("--model", type=Path, required=True, help="the float32 file")
    parser.add_argument("--small", type=Path, required=True, help="the same network, exported with --int8 or --fp16")
    options = parser.parse_args(argv)
    try:
        lines = [_description(path, options.provider) for path in (options.model, options.small)]
    except PerceptionError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    threads = f"{options.threads} threads" if options.threads else "a thread a core"
    print("\n".join([f"{machine()}, {threads}, {options.provider}", *lines]), flush=True)
    models = [options.model, options.small]
    rounds = alternate(models, options.threads, options.provider, options.rounds, options.seconds)
    large, small = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(f"{large:.2f} ms -> {small:.2f} ms (medians)")
    report("precision", "small / float32", [small / large for large, small in rounds], Target(0.4))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

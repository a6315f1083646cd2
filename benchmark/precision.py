"""How long a smaller model file takes on one image, over what the float32 file takes on the same machine.

    python -m benchmark.precision --model models/NAME.onnx --small models/NAME_int8.onnx

Each file has a process of its own, and they take turns; the ratio is taken pair by pair, because the speed of a shared
machine drifts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.pairs import Target, machine, summary
from benchmark.processes import turns
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, PerceptionError
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions


def _description(path: Path, provider: str) -> str:
    model = OnnxModel(path, SessionOptions(providers=(provider,)))
    cost = model.spec.precision
    text = f"{path} ({path.stat().st_size / 1e6:.1f} MB): {model.spec.architecture}, {cost.precision}"
    return text + (f", {cost.metric} {cost.before:.4f} -> {cost.after:.4f} on {cost.images}" if cost.images else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.precision", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the float32 file")
    parser.add_argument("--small", type=Path, required=True, help="the same network, exported with --int8 or --fp16")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of measurements (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each measurement (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="intra-op; 0: one a core (default: %(default)s)")
    parser.add_argument("--provider", default="CPUExecutionProvider", help="of both (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        lines = [_description(path, options.provider) for path in (options.model, options.small)]
    except PerceptionError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    words = f"{options.threads} threads" if options.threads else "a thread a core"
    print("\n".join([f"{machine()}, {words}, {options.provider}", *lines]), flush=True)
    models = [options.model, options.small]
    rounds = turns(models, options.threads, options.provider, options.rounds, options.seconds)
    large, small = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(f"{large:.2f} ms -> {small:.2f} ms (medians)")
    print(f"small / float32: {summary([small / large for large, small in rounds], Target(0.4))}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

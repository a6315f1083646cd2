"""What the activation map and the embedding cost: the exported model's time for an image over the plain network's.

    python -m benchmark.outputs

The plain one is the same torchvision network by `torch.onnx.export`, with logits alone. Each file has a process of its
own, and they take turns; the ratio is taken pair by pair, because the speed of a shared machine drifts.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision import models  # type: ignore[import-untyped]

from benchmark.pairs import Target, machine, summary
from benchmark.processes import exported, turns
from cnn_perception.errors import EXIT_OK

_TARGET = Target(1.03)


def plain(folder: Path, backbone: str) -> Path:
    """Exports torchvision's network as it is."""
    path = folder / f"{backbone}_plain.onnx"
    torch.manual_seed(0)
    network, image = models.get_model(backbone).eval(), torch.zeros(2, 3, 224, 224)
    batch = {0: torch.export.Dim("batch")}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter's, about its own future
        torch.onnx.export(
            network,
            (image,),
            path,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=(batch,),
        )
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.outputs", description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", nargs="+", default=["resnet18", "resnet50"], help="torchvision names")
    parser.add_argument("--rounds", type=int, default=21, help="pairs of measurements (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each measurement (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="intra-op; 0: one a core (default: %(default)s)")
    parser.add_argument("--provider", default="CPUExecutionProvider", help="of both (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark"), help="folder (default: %(default)s)")
    options = parser.parse_args(argv)
    print(f"{machine()}, {options.provider}")
    for backbone in options.backbone:
        pair = [exported(options.output, backbone), plain(options.output, backbone)]
        rounds = turns(pair, options.threads, options.provider, options.rounds, options.seconds)
        own, bare = (statistics.median(times) for times in zip(*rounds, strict=True))
        print(f"{backbone}: {own:.2f} ms with activation map and embedding, {bare:.2f} ms with logits alone (medians)")
        print(f"  with / without: {summary([own / bare for own, bare in rounds], _TARGET)}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

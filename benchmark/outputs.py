"""The time of an exported model for an image, over that of the plain network without activation map and embedding.

    python -m benchmark.outputs

The plain one is the same torchvision network by `torch.onnx.export`, with logits alone. Each file has a process of its
own, and they take turns; the ratio is taken pair by pair, because the speed of a shared machine drifts.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision import models  # type: ignore[import-untyped]

from benchmark.support.options import CPU, OUTPUT, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import alternate, export_model
from cnn_perception.errors import EXIT_OK

_TARGET = Target(1.03)


def export_plain(folder: Path, backbone: str) -> Path:
    """Returns the ONNX file of torchvision's network as it is."""
    path = folder / f"{backbone}_plain.onnx"
    torch.manual_seed(0)
    network = models.get_model(backbone).eval()
    image = torch.zeros(2, 3, 224, 224)
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
    parser = option_parser("outputs", __doc__, rounds=21, seconds=1.0, threads=1, provider=CPU, output=OUTPUT)
    parser.add_argument("--backbone", nargs="+", default=["resnet18", "resnet50"], help="torchvision names")
    options = parser.parse_args(argv)
    print(f"{machine()}, {options.provider}")
    for backbone in options.backbone:
        pair = [export_model(options.output, backbone), export_plain(options.output, backbone)]
        rounds = alternate(pair, options.threads, options.provider, options.rounds, options.seconds)
        own, bare = (statistics.median(times) for times in zip(*rounds, strict=True))
        print(f"{backbone}: {own:.2f} ms with activation map and embedding, {bare:.2f} ms with logits alone (medians)")
        report(f"map and embedding of {backbone}", "with / without", [own / bare for own, bare in rounds], _TARGET)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

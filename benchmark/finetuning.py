"""The time of an epoch of training a whole network, over that of a plain torchvision script on the same images.

    python -m benchmark.finetuning --data DIR

Both train the same network from the same kind of random weights: time does not depend on these. The script is what
PyTorch's documentation shows: an ImageFolder, a DataLoader with a worker a core, RandomResizedCrop and a flip, SGD with
momentum. `training.train` does the same with its own loader, its average of the weights and its checks of every step,
and validates with one image a class, which counts. Counted are epochs from the second on: what is decoded once is there
by then.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]

from benchmark.support.options import at_least_one, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.transforms import TRAINING
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from demo.processes import child_environment, module_command
from training.networks import backbones

_TARGET = Target(0.9)
_BATCH = 32
_EPOCHS = 3


def divide(data: Path, folder: Path) -> None:
    """Makes folders `train` and `val` of links to the images of class folders, with one image a class in `val`."""
    images = ImageFolder(data)
    validated: set[int] = set()
    for path, label in images.samples:
        part = "train" if label in validated else "val"
        validated.add(label)
        link = folder / part / images.classes[label] / Path(path).name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(path).absolute())


def own_epoch_s(data: Path, backbone: str) -> float:
    """Returns the seconds of an epoch of `training.train`, the median of all but the first."""
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        settings = ["--backbone", backbone, "--weights", "none", "--mode", "scratch", "--epochs", _EPOCHS]
        settings += ["--batch-size", _BATCH, "--augment", "crop,flip", "--unknown", "none", "--baselines", "none"]
        command = module_command("training.train", "--data", data, *settings, "--output", run)
        done = subprocess.run(command, env=child_environment(), capture_output=True, text=True)
        if done.returncode != EXIT_OK:
            raise SystemExit(f"error: the training failed: {done.stderr}")
        with (run / "history.csv").open(newline="") as file:
            seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    return statistics.median(seconds[1:])


def plain_epoch_s(data: Path, backbone: str) -> float:
    """Returns the seconds of an epoch of the script, likewise, of the images in `train`."""
    images = ImageFolder(data / "train", TRAINING)
    loader = DataLoader(images, _BATCH, shuffle=True, num_workers=os.cpu_count() or 1, persistent_workers=True)
    model = backbones.build(backbone, len(images.classes)).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    seconds = []
    for _ in range(_EPOCHS):
        started = time.perf_counter()
        for batch, labels in loader:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(batch), labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    options = _options(argv)
    data: Path = options.data / "train" if (options.data / "train").is_dir() else options.data
    if not data.is_dir():
        print(f"error: {data}: there is no such folder; name one of class folders", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"{machine()}; {options.backbone}, {data}, batches of {_BATCH}")
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        divide(data, Path(name))
        for number in range(options.rounds):
            own_s, plain_s = own_epoch_s(Path(name), options.backbone), plain_epoch_s(Path(name), options.backbone)
            ratios.append(own_s / plain_s)
            print(f"  round {number + 1}: {own_s:.1f} s, the script {plain_s:.1f} s, {ratios[-1]:.3f}", flush=True)
    report(f"training {options.backbone}", "an epoch / of a plain torchvision script", ratios, _TARGET)
    return EXIT_OK


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = option_parser("finetuning", __doc__, backbone="resnet18")
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders, or of train/ and val/")
    parser.add_argument("--rounds", type=at_least_one, default=3, help="pairs of measurements (default: %(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

"""The time of training a linear probe on cached features, over that of PyTorch's transfer-learning tutorial.

    python -m benchmark.probe --data DIR --weights FILE --backbone resnet50_v1

The probe: `training.train --mode probe`, three times: features computed, then found again by the same run, then by
another run with another setting, which has the images' contents to go by. The tutorial's loop: the same
network and images, its backbone frozen and in evaluation mode, a new last layer trained for up to 10 epochs, each of
which runs all images through the network; SGD with momentum 0.9, rate 0.001 divided by 10 every 7 epochs, batches of 4,
RandomResizedCrop and a flip. It ends with the epoch in which it first reaches the probe's validation accuracy, less one
image. Both have all cores and take turns; what is counted is the time of training alone, without the start of the
program and the check of the images.

Source of the loop's settings: the PyTorch tutorial "Transfer Learning for Computer Vision", section "ConvNet as fixed
feature extractor".
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmark.support.options import at_least_one, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.transforms import EVALUATION, TRAINING
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from demo.processes import child_environment, module_command
from training.networks import backbones

_TARGETS = (Target(0.06), Target(0.5))
"""With the features cached, and with them computed first."""
_SECOND = Target(0.1)
"""Of a second run of another setting over the first one."""
_EPOCHS = 10
_BATCH = 4
_TRANSFORMS = {"train": TRAINING, "val": EVALUATION}


class SplitPart(Dataset[tuple[Tensor, int]]):
    """The images of one part of a run's split.csv."""

    def __init__(self, data: Path, rows: Sequence[dict[str, str]], part: str) -> None:
        names = sorted({row["class"] for row in rows})
        self.samples = [(data / row["path"], names.index(row["class"])) for row in rows if row["part"] == part]
        self.transform = _TRANSFORMS[part]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), label


def train_probe(arguments: Sequence[object], folder: Path) -> tuple[float, float]:
    """Returns the seconds of the training of a probe, and its validation accuracy."""
    command = module_command("training.train", *arguments, "--output", folder)
    environment = {**child_environment(), "CNN_PERCEPTION_CACHE": str(folder.parent / "features")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != EXIT_OK:
        raise SystemExit(f"error: the probe failed: {done.stderr}")
    left = json.loads((folder / "report.json").read_text())
    return float(left["seconds"]["training"]), float(left["val"]["top1"])


def train_tutorial(
    options: argparse.Namespace, rows: Sequence[dict[str, str]], wanted: float, seed: int
) -> tuple[float, float, int]:
    """Returns the seconds, the best validation accuracy and the epochs of the tutorial's training."""
    torch.manual_seed(seed)
    parts = {name: SplitPart(options.data, rows, name) for name in _TRANSFORMS}
    loaders = {name: DataLoader(parts[name], _BATCH, shuffle=True, num_workers=os.cpu_count() or 1) for name in parts}
    model = backbones.build(options.backbone, len({row["class"] for row in rows}))
    backbones.load_weights(model, options.backbone, options.weights)
    model.requires_grad_(False).eval()
    last = model.get_submodule(backbones.classifier_name(model)).requires_grad_(True)
    optimiser = torch.optim.SGD(last.parameters(), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=7, gamma=0.1)
    best = 0.0
    started = time.perf_counter()
    for epoch in range(1, _EPOCHS + 1):
        for images, labels in loaders["train"]:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
        with torch.inference_mode():
            right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in loaders["val"])
        accuracy = right / len(parts["val"])
        best = max(best, accuracy)
        seconds = time.perf_counter() - started
        print(f"  epoch {epoch}: {accuracy:.1%} after {seconds:.1f} s", flush=True)
        if right >= wanted * len(parts["val"]) - 1:
            break
    return seconds, best, epoch


@dataclass(frozen=True)
class Round:
    """The seconds of one probe's trainings, and of the loop.

    Attributes:
        first_s: With the features computed.
        cached_s: The same again, which has them.
        other_s: Of another setting, which finds them.
        loop_s: Of the tutorial's loop, to the same accuracy.
    """

    first_s: float
    cached_s: float
    other_s: float
    loop_s: float


def measure(options: argparse.Namespace, number: int) -> Round:
    """Trains the probe three times on features that nobody has yet, then as the tutorial does."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        settings = ["--mode", "probe", "--data", options.data, "--weights", options.weights]
        settings += ["--backbone", options.backbone]
        first_s, _ = train_probe(settings, run)
        other_s, _ = train_probe([*settings, "--weight-decay", 0.1], Path(folder) / "other")
        cached_s, accuracy = train_probe(["--resume"], run)
        with (run / "split.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    print(f"probe: {accuracy:.1%} in {first_s:.1f} s, of which {cached_s:.2f} s with the features cached", flush=True)
    loop_s, best, epochs = train_tutorial(options, rows, accuracy, number)
    print(f"loop: {best:.1%} at best, {loop_s:.1f} s in {epochs} epochs", flush=True)
    return Round(first_s, cached_s, other_s, loop_s)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("probe", __doc__)
    parser.add_argument("--rounds", type=at_least_one, default=3, help="of both (default: %(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders, or of train/ and val/")
    parser.add_argument("--weights", default="imagenet", help="as for training.train (default: %(default)s)")
    parser.add_argument("--backbone", default="resnet18", help="torchvision or own name (default: %(default)s)")
    options = parser.parse_args(argv)
    if not options.data.is_dir():
        print(f"error: {options.data}: there is no such folder; name one of class folders", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"{machine()}; {options.backbone}, {options.data}")
    rounds = [measure(options, number) for number in range(options.rounds)]
    report("probe", "another setting / the first", [one.other_s / one.first_s for one in rounds], _SECOND)
    over_loop = "loop, seconds to the same accuracy"
    cached, computed = _TARGETS
    report("probe", f"on cached features / {over_loop}", [one.cached_s / one.loop_s for one in rounds], cached)
    report("probe", f"with the features computed / {over_loop}", [one.first_s / one.loop_s for one in rounds], computed)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

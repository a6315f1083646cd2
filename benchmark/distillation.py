"""What a small network gains by a teacher, and by images that nobody labelled, on half-labelled data.

    python -m benchmark.distillation
    python -m benchmark.distillation --data DIR --weights FILE

The first takes scikit-learn's digits and a larger network as the teacher, which sees twice as many pixels a side; the
second any folder, whose part val is the test, and a probe of ResNet-50's features at 224 pixels. In each draw half of
the training images keep their labels. The teacher is trained on these alone; then the small network is trained from
random weights on them alone, on them with the teacher, and with the teacher on all images. All see as many images in
all. What is given is the share of right answers on test images that nothing was trained on, the mean of all draws, and
the gain over labels alone with its 95 % interval (Student's t over the draws, which share their images: it says how
much the draw matters, not how much other images would).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.support.options import option_parser
from benchmark.support.pairs import machine
from cnn_perception.commands import exit_code
from demo.digits import write_digits
from training.config import make
from training.data.load import DataOptions, list_images
from training.data.records import Listing, Sample
from training.distillation.unlabelled import Frame
from training.loop import probe, trainer
from training.loop.run import Run, open_run
from training.scoring.scores import evaluate

ARMS = ("labels alone", "labels and teacher", "labels, teacher and images without labels")
_T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26, 15: 2.14, 20: 2.09}
"""Quantile 0.975 of Student's t by the number of draws."""
_COMMON: dict[str, Any] = {
    "workers": 0, "device": "cpu", "select": "last", "mode": "scratch", "lr": 3e-3, "batch_size": 32,
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """Who learns from whom, and how.

    Attributes:
        teacher: Settings of the teacher's run.
        pupil: Settings of the small network's runs.
        epochs: Of the small network over all images; over the labelled half twice as many.
    """

    teacher: dict[str, Any]
    pupil: dict[str, Any]
    epochs: int


_CHANGES = {"augment": ("rotate", "translate", "scale"), "rotation_deg": 15.0, "scale_factor": 1.15}
DIGITS = Setting(
    teacher={
        **_COMMON,
        **_CHANGES,
        "backbone": "layers: conv 32 3x3 p1, relu, pool 2x2, conv 64 3x3, relu, pool 2x2, conv 64 3x3, relu, gap, fc",
        "translate_px": 3.0,
        "input_size": (32, 32),
        "epochs": 20,
    },
    pupil={
        **_COMMON,
        "augment": (),
        "backbone": "layers: conv 16 3x3 p1, relu, pool 2x2, conv 24 3x3, relu, gap, fc",
        "input_size": (16, 16),
    },
    epochs=30,
)


def photographs(weights: Path) -> Setting:
    """Returns the setting for photographs: what the teacher says is asked once, as nothing is augmented."""
    stack = "conv 24 5x5 s2 p2, bn, relu, conv 48 3x3 s2 p1, bn, relu, conv 96 3x3 s2 p1, bn, relu, gap, fc"
    return Setting(
        teacher={
            "workers": 0, "device": "cpu", "mode": "probe", "backbone": "resnet50_v1", "weights": str(weights),
        },
        pupil={**_COMMON, "augment": (), "backbone": f"layers: {stack}", "input_size": (96, 96), "batch_size": 16},
        epochs=30,
    )  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """One division of a data set: a table of the labelled half with the test part, and the other half."""

    table: Path
    frames: tuple[Frame, ...]


def draw(listing: Listing, seed: int, folder: Path) -> Draw:
    """Divides a data set: a third is the test unless it has one, and of the rest every second image keeps its label."""
    random = np.random.default_rng(seed)
    train = [sample for sample in listing.samples if sample.part == "train"]
    test = [sample for sample in listing.samples if sample.part != "train"]
    shuffled = [train[row] for row in random.permutation(len(train))]
    shuffled.sort(key=lambda sample: sample.label)
    if not test:
        test = shuffled[::3]
        shuffled = [sample for row, sample in enumerate(shuffled) if row % 3]
    table = folder / "labelled.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "class", "part"])
        rows.writerows(_row(sample, listing, "train" if row % 5 else "val") for row, sample in enumerate(shuffled[::2]))
        rows.writerows(_row(sample, listing, "test") for sample in test)
    return Draw(table, tuple(Frame(sample.path) for sample in shuffled[1::2]))


def _row(sample: Sample, listing: Listing, part: str) -> tuple[str, str, str]:
    return str(sample.path.absolute()), listing.class_names[sample.label], part


def trained(settings: dict[str, Any], found: Draw, folder: Path, seed: int, frames: Sequence[Frame] = ()) -> Run:
    """Trains on the labelled half, and on frames without labels; leaves the run in a folder."""
    config = make(data=str(found.table), output=str(folder), seed=seed, on_conflict="drop", **settings)
    run = open_run(config, frames)
    if config.mode == "probe":
        probe.fit(run)
    else:
        trainer.fit(run, None)
    return run


def _right(run: Run) -> float:
    return evaluate(run.model, run.batches_of(run.data.part("test")), run.data, run.device, "test").metric


def measure(listing: Listing, setting: Setting, seed: int) -> list[float]:
    """Returns the shares of right answers of the teacher and of each of `ARMS` in one draw."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(name)
        found = draw(listing, seed, folder)
        shares = [_right(trained(setting.teacher, found, folder / "teacher", seed))]
        taught: dict[str, Any] = {
            "teacher": str(folder / "teacher" / "best.pt"),
            "distil_weight": 0.7,
            "distil_temperature": 2.0,
        }
        twice: dict[str, Any] = {"epochs": 2 * setting.epochs}
        given: list[dict[str, Any]] = [
            twice,
            taught | twice,
            taught | {"epochs": setting.epochs, "unlabelled": str(folder)},
        ]
        for number, changes in enumerate(given):
            frames = found.frames if "unlabelled" in changes else ()
            shares.append(_right(trained(setting.pupil | changes, found, folder / str(number), seed, frames)))
    return shares


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Returns the mean of the draws and its 95 % interval by Student's t; without one of a single draw."""
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return mean, math.nan, math.nan
    known = max(count for count in _T_95 if count <= len(differences))
    half = _T_95[known] * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean, mean - half, mean + half


def report(rows: Sequence[Sequence[float]]) -> None:
    """Prints the mean of each, and what each gains over labels alone."""
    columns = list(zip(*rows, strict=True))
    for name, shares in zip(("teacher", *ARMS), columns, strict=True):
        line = f"  {name}: {statistics.fmean(shares):.1%}"
        if name in ARMS[1:]:
            gains = [100 * (own - alone) for own, alone in zip(shares, columns[1], strict=True)]
            mean, low, high = interval(gains)
            line += f", over labels alone {mean:+.1f} points (95 %: {low:+.1f} to {high:+.1f})"
        print(line, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("distillation", __doc__)
    parser.add_argument("--data", type=Path, help="image folder with a part val, the test; without it, the digits")
    parser.add_argument("--weights", type=Path, help="of ResNet-50 (v1), whose features the teacher of --data has")
    parser.add_argument("--draws", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--first-draw", type=int, default=0, help="seed of the first (default: %(default)s)")
    parser.add_argument(
        "--rows", type=Path, help="CSV file to which each draw is appended, and of all of which is told"
    )
    options = parser.parse_args(argv)
    if (options.data is None) != (options.weights is None):
        parser.error("--data and --weights belong together")
    return exit_code(lambda: _measure(options), "interrupted")


def _measure(options: argparse.Namespace) -> None:
    print(machine(), flush=True)
    torch.set_num_threads(1)
    rows: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        source = options.data or Path(folder) / "digits"
        if options.data is None:
            write_digits(source)
        setting = photographs(options.weights) if options.weights else DIGITS
        listing = list_images(source, DataOptions())
        for seed in range(options.first_draw, options.first_draw + options.draws):
            rows.append(measure(listing, setting, seed))
            print(f"  draw {seed}: {', '.join(f'{share:.1%}' for share in rows[-1])}", flush=True)
            if options.rows:
                with options.rows.open("a", newline="") as file:
                    csv.writer(file).writerow([f"{share:.6f}" for share in rows[-1]])
    if options.rows:
        with options.rows.open(newline="") as file:
            rows = [[float(cell) for cell in row] for row in csv.reader(file)]
    print(f"{source.name}: {len(listing.samples)} images, {len(rows)} draws")
    report(rows)


if __name__ == "__main__":
    sys.exit(main())

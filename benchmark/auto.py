"""How good the network that training.auto chose is, beside the best of runs made by hand, on the same images.

    python -m benchmark.auto --auto RUN --hand A/best.pt B/best.pt --data DIR

The images are those of a part that neither learned from. The best of the runs made by hand is taken by its figure on
these very images, which favours it. Nothing is trained; what RUN took is the last line that training.auto prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmark.support.options import option_parser
from benchmark.support.pairs import machine
from cnn_perception.commands import exit_code
from cnn_perception.errors import ConfigError, DataError
from cnn_perception.intervals import paired, paired_mean
from training import checkpoint
from training.baselines.comparison import qualities
from training.baselines.rows import Cost, Row
from training.batches.loader import Images, Order, data_loader
from training.calibration import embeddings
from training.data.load import DataOptions, load_images
from training.data.records import LabelledImages, Part
from training.networks import build
from training.tasks.by_name import task_of


@dataclass(frozen=True, eq=False)
class Answered:
    """A checkpoint and how well it answered each image, by its path."""

    row: Row
    by_path: dict[str, float]


def answered(path: Path, data: LabelledImages, part: Part) -> Answered:
    """Returns the answers of a checkpoint to the images of a part.

    Raises:
        DataError: If it has learned from one of them, or knows other classes.
    """
    saved = checkpoint.load(path)
    if saved.class_names != data.class_names:
        raise DataError(f"{path}: its classes are not those of {data.where}; name the data that it was trained on")
    samples = data.part(part)
    if {str(sample.path.absolute()) for sample in samples} & {*saved.train_images}:
        raise DataError(f"{path}: has learned from images of the {part} part; give it the same division")
    model = build.restore(saved).to(memory_format=torch.channels_last)
    loader = data_loader(Images(samples, saved.input), Order(len(samples), 32, None), 0, pin_memory=False)
    found = embeddings.predict(model, loader, torch.device("cpu"), path.parent.name)
    row = Row(str(path), True, "", None, Cost(None, 0.0, 0), found.samples, found.logits, data)
    return Answered(row, qualities(row))


def in_words(ours: Answered, theirs: Answered) -> str:
    """Returns whether ours is worse than theirs, in one line."""
    common = [path for path in ours.by_path if path in theirs.by_path]
    one, other = (np.array([each.by_path[path] for path in common]) for each in (ours, theirs))
    if task_of(ours.row.data.task).one_class:
        difference = paired(one > 0.5, other > 0.5).difference
    else:
        difference = paired_mean(one - other)
    verdict = "not worse within the interval: reached" if difference.high >= 0 else "worse: MISSED"
    return f"difference {difference.value:+.4f} (95 %: {difference.low:+.4f} to {difference.high:+.4f}), {verdict}"


def main(argv: Sequence[str] | None = None) -> int:
    """Compares and prints; returns the exit code."""
    parser = option_parser("auto", __doc__)
    parser.add_argument("--auto", type=Path, required=True, help="--output of training.auto")
    parser.add_argument("--hand", type=Path, nargs="+", required=True, help="best.pt of runs on the same division")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="as both were trained on")
    parser.add_argument("--part", choices=("val", "test"), default="val", help="of the images (default: %(default)s)")
    options = parser.parse_args(argv)
    return exit_code(lambda: _compare(options), "interrupted")


def _compare(options: argparse.Namespace) -> None:
    best = options.auto / "final" / "best.pt"
    if not best.is_file():
        raise ConfigError(f"--auto {options.auto}: has no final/best.pt; name the --output of training.auto")
    print(machine(), flush=True)
    saved = checkpoint.load(best)
    data = load_images(options.data, DataOptions.again(saved.config, saved.class_names))
    ours = answered(best, data, options.part)
    others = [answered(path, data, options.part) for path in options.hand]
    metric = task_of(data.task).metric_title
    for one in (ours, *others):
        score = one.row.score
        print(f"{one.row.name}: {metric} {score.value:.4f} ({score.low:.4f} to {score.high:.4f})")
    print(in_words(ours, max(others, key=lambda one: one.row.score.value)))


if __name__ == "__main__":
    sys.exit(main())

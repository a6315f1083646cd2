"""Reference images for a model file: which ones, and their embeddings by the exported graph itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError, DataError
from cnn_perception.model.gallery import Gallery
from cnn_perception.model.spec import InputSpec
from training.checkpoint import Checkpoint
from training.data.image_folder import every_image
from training.graphs.parity import evenly, prepared_image, runner
from training.tasks.by_name import task_of

PER_CLASS = 10
MOST_IMAGES = 10_000
"""A frame is compared with all of them: 10,000 of 2048 numbers are 80 MB, and some 15 ms a frame."""


@dataclass(frozen=True)
class Reference:
    """An image of a gallery.

    Attributes:
        name: What travels in the model file: its path below the folder of all images.
        path: Where it lies on this machine.
    """

    name: str
    path: Path


def of_training(checkpoint: Checkpoint, per_class: int) -> tuple[Reference, ...]:
    """Returns training images of every class, evenly from its list, so that a recording's like frames lie far apart.

    Args:
        checkpoint: Names the images and what they show.
        per_class: How many of a class at most, at least 1. An image of several classes counts for each; without
            classes, for regression or in a checkpoint without training labels, all images are one.

    Raises:
        ConfigError: If `per_class` is out of range.
        DataError: If none is on this machine, or there are too many.
    """
    if per_class < 1:
        raise ConfigError(f"--gallery {per_class}: at least 1 image of a class is needed")
    paths, labels = _still_there(checkpoint)
    chosen: set[int] = set()
    for rows in _rows_of_classes(checkpoint, labels).values():
        chosen.update(rows[place] for place in evenly(len(rows), per_class))
    root = Path(os.path.commonpath([path.parent for path in paths]))
    return _named(root, (paths[row] for row in sorted(chosen)))


def _still_there(checkpoint: Checkpoint) -> tuple[list[Path], list[Sequence[float]]]:
    """Returns the training images that are on this machine, and what each shows, nothing if the checkpoint forgot."""
    paths: list[Path] = []
    labels: list[Sequence[float]] = []
    kept = checkpoint.train_targets or ((),) * len(checkpoint.train_images)
    for path, label in zip(map(Path, checkpoint.train_images), kept, strict=True):
        if path.is_file():
            paths.append(path)
            labels.append(label)
    if not paths:
        raise DataError(
            "--gallery: no training image of the checkpoint is where it was; say with --data where they are now, or "
            "name a folder with --gallery-images"
        )
    return paths, labels


def _rows_of_classes(checkpoint: Checkpoint, labels: Sequence[Sequence[float]]) -> dict[int, list[int]]:
    """Returns the rows of each class among the labels."""
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        for index in task_of(checkpoint.task).groups(label):
            rows.setdefault(index, []).append(row)
    return rows


def of_folder(folder: Path) -> tuple[Reference, ...]:
    """Returns all images below a folder.

    Raises:
        DataError: If there are none, or too many.
    """
    files = every_image(folder)
    if not files:
        raise DataError(f"--gallery-images {folder}: holds no image; name a folder of reference images")
    return _named(folder, files)


def embed(proto: ModelProto, references: Sequence[Reference], size: InputSpec) -> Gallery:
    """Returns the gallery of some images, prepared and embedded as the robot does.

    Args:
        proto: The graph that is exported, with the output `embedding` (N, D).
        references: At least one image.
        size: The preprocessing.

    Raises:
        DataError: If an image cannot be read, or its embedding has no direction.
    """
    run = runner(proto, ["embedding"])
    rows = []
    for reference in ProgressBar(references, "gallery", unit="img", leave=False):
        (found,) = run(prepared_image(reference.path, size, "reference")[np.newaxis])
        exact = found[0].astype(np.float64)
        length = float(np.linalg.norm(exact))
        if not 0 < length < np.inf:  # catches NaN, too
            raise DataError(f"{reference.path}: its embedding has the length {length:g}; leave it out of the gallery")
        rows.append((exact / length).astype(np.float32))
    return Gallery(tuple(reference.name for reference in references), np.stack(rows))


def _named(root: Path, files: Iterable[Path]) -> tuple[Reference, ...]:
    """Names files by their place below a folder: where that lies is nobody's business on the robot."""
    found = tuple(Reference(_as_text(path.relative_to(root)), path) for path in files)
    if len(found) > MOST_IMAGES:
        raise DataError(f"a gallery of {len(found)} images is too large; {MOST_IMAGES} are the most")
    return found


def _as_text(path: Path) -> str:
    """Returns valid Unicode: a name of a file may be any bytes, JSON has to be text."""
    return os.fsencode(path).decode("utf-8", "replace")

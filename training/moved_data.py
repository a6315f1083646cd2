"""A checkpoint whose images lie elsewhere than when it was trained: the same ones, proven by their digest."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnn_perception.errors import ConfigError, DataError
from training import config
from training.checkpoint import Checkpoint
from training.data import sources
from training.data.load import DataOptions, load_images
from training.data.records import LabelledImages, in_words


def at(checkpoint: Checkpoint, data: Sequence[Path]) -> Checkpoint:
    """Returns a checkpoint with its images at their present place.

    Args:
        checkpoint: Of a training run.
        data: The folders and tables that it was trained on, in their order, where they lie now; all their images are
            read.

    Raises:
        ConfigError: If the checkpoint does not know what it was trained on, or that was of another kind.
        DataError: If the images there are not those; says what differs.
    """
    old = tuple(map(Path, config.sources_of(checkpoint.config)))
    if not old:
        raise ConfigError("--data: the checkpoint was not trained on images; leave it out")
    if len(old) != len(data):
        raise ConfigError(f"--data: {len(data)} given; name where each of {in_words(old)} is now, in this order")
    for before, now in zip(old, data, strict=True):
        _require_same_kind(before, now)
    moves = [(sources.base(before), sources.base(now)) for before, now in zip(old, data, strict=True)]
    train, val = (_moved(paths, moves) for paths in (checkpoint.train_images, checkpoint.val_images))
    _require_all((*train, *val), data, old)
    moved = dataclasses.replace(checkpoint, train_images=train, val_images=val)
    _require_same(moved, load_images(data, DataOptions.again(checkpoint.config, checkpoint.class_names)), data)
    return moved


def _require_same_kind(old: Path, data: Path) -> None:
    if not data.exists():
        raise DataError(f"{data}: no such folder or file; --data names where {old} is now")
    kind = "CSV file" if sources.is_table(old) else "folder"
    if (kind == "CSV file") == data.is_dir():
        raise ConfigError(f"--data {data}: is no {kind}, as {old} was; name the {kind} where it is now")


def _moved(paths: Sequence[str], moves: Sequence[tuple[Path, Path]]) -> tuple[str, ...]:
    """Returns where images are now; those that lie outside of all that was moved stay where they are."""
    return tuple(_moved_image(path, moves) for path in paths)


def _moved_image(path: str, moves: Sequence[tuple[Path, Path]]) -> str:
    """The first file that there is, inside of what was moved or beside it; else where it would have to be."""
    places = [(os.path.relpath(path, old), new) for old, new in moves]
    inside = [os.path.normpath(new / name) for name, new in places if not name.startswith(os.pardir)]
    beside = [os.path.normpath(new / name) for name, new in places if name.startswith(os.pardir)]
    there = [place for place in (*inside, *beside) if Path(place).is_file()]
    return [*there, *inside, path][0]


def _require_all(paths: Sequence[str], data: Sequence[Path], old: Sequence[Path]) -> None:
    if missing := [path for path in paths if not Path(path).is_file()]:
        raise DataError(
            f"{in_words(data)}: lacks {len(missing)} of the {len(paths)} images that the checkpoint was trained and "
            f"validated on, first {missing[0]}; name what {in_words(old)} has become"
        )


def _require_same(moved: Checkpoint, found: LabelledImages, data: Sequence[Path]) -> None:
    """Raises DataError if images, labels or contents are not those of the training."""
    if found.sha256 == moved.training["data_sha256"]:
        return
    known = _labels(moved)
    used = [sample for sample in found.samples if sample.part != "test"]
    labels = {str(sample.path.absolute()): sample.values or (sample.label,) for sample in used}
    added = [path for path in labels if path not in known]
    relabelled = [path for path, label in labels.items() if known.get(path, ()) not in ((), tuple(label))]
    problems = [
        f"{len(paths)} {what} (first {paths[0]})"
        for paths, what in ((added, "images are new or of another part"), (relabelled, "have another label"))
        if paths
    ]
    told = "; ".join(problems) or "the contents of files differ, or images of the test part"
    raise DataError(f"{in_words(data)}: is not what the checkpoint was trained on: {told}; restore it, or train again")


def _labels(moved: Checkpoint) -> Mapping[str, tuple[float, ...]]:
    """Returns what each image of a checkpoint shows; nothing for those of which it was not kept."""
    of_val = dict.fromkeys(moved.val_images, ()) | dict(zip(moved.val_images, moved.val_targets, strict=False))
    of_train = dict.fromkeys(moved.train_images, ()) | dict(zip(moved.train_images, moved.train_targets, strict=False))
    return of_train | of_val

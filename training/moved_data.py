"""A checkpoint whose images lie elsewhere than when it was trained: the same ones, proven by their digest."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnn_perception.errors import ConfigError, DataError
from training.checkpoint import Checkpoint
from training.data.load import DataOptions, load_images
from training.data.records import LabelledImages


def at(checkpoint: Checkpoint, data: Path) -> Checkpoint:
    """Returns a checkpoint with its images at their present place.

    Args:
        checkpoint: Of a training run.
        data: The folder or the CSV file that it was trained on, where it lies now; all its images are read.

    Raises:
        ConfigError: If the checkpoint does not know what it was trained on, or that was of another kind.
        DataError: If the images there are not those; says what differs.
    """
    old = checkpoint.config.get("data")
    if not old:
        raise ConfigError("--data: the checkpoint was not trained on images; leave it out")
    was_table = Path(old).suffix.lower() == ".csv"
    if not data.exists():
        raise DataError(f"{data}: no such folder or file; --data names where {old} is now")
    if was_table == data.is_dir():
        kind = "CSV file" if was_table else "folder"
        raise ConfigError(f"--data {data}: is no {kind}, as {old} was; name the {kind} where it is now")
    bases = (Path(old).absolute(), data.absolute())
    here = bases if data.is_dir() else (bases[0].parent, bases[1].parent)
    train, val = (_moved(paths, *here) for paths in (checkpoint.train_images, checkpoint.val_images))
    _require_all((*train, *val), data, old)
    moved = dataclasses.replace(checkpoint, train_images=train, val_images=val)
    _require_same(moved, load_images(data, DataOptions.again(checkpoint.config, checkpoint.class_names)), data)
    return moved


def _moved(paths: Sequence[str], old: Path, new: Path) -> tuple[str, ...]:
    """Returns where images are now; those that lie outside of what was moved stay where they are."""
    found = []
    for path in paths:
        relative = os.path.relpath(path, old)
        here = os.path.normpath(new / relative)
        stays = relative.startswith(os.pardir) and not Path(here).is_file()
        found.append(path if stays else here)
    return tuple(found)


def _require_all(paths: Sequence[str], data: Path, old: str) -> None:
    if missing := [path for path in paths if not Path(path).is_file()]:
        raise DataError(
            f"{data}: lacks {len(missing)} of the {len(paths)} images that the checkpoint was trained and validated "
            f"on, first {missing[0]}; name what {old} has become"
        )


def _require_same(moved: Checkpoint, found: LabelledImages, data: Path) -> None:
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
    raise DataError(f"{data}: is not what the checkpoint was trained on: {told}; restore it, or train again")


def _labels(moved: Checkpoint) -> Mapping[str, tuple[float, ...]]:
    """Returns what each image of a checkpoint shows; nothing for those of which it was not kept."""
    of_val = dict.fromkeys(moved.val_images, ()) | dict(zip(moved.val_images, moved.val_targets, strict=False))
    of_train = dict.fromkeys(moved.train_images, ()) | dict(zip(moved.train_images, moved.train_targets, strict=False))
    return of_train | of_val

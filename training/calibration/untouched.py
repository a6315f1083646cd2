"""Labelled images that none of several networks was trained on: what can be fitted to their common answer, and on what.

A network is surer of its own training images than of any other: a temperature or a rule that was fitted to an image
which one of several was trained on promises what the robot will not see.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cnn_perception.errors import ConfigError
from training import learned
from training.checkpoint import Checkpoint
from training.data.load import DataOptions, list_images
from training.data.records import Sample, in_words
from training.tasks.by_name import task_of
from training.tasks.scaling import Scaling, in_units, standardised


def of_members(members: Sequence[Checkpoint]) -> tuple[Sample, ...]:
    """Returns the validation images of the members that are on this machine and that no member was trained on.

    What only a teacher labelled is left out.

    Args:
        members: Of one task and the same classes; their numbers are standardised as the first one's.
    """
    found: dict[str, Sample] = {}
    for member in (one for one in members if not one.labelled_by):
        for path, target in zip(member.val_images, member.val_targets, strict=False):
            if Path(path).is_file():
                found.setdefault(str(Path(path).resolve()), _sample(path, target, member, members[0].scaling))
    return _untouched(found.values(), members)


def of_data(sources: Sequence[Path], members: Sequence[Checkpoint]) -> tuple[Sample, ...]:
    """Returns the labelled images of folders and tables that no member was trained on, but for those of a test part.

    Raises:
        ConfigError: If there is none, or their classes are not those of the members.
        DataError: If the folders or tables cannot be read.
    """
    first = members[0]
    options = DataOptions.again(first.config, first.class_names)
    listing = list_images(sources, dataclasses.replace(options, folds=None, fold=None))
    if listing.class_names != first.class_names or listing.task != first.task:
        different = ", ".join(map(repr, sorted({*listing.class_names} ^ {*first.class_names}))) or "their order"
        raise ConfigError(
            f"--calibrate-on {in_words(sources)}: its classes are not those of the networks ({different})"
        )
    labelled = [sample for sample in listing.samples if sample.part != "test" and not listing.is_outside(sample)]
    kept = _untouched([_standardised(sample, first.scaling) for sample in labelled], members)
    if not kept:
        raise ConfigError(
            f"--calibrate-on {in_words(sources)}: every image of it was trained on by one of the networks; name others"
        )
    return kept


def trained_on(members: Sequence[Checkpoint]) -> tuple[Sample, ...]:
    """Returns every image that a member was trained on, once, with what it shows; none where that was not kept."""
    found: dict[str, Sample] = {}
    for member in members:
        for path, target in zip(member.train_images, member.train_targets, strict=False):
            found.setdefault(str(Path(path).resolve()), _sample(path, target, member, members[0].scaling))
    return tuple(dataclasses.replace(sample, part="train") for sample in found.values())


def _sample(path: str, target: Sequence[float], member: Checkpoint, scaling: Scaling) -> Sample:
    if task_of(member.task).one_class:
        return Sample(Path(path), int(target[0]), "val")
    numbers = in_units(np.array([target], np.float64), member.scaling)
    (values,) = standardised(numbers, scaling).tolist()
    return Sample(Path(path), 0, "val", tuple(values))


def _standardised(sample: Sample, scaling: Scaling) -> Sample:
    if not scaling:
        return sample
    (values,) = standardised(np.array([sample.values], np.float64), scaling).tolist()
    return dataclasses.replace(sample, values=tuple(values))


def _untouched(samples: Iterable[Sample], members: Sequence[Checkpoint]) -> tuple[Sample, ...]:
    """Leaves out what a member was trained on, be it a copy that lies elsewhere."""
    read = learned.with_pixels([*samples])
    trained = np.any([learned.among(member, read) for member in members], axis=0)
    return tuple(sample for sample, was_trained_on in zip(read, trained, strict=True) if not was_trained_on)

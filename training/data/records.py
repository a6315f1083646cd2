"""The records of a data set: images, what they show, what each is used for, and what was noticed about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cnn_perception.errors import DataError
from cnn_perception.model.spec import Task
from training.tasks import scaling
from training.tasks.by_name import task_of

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
Action = Literal["left out", "dropped", "warning", "error"]
"""What becomes of an image: left out because it cannot be used, dropped because the user wants it, or neither."""


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        path: Where it lies.
        label: Index of its class, for multiclass; of its first class or 0 otherwise.
        part: What it is used for.
        values: For multilabel, 1 or 0 for each class; for regression, each number standardised by
            `LabelledImages.scaling`; empty for multiclass.
        group: What it was recorded with; images of one group are all in one part. Empty for a group of its own.
    """

    path: Path
    label: int
    part: Part
    values: tuple[float, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class ImageFinding:
    """Something about one image that its owner should know, and what was done about it.

    Attributes:
        path: The image.
        reason: What was found.
        action: What was done.
        other: The image that it is a copy of, if it is one.
    """

    path: Path
    reason: str
    action: Action
    other: Path | None = None


class RefusedDataError(DataError):
    """A data set that cannot be used as it is, with what was found in it."""

    def __init__(self, why: str, findings: Sequence[ImageFinding]) -> None:
        super().__init__(why)
        self.findings = tuple(findings)


@dataclass(frozen=True)
class Listing:
    """The images that a folder or a CSV file names, before any is opened.

    Attributes:
        source: The folder or file as it was given.
        task: What is to be learned.
        class_names: Of the classes, or of the numbers.
        units: Of each number, for regression; empty otherwise.
        samples: Every image once; numbers are not yet standardised.
        given: Parts that the source assigns; `train` alone where it leaves the division to us.
        in_time: Whether the order of the samples is that of their recording, as the rows of a CSV file are.
        ignored: How many files were passed over, by the reason.
        notes: What its owner should know of it, a line each.
        left_out: Images that are there and have no label.
    """

    source: Path
    task: Task
    class_names: tuple[str, ...]
    units: tuple[str, ...]
    samples: tuple[Sample, ...]
    given: frozenset[Part]
    in_time: bool
    ignored: dict[str, int]
    notes: tuple[str, ...] = ()
    left_out: tuple[ImageFinding, ...] = ()

    def words(self, sample: Sample) -> str:
        """Returns what a sample is labelled as."""
        return task_of(self.task).words(sample, self.class_names)

    def keep(self, samples: tuple[Sample, ...]) -> Listing:
        """Returns the same with other samples."""
        return dataclasses.replace(self, samples=samples)

    def renamed(self, names: tuple[str, ...], places: Sequence[int]) -> Listing:
        """Returns the same with other names of the classes.

        Args:
            names: The new ones, in their new order.
            places: The new index of each class, in the old order.
        """
        samples = [_moved(sample, places) for sample in self.samples]
        if not self.in_time:
            samples.sort(key=lambda sample: (sample.label, sample.path))
        return dataclasses.replace(self, class_names=names, samples=tuple(samples))


def _moved(sample: Sample, places: Sequence[int]) -> Sample:
    """Returns a sample with each class at another index."""
    if not sample.values:
        return dataclasses.replace(sample, label=places[sample.label])
    values = tuple(sample.values[places.index(new)] for new in range(len(places)))
    return dataclasses.replace(sample, label=next((k for k, value in enumerate(values) if value), 0), values=values)


@dataclass(frozen=True)
class LabelledImages:
    """A checked and split data set.

    Attributes:
        root: Its folder, or its CSV file.
        task: What is to be learned.
        class_names: Names of the class folders, sorted; or those of the columns of numbers.
        units: Of each number, for regression; empty otherwise.
        scaling: (mean, standard deviation) of each number over the training images, for regression; empty otherwise.
        samples: Every usable image once, in the order of class and path, or of the rows.
        sha256: Digest of file names, labels and contents, as hexadecimal.
        rejected: Images that cannot be used.
        ignored: How many files were passed over, by the reason.
        warnings: What its owner should know, a line each.
        findings: What was noticed about single images.
    """

    root: Path
    task: Task
    class_names: tuple[str, ...]
    units: tuple[str, ...]
    scaling: tuple[tuple[float, float], ...]
    samples: tuple[Sample, ...]
    sha256: str
    rejected: tuple[ImageFinding, ...]
    ignored: dict[str, int]
    warnings: tuple[str, ...] = ()
    findings: tuple[ImageFinding, ...] = ()

    def part(self, part: Part) -> tuple[Sample, ...]:
        """Returns the samples of one part."""
        return tuple(sample for sample in self.samples if sample.part == part)

    def in_units(self, sample: Sample) -> Sample:
        """Returns a sample with its numbers in their units; one of another task as it is."""
        if not self.scaling:
            return sample
        (values,) = scaling.in_units(np.array([sample.values]), self.scaling)
        return dataclasses.replace(sample, values=tuple(values.tolist()))

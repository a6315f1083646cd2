"""The records of a data set: images, what they show, what each is used for, and what was noticed about them."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from cnn_perception.errors import DataError
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.model.spec import Task
from training.tasks import scaling
from training.tasks.by_name import task_of

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
UNLABELLED = -1
"""The label of an image that nobody labelled; where images have values, each of them is NaN instead."""
Action = Literal["left out", "dropped", "warning", "error"]
"""What becomes of an image: left out because it cannot be used, dropped because the user wants it, or neither."""


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        path: Where it lies.
        label: Index of its class, for multiclass, or their number for an image of none of them; of its first class or
            0 otherwise.
        part: What it is used for.
        values: For multilabel, 1 or 0 for each class; for regression, each number standardised by
            `LabelledImages.scaling`; empty for multiclass.
        group: What it was recorded with; images of one group are all in one part. Empty for a group of its own.
        source: Number of the folder or table that names it, in the order of `Listing.sources`.
        pixels: The first 64 bits of the digest of its size and pixels, `data.scan.short`; None before it was read.
    """

    path: Path
    label: int
    part: Part
    values: tuple[float, ...] = ()
    group: str = ""
    source: int = 0
    pixels: int | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Source:
    """A folder or a table of labelled images, one of those that make up a data set.

    Attributes:
        path: As it was given.
        given: Parts that it assigns; `train` alone where it leaves the division to us.
        base: The folder that the names of its images are relative to; None for `path` itself.
        has_parts: Whether it says of its images which part they are of, be it one part for all.
        rows: How many images it names.
        unlabelled: How many of them nobody has labelled yet.
        none_of_these: How many show none of the classes.
        is_open: Whether its images name their classes, so that others may add some; not of a column for each class.
    """

    path: Path
    given: frozenset[Part]
    base: Path | None = None
    has_parts: bool = False
    rows: int = 0
    unlabelled: int = 0
    none_of_these: int = 0
    is_open: bool = True

    @property
    def decides(self) -> bool:
        """Whether it says which images are held out."""
        return self.given != {"train"}

    def as_json(self) -> dict[str, object]:
        """Returns what report.json says of it."""
        counts = {"rows": self.rows, "unlabelled": self.unlabelled, "none_of_these": self.none_of_these}
        return {"path": str(self.path), **counts, "parts": [part for part in PARTS if part in self.given]}

    def in_words(self) -> str:
        """Returns what there is in it, for people; empty where that is nothing but labelled images."""
        told = []
        if self.unlabelled:
            told.append(f"{self.unlabelled} of {self.rows} rows have no label yet: left out")
        if self.none_of_these:
            told.append(f"{self.none_of_these} rows are {NONE_OF_THESE!r}: images of no class, not trained on")
        return "; ".join(told)


def label_names(task: Task, class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns what labels mean: the classes, and after them where an image has one class `NONE_OF_THESE`."""
    return (*class_names, NONE_OF_THESE) if task_of(task).one_class else class_names


def in_words(paths: Sequence[Path]) -> str:
    """Returns the names of folders and tables, for people."""
    texts = [str(path) for path in paths]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


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
    """The images that folders and tables name, before any is opened.

    Attributes:
        sources: The folders and tables, in the order in which they were given.
        task: What is to be learned.
        class_names: Of the classes, or of the numbers.
        units: Of each number, for regression; empty otherwise.
        samples: Every image once; numbers are not yet standardised.
        in_time: Whether the order of the samples is that of their recording, as the rows of a CSV file are.
        ignored: How many files were passed over, by the reason.
        notes: What its owner should know of it, a line each.
        left_out: Images that are there and have no label.
    """

    sources: tuple[Source, ...]
    task: Task
    class_names: tuple[str, ...]
    units: tuple[str, ...]
    samples: tuple[Sample, ...]
    in_time: bool
    ignored: dict[str, int]
    notes: tuple[str, ...] = ()
    left_out: tuple[ImageFinding, ...] = ()

    @property
    def source(self) -> Path:
        """The first of the sources, by which what concerns all images is found."""
        return self.sources[0].path

    @property
    def where(self) -> str:
        """The sources, as errors name them."""
        return in_words([source.path for source in self.sources])

    @property
    def given(self) -> frozenset[Part]:
        """Parts that every source assigns."""
        return frozenset[Part].intersection(*(source.given for source in self.sources))

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the labels mean: the classes, and after them where an image has one class `NONE_OF_THESE`."""
        return label_names(self.task, self.class_names)

    def is_outside(self, sample: Sample) -> bool:
        """Whether an image shows none of the classes, and so is not learned from."""
        return task_of(self.task).one_class and sample.label == len(self.class_names)

    def gives(self, sample: Sample, part: Part) -> bool:
        """Whether the source of an image says itself which images are of a part."""
        return part in self.sources[sample.source].given

    def decides(self, sample: Sample) -> bool:
        """Whether the source of an image says which are held out."""
        return self.sources[sample.source].decides

    def expected(self) -> tuple[frozenset[Part], ...]:
        """Returns of each class the parts that should have images of it: those that all its sources assign."""
        found: dict[int, set[int]] = {}
        for sample in self.samples:
            found.setdefault(sample.label, set()).add(sample.source)
        everywhere = range(len(self.sources))
        return tuple(
            frozenset[Part].intersection(*(self.sources[k].given for k in found.get(label, everywhere)))
            for label in range(len(self.class_names))
        )

    def words(self, sample: Sample) -> str:
        """Returns what a sample is labelled as."""
        return task_of(self.task).words(sample, self.label_names)

    def keep(self, samples: tuple[Sample, ...]) -> Listing:
        """Returns the same with other samples."""
        return dataclasses.replace(self, samples=samples)

    def renamed(self, names: tuple[str, ...], places: Sequence[int]) -> Listing:
        """Returns the same with other names of the classes.

        Args:
            names: The new ones, in their new order.
            places: The new index of each class, in the old order.
        """
        to = (*places, len(names))  # an image of none of the old classes shows none of the new ones
        samples = [_moved(sample, to) for sample in self.samples]
        if not self.in_time:
            samples.sort(key=lambda sample: (sample.label, sample.path))
        return dataclasses.replace(self, class_names=names, samples=tuple(samples))


def _moved(sample: Sample, places: Sequence[int]) -> Sample:
    """Returns a sample with each class at another index."""
    if not sample.values:
        return dataclasses.replace(sample, label=places[sample.label])
    values = tuple(sample.values[places.index(new)] if new in places else 0.0 for new in range(places[-1]))
    return dataclasses.replace(sample, label=next((k for k, value in enumerate(values) if value), 0), values=values)


@dataclass(frozen=True)
class LabelledImages:
    """A checked and split data set.

    Attributes:
        root: Its folder, or its CSV file; of several the first.
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
        sources: The folders and tables that it is made of.
        outside: Images that a table says to show none of the classes, with their parts; not among `samples`.
        unlabelled: Images that are trained on by what teachers say of them; their label is `UNLABELLED`.
        unlabelled_sha256: Digest of their contents, as hexadecimal.
        labelled_by: The teachers whose answers are the labels of all `samples`; empty where people labelled them.
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
    sources: tuple[Source, ...] = ()
    outside: tuple[Sample, ...] = ()
    unlabelled: tuple[Sample, ...] = ()
    unlabelled_sha256: str = ""
    labelled_by: str = ""

    def figure(self, name: str) -> str:
        """Returns what a figure on the images held out is called: where teachers labelled them, it is agreement."""
        if not self.labelled_by:
            return name
        return f"agreement_{re.sub('^val[_ ]', '', name)}"

    @property
    def lessons(self) -> tuple[Sample, ...]:
        """What is trained on: the training images, and after them those without a label."""
        return (*self.part("train"), *self.unlabelled)

    @property
    def where(self) -> str:
        """Its folders and tables, as errors name them."""
        return in_words([source.path for source in self.sources]) if len(self.sources) > 1 else str(self.root)

    @property
    def name(self) -> str:
        """The name of its folder or table, joined by `+` where there are several."""
        return "+".join(source.path.name for source in self.sources) if len(self.sources) > 1 else self.root.name

    def part(self, part: Part) -> tuple[Sample, ...]:
        """Returns the samples of one part."""
        return tuple(sample for sample in self.samples if sample.part == part)

    def outside_of(self, part: Part) -> tuple[Sample, ...]:
        """Returns the images of none of the classes of one part."""
        return tuple(sample for sample in self.outside if sample.part == part)

    def in_units(self, sample: Sample) -> Sample:
        """Returns a sample with its numbers in their units; one of another task as it is."""
        if not self.scaling:
            return sample
        (values,) = scaling.in_units(np.array([sample.values]), self.scaling)
        return dataclasses.replace(sample, values=tuple(values.tolist()))

    def of_sources(self) -> list[str]:
        """Says of each folder and table what there is in it, a line each; of one alone what is not learned from."""
        if len(self.sources) == 1:
            return [words for source in self.sources if (words := source.in_words())]
        return [f"{source.path}: {self._of_source(number)}" for number, source in enumerate(self.sources)]

    def _of_source(self, number: int) -> str:
        source = self.sources[number]
        counts = Counter(sample.part for sample in self.samples if sample.source == number)
        parts = ", ".join(f"{counts[part]} {part}" for part in PARTS if counts[part])
        how = "parts as it says" if source.decides else "divided here"
        told = f"{counts.total()} images{f' ({parts}, {how})' * bool(parts)}"
        return "; ".join(filter(None, [told, source.in_words()]))

"""The confusion matrix and the figures of each class, as a page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cnn_perception import metrics

MOST_CLASSES = 24
"""More rows and columns than this cannot be read in a confusion matrix."""
FEW_CLASSES = 6
"""Up to as many have room beside the per-class table."""


@dataclass(frozen=True)
class Cell:
    """How many images of one class were called another, or were called right.

    Attributes:
        count: Their number.
        share: Of all images of the true class, in [0, 1].
        is_right: Whether both classes are the same.
    """

    count: int
    share: float
    is_right: bool


@dataclass(frozen=True)
class ConfusionRow:
    """What the images of one class were called, a cell for each shown class."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ClassRow:
    """Scores of one class, in [0, 1]; None where there was nothing to score.

    Attributes:
        name: Of the class.
        support: How many images are of it.
        precision: None where it was never predicted.
        recall: None where it does not occur.
        f1: Of both.
    """

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float


@dataclass(frozen=True)
class ClassTables:
    """A confusion matrix and a table of the same classes.

    Attributes:
        template: What shows it.
        unit: What was counted, such as `frames`.
        names: The shown classes: the columns of the matrix.
        confusion: A row for each of them that occurs.
        scores: A row for each of them.
        left_out: How many classes are not shown.
    """

    template: ClassVar[str] = "pages/class_tables.html"
    unit: str
    names: tuple[str, ...]
    confusion: tuple[ConfusionRow, ...]
    scores: tuple[ClassRow, ...]
    left_out: int

    @property
    def fits_beside(self) -> bool:
        """Whether both tables stand side by side."""
        return len(self.names) <= FEW_CLASSES


def class_tables(confusion: metrics.Counts, names: Sequence[str], unit: str) -> ClassTables:
    """Returns the tables of K classes, or of as many as can be read.

    Args:
        confusion: (K, K) counts; rows are the truth, columns the prediction.
        names: Of the classes.
        unit: What was counted, such as `frames`.
    """
    shown = _shown(confusion)
    support = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    scores = metrics.per_class(confusion)
    return ClassTables(
        unit=unit,
        names=tuple(names[k] for k in shown),
        confusion=tuple(_confusion_row(confusion, names[k], k, shown) for k in shown if support[k]),
        scores=tuple(_class_row(scores[k], names[k], was_predicted=bool(predicted[k])) for k in shown),
        left_out=len(names) - len(shown),
    )


def _confusion_row(confusion: metrics.Counts, name: str, truth: int, shown: Sequence[int]) -> ConfusionRow:
    counts = confusion[truth]
    support = int(counts.sum())
    return ConfusionRow(name, tuple(Cell(int(counts[k]), int(counts[k]) / support, k == truth) for k in shown))


def _class_row(scores: metrics.ClassScores, name: str, *, was_predicted: bool) -> ClassRow:
    precision = scores.precision if was_predicted else None
    recall = scores.recall if scores.support else None
    return ClassRow(name, scores.support, precision, recall, scores.f1)


def _shown(confusion: metrics.Counts) -> list[int]:
    """Returns the classes that occur or were predicted; of too many, those with the most mistakes."""
    marginals = confusion.sum(axis=0) + confusion.sum(axis=1)
    seen = [int(k) for k in np.flatnonzero(marginals)]
    if len(seen) <= MOST_CLASSES:
        return seen
    mistakes = marginals - 2 * np.diag(confusion)
    return sorted(sorted(seen, key=lambda k: -int(mistakes[k]))[:MOST_CLASSES])

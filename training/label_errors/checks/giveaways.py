"""Properties of pictures that give their labels away: what a network may learn in place of what is shown.

Of each property a small decision tree is asked by cross-validation; it knows nothing else of the picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.intervals import Estimate, bootstrap
from training.data.records import Listing
from training.label_errors.checks import out_of_fold
from training.label_errors.measures import Measured, of_stamp
from training.label_errors.record import Giveaway
from training.tasks.by_name import task_of

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

FEWEST = 20
"""Images below which no property is asked."""
FEWEST_OF_CLASS = 5
_LEAF = 5
_MOST_WORDS = 50


def find(
    listing: Listing, measured: Sequence[Measured], cells: Sequence[Mapping[str, str]], seed: int
) -> list[Giveaway]:
    """Measures how well each property tells the labels, the best first.

    Args:
        listing: The n images.
        measured: Their properties.
        cells: What a table says of each, by column; empty without one.
        seed: Of the division into folds.
    """
    if len(measured) < FEWEST:
        return []
    properties = columns(listing, measured, cells)
    pairs = list(itertools.product(_questions(listing), properties.items()))
    answers = (
        _asked(name, of, values, labels, seed)
        for (of, labels), (name, values) in ProgressBar(pairs, "asking properties", unit="property", leave=False)
    )
    found = [giveaway for giveaway in answers if giveaway is not None]
    return sorted(found, key=lambda one: -(one.told.value - one.chance) / (1 - one.chance))


def columns(listing: Listing, measured: Sequence[Measured], cells: Sequence[Mapping[str, str]]) -> dict[str, Floats]:
    """Returns the properties that differ between the images, (n, columns) each: a number, or a column a word."""
    texts = {name: [one.words[name] for one in measured] for name in measured[0].words}
    texts["group"] = [sample.group for sample in listing.samples]
    numbers = {name: [one.numbers[name] for one in measured] for name in measured[0].numbers}
    if cells:
        texts |= {name: [row.get(name, "") for row in cells] for name in ("camera", "topic") if name in cells[0]}
        stamps = [of_stamp(row.get("stamp_ns", "")) for row in cells]
        for name in ("time of day", "date"):
            numbers[name] = [stamp.get(name, old) for stamp, old in zip(stamps, numbers[name], strict=True)]
    found = {name: _filled(np.array(values)) for name, values in numbers.items()}
    found |= {name: _one_hot(values) for name, values in texts.items() if 1 < len(set(values)) <= _MOST_WORDS}
    return {name: values for name, values in found.items() if np.ptp(values, axis=0).any()}


def _filled(values: Floats) -> Floats:
    """(n, 1) numbers, those that are not known in the middle: whether they are is the file type's to tell."""
    known = values[np.isfinite(values)]
    middle = float(np.median(known)) if len(known) else 0.0
    return np.where(np.isfinite(values), values, middle)[:, None]


def _one_hot(words: Sequence[str]) -> Floats:
    _, codes = np.unique(words, return_inverse=True)
    return np.eye(int(codes.max()) + 1)[codes]


def _questions(listing: Listing) -> list[tuple[str, npt.NDArray[Any]]]:
    """What is asked of a property: the class; whether it is a certain one of several; a number."""
    task = task_of(listing.task)
    if task.one_class:
        return [("", np.array([sample.label for sample in listing.samples], np.int64))]
    values = np.array([sample.values for sample in listing.samples])
    kind = np.float64 if task.least_squares else np.int64
    return [(name, values[:, column].astype(kind)) for column, name in enumerate(listing.class_names)]


def _asked(name: str, of: str, values: Floats, labels: npt.NDArray[Any], seed: int) -> Giveaway | None:
    """None where there is nothing to be told, or nothing to tell it by."""
    if labels.dtype == np.float64:
        return _told_number(name, of, values, labels, seed) if np.ptp(labels) else None
    counts = np.bincount(labels)
    rows = np.flatnonzero(counts[labels] >= FEWEST_OF_CLASS)
    there, codes = np.unique(labels[rows], return_inverse=True)
    return _told_class(name, of, values[rows], codes, seed) if len(there) > 1 else None


def _told_class(name: str, of: str, values: Floats, labels: Ints, seed: int) -> Giveaway | None:
    classes = int(labels.max()) + 1
    fold = out_of_fold.folds(np.eye(classes, dtype=np.int64)[labels], np.arange(len(labels)), seed)[0]
    answers = np.zeros(len(labels), np.int64)
    for number in np.unique(fold):
        outside = fold == number
        tree = DecisionTreeClassifier(
            max_leaf_nodes=4 * classes, min_samples_leaf=_LEAF, class_weight="balanced", random_state=0
        )
        answers[outside] = tree.fit(values[~outside], labels[~outside]).predict(values[outside])
    right = answers == labels

    def score(rows: Ints) -> float:
        counts = np.bincount(labels[rows], minlength=classes)
        hits = np.bincount(labels[rows], right[rows], minlength=classes)
        return float((hits[counts > 0] / counts[counts > 0]).mean())

    value = float(balanced_accuracy_score(labels, answers))
    return Giveaway(name, of, _estimate(value, bootstrap(score, len(labels))), 1 / classes)


def _told_number(name: str, of: str, values: Floats, numbers: Floats, seed: int) -> Giveaway:
    fold = out_of_fold.folds(np.ones((len(numbers), 1), np.int64), np.arange(len(numbers)), seed)[0]
    answers = np.zeros(len(numbers))
    for number in np.unique(fold):
        outside = fold == number
        tree = DecisionTreeRegressor(max_leaf_nodes=8, min_samples_leaf=_LEAF, random_state=0)
        answers[outside] = tree.fit(values[~outside], numbers[~outside]).predict(values[outside])

    def score(rows: Ints) -> float:
        return float(r2_score(numbers[rows], answers[rows])) if np.ptp(numbers[rows]) else 0.0

    return Giveaway(name, of, _estimate(score(np.arange(len(numbers))), bootstrap(score, len(numbers))), 0.0)


def _estimate(value: float, ends: tuple[float, float] | None) -> Estimate:
    low, high = ends or (value, value)
    return Estimate(value, min(low, value), max(high, value))

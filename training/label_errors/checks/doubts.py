"""Which labels the other images contradict, for each of the tasks: two rounds of confident learning, or of residuals.

What the first round finds is not learned from in the second one, whose classifiers are no longer taught the mistakes
that they are to find. All images are asked about in both. Where the features hardly tell the labels there is but one:
the second would confirm what the first found by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.label_text import SEPARATOR
from training.data.records import Listing, Sample
from training.data.split import unite
from training.label_errors.checks import out_of_fold
from training.label_errors.checks.confident import Confident, learn
from training.label_errors.checks.out_of_fold import Held, Lesson
from training.label_errors.checks.unusual import FAR, modified_z
from training.label_errors.record import Finding
from training.tasks.by_name import task_of

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_HARDLY = 0.4
"""Share of the way from chance to all right up to which labels are hardly told."""
GROUPS_ARE_CLASSES = (
    "the images of a class are of too few groups to be judged by other groups: they are judged by images of their own "
    "group, which look like them"
)


@dataclass(frozen=True)
class Doubts:
    """What is doubted of n labels.

    Attributes:
        findings: The labels that are taken to be wrong.
        noise: Estimated share of wrong labels, in [0, 1]; of images with several classes, of wrong marks.
        not_judged: How many images have a label of which there was too little else to learn from.
        notes: What has to be said of it, a line each.
    """

    findings: tuple[Finding, ...]
    noise: float
    not_judged: int
    notes: tuple[str, ...]


def find(listing: Listing, features: Floats, bonds: Sequence[Ints], seed: int) -> Doubts:
    """Finds the labels that contradict what was learned from the others.

    Args:
        listing: The n images; numbers in their units.
        features: (n, D) as `out_of_fold.compact` returns them.
        bonds: Pairs of rows, (P, 2), that are one picture.
        seed: Of the division into folds.
    """
    task = task_of(listing.task)
    judge = _numbers if task.least_squares else _classes if task.one_class else _several
    folds, notes = folds_of(listing, bonds, seed)
    threads = out_of_fold.threads(features, len(listing.class_names))
    with threadpool_limits(threads), ProgressBar(desc="judging labels", unit="fit", leave=False) as bar:

        def begin(what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update()

        found = judge(listing, Lesson(features, folds, begin))
    return Doubts(found.findings, found.noise, found.not_judged, (*notes, *found.notes))


def folds_of(listing: Listing, bonds: Sequence[Ints], seed: int) -> tuple[Ints, tuple[str, ...]]:
    """Returns folds, (REPEATS, n), that keep groups and copies together, unless most images could then not be judged.

    Args:
        listing: The n images.
        bonds: Pairs of rows, (P, 2), that are one picture.
        seed: Of the division.

    Returns:
        The folds, and what has to be said of them.
    """
    task = task_of(listing.task)
    strata = task.strata(listing.samples, len(listing.class_names))
    whole = out_of_fold.folds(strata, unite(listing.samples, bonds), seed)
    labels = np.array([sample.label if task.one_class else 0 for sample in listing.samples], np.int64)
    everything = np.ones(len(labels), np.bool_)
    if all(2 * out_of_fold.can_judge(labels, fold, everything).sum() > len(labels) for fold in whole):
        return whole, ()
    alone = [Sample(sample.path, sample.label, "train") for sample in listing.samples]
    return out_of_fold.folds(strata, unite(alone, bonds), seed), (GROUPS_ARE_CLASSES,)


def _classes(listing: Listing, lesson: Lesson) -> Doubts:
    """Of images with one class each."""
    labels = np.array([sample.label for sample in listing.samples], np.int64)
    held, found, told = _rounds(lesson, labels, len(listing.class_names))
    findings = []
    for row in np.flatnonzero(found.suspects & held.judged).tolist():
        given = listing.class_names[labels[row]]
        guess = listing.class_names[found.guesses[row]]
        share = held.probabilities[row, found.guesses[row]]
        text = f"labelled {given!r}, but {share:.0%} {guess!r} by what the other images teach"
        findings.append(Finding(row, "label", guess, _doubt(found.confidence[row]), text))
    return Doubts(tuple(findings), found.noise, int((~held.judged).sum()), _hardly_told(told, "the labels"))


def _rounds(lesson: Lesson, labels: Ints, classes: int) -> tuple[Held, Confident, float]:
    """What the last round says, and how much of the labels the first one could tell, see `_told`."""
    first = out_of_fold.classify(lesson, labels, classes, np.ones(len(labels), np.bool_))
    found = judged(labels, first)
    told = _told(labels[first.judged], found.guesses[first.judged])
    if told < _HARDLY:
        return first, found, told
    second = out_of_fold.classify(lesson, labels, classes, ~found.suspects, first.penalty)
    return second, judged(labels, second), told


def _told(labels: Ints, guesses: Ints) -> float:
    """Balanced accuracy of guesses, on a scale from 0 for chance to 1."""
    if len(np.unique(labels)) < 2:
        return 0.0
    counts = np.bincount(labels)
    hits = np.bincount(labels, guesses == labels)
    chance = 1 / np.count_nonzero(counts)
    return float(((hits[counts > 0] / counts[counts > 0]).mean() - chance) / (1 - chance))


def _hardly_told(told: float, what: str) -> tuple[str, ...]:
    if told >= _HARDLY:
        return ()
    return (
        f"{what} can hardly be told by these features ({told:.0%} of the way from chance to all right): what is found "
        "of them means little; give a network that knows such images, by --weights or --checkpoint",
    )


def judged(labels: Ints, held: Held) -> Confident:
    """Returns confident learning in which images that nothing can be said of are taken to be labelled rightly."""
    certain = np.eye(held.probabilities.shape[1])[labels]
    return learn(labels, np.where(held.judged[:, None], held.probabilities, certain))


def _several(listing: Listing, lesson: Lesson) -> Doubts:
    """Of images with several classes each: every class is judged by itself, shown or not."""
    values = np.array([sample.values for sample in listing.samples]) > 0.5
    wrong = np.zeros(values.shape, np.bool_)
    doubt = np.zeros(values.shape)
    noise = []
    notes = list[str]()
    for column, name in enumerate(listing.class_names):
        marks = values[:, column].astype(np.int64)
        if len(np.unique(marks)) < 2:
            notes.append(f"class {name!r} is on no image, or on all: nothing can be learned of it")
            continue
        held, found, told = _rounds(lesson, marks, 2)
        notes += _hardly_told(told, f"class {name!r}")
        wrong[:, column] = found.suspects & held.judged
        doubt[:, column] = 1 - found.confidence
        noise.append(found.noise)
    rows = np.flatnonzero(wrong.any(axis=1)).tolist()
    findings = [_marks(listing, row, values[row], wrong[row], doubt[row]) for row in rows]
    return Doubts(tuple(findings), float(np.mean(noise)) if noise else 0.0, 0, tuple(notes))


def _marks(listing: Listing, row: int, marks: Flags, wrong: Flags, doubt: Floats) -> Finding:
    names = listing.class_names
    lacking = [names[column] for column in np.flatnonzero(wrong & ~marks)]
    added = [names[column] for column in np.flatnonzero(wrong & marks)]
    doubted = (("seems to show", lacking), ("seems not to show", added))
    said = " and ".join(f"{what} {', '.join(some)}" for what, some in doubted if some)
    guess = SEPARATOR.join(names[column] for column in np.flatnonzero(marks ^ wrong))
    given = listing.words(listing.samples[row]) or "nothing"
    return Finding(row, "label", guess, _doubt(1 - float(doubt[wrong].max())), f"labelled {given!r}, but {said}")


def _numbers(listing: Listing, lesson: Lesson) -> Doubts:
    """Of images with numbers: those whose residual is far larger than the others'."""
    values = np.array([sample.values for sample in listing.samples], np.float64)
    everything = np.ones(len(values), np.bool_)
    first = _residual_z(values, out_of_fold.regress(lesson, values, everything)).max(axis=1) > FAR
    if 2 * first.sum() > len(values):
        first[:] = False
    answers = out_of_fold.regress(lesson, values, ~first)
    z = _residual_z(values, answers)
    findings = []
    for row in np.flatnonzero(z.max(axis=1) > FAR).tolist():
        column = int(z[row].argmax())
        name = f"{listing.class_names[column]} {values[row, column]:.4g} {listing.units[column]}".strip()
        text = (
            f"{name}, but {answers[row, column]:.4g} by what the other images teach ({z[row, column]:.1f} deviations)"
        )
        suggested = np.where(z[row] > FAR, answers[row], values[row])  # the other numbers stay as they are
        guess = SEPARATOR.join(f"{value:.6g}" for value in suggested)
        findings.append(Finding(row, "label", guess, _doubt(0.5 * FAR / z[row, column]), text))
    return Doubts(tuple(findings), len(findings) / len(values), 0, ())


def _residual_z(values: Floats, answers: Floats) -> Floats:
    """How far the residuals (n, K) are from the middle of their column, in robust standard deviations."""
    residuals = (values - answers) / np.maximum(values.std(axis=0), 1e-12)
    return np.abs(np.stack([modified_z(column) for column in residuals.T], axis=1))


def _doubt(confidence: float) -> float:
    return round(float(np.clip(1 - confidence, 0, 1)), 4)

"""What a classifier says of images that it has not learned from: calibrated probabilities by repeated cross-validation.

A linear layer on features that do not learn is fitted to four fifths of the images and asked about the last fifth, in
turn, several times with other fifths; its logits are averaged and calibrated by one temperature. Images that belong
together are never divided.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV

from training.data.split import fill
from training.tasks.probabilities import Doubles, log, softmax
from training.tasks.task import MIN_IMAGES

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Begin = Callable[[str], None]
"""Called before each fit with what is fitted."""

FOLDS = 5
REPEATS = 3
PENALTIES = (1e-3, 1e-2, 1e-1)
"""C of logistic regression, the inverse of the penalty, on standardised features."""
RIDGES = tuple(10.0**power for power in range(-2, 6))
COMPONENTS = 256
"""Directions of largest variance that are kept of the features: more cost time and hold hardly anything."""
CHOOSING = 3000
"""Images beyond which the penalty is chosen by a random part of them: it depends little on more."""
THREAD_WORK = 10_000_000
"""Multiply-adds of one pass over the features up to which further threads only wait for each other."""
_TEMPERATURES = np.geomspace(0.1, 10, 81)
_ITERATIONS = 200
_TOLERANCE = 1e-3
_NEVER = -50.0
"""Logit of a class of which there was nothing to learn from."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is learned from n images.

    Attributes:
        features: (n, D) as `compact` returns them.
        folds: (REPEATS, n) the fold of each image.
        begin: Called before each fit.
    """

    features: Floats
    folds: Ints
    begin: Begin


@dataclass(frozen=True, eq=False)
class Held:
    """What n images are said to show by classifiers that have not seen them.

    Attributes:
        probabilities: (n, K) calibrated.
        judged: (n,) whether there were enough other images of its label to learn from; of others nothing can be said.
        temperature: By which the logits were divided.
        penalty: That cross-validation has chosen.
    """

    probabilities: Doubles
    judged: Flags
    temperature: float
    penalty: float


def threads(features: Floats, classes: int) -> int | None:
    """Returns how many threads a fit to features (n, D) is worth: one, or None for as many as there are."""
    return None if features.size * classes > THREAD_WORK else 1


def compact(features: Floats) -> Floats:
    """Returns standardised features (n, D) in their directions of largest variance, (n, at most COMPONENTS)."""
    spread = features.std(axis=0)
    usable = spread > 1e-6
    scaled = (features[:, usable] - features[:, usable].mean(axis=0)) / spread[usable]
    few = min(*scaled.shape, COMPONENTS) if scaled.size else 0
    if few == 0:
        return np.zeros((len(features), 1))
    wide = scaled.shape[1] > scaled.shape[0]
    values, vectors = np.linalg.eigh(scaled @ scaled.T if wide else scaled.T @ scaled)
    best = np.argsort(values)[::-1][:few]
    if wide:
        return np.asarray(vectors[:, best] * np.sqrt(np.maximum(values[best], 0)))
    return np.asarray(scaled @ vectors[:, best])


def folds(strata: Ints, units: Ints, seed: int) -> Ints:
    """Returns to which of the folds each image belongs in each repeat, (REPEATS, n).

    Args:
        strata: (n, L) how often each image counts in what is shared out evenly.
        units: (n,) images of one unit are in one fold.
        seed: Of the choice.
    """
    sums = np.zeros((int(units.max()) + 1, strata.shape[1]), np.int64)
    np.add.at(sums, units, strata)
    base, rest = np.divmod(sums.sum(axis=0), FOLDS)
    first = np.cumsum(rest) - rest  # the folds take turns with what cannot be shared evenly
    wanted = base + ((np.arange(FOLDS)[:, None] - first) % FOLDS < rest)
    return np.stack([fill(sums, wanted, np.random.default_rng((seed, repeat)))[units] for repeat in range(REPEATS)])


def can_judge(labels: Ints, fold: Ints, learned: Flags) -> Flags:
    """Returns of which images, (n,), enough others of their label are learned from in other folds.

    Args:
        labels: (n,) classes.
        fold: (n,) of each image.
        learned: (n,) whether an image may be learned from.
    """
    classes = int(labels.max()) + 1
    everywhere = np.bincount(labels[learned], minlength=classes)
    inside = np.bincount(fold[learned] * classes + labels[learned], minlength=FOLDS * classes).reshape(-1, classes)
    return np.asarray(everywhere[labels] - inside[fold, labels] >= MIN_IMAGES)


def classify(lesson: Lesson, labels: Ints, classes: int, learned: Flags, penalty: float | None = None) -> Held:
    """Asks classifiers about the images that they have not seen.

    Args:
        lesson: The images.
        labels: (n,) their classes.
        classes: K.
        learned: (n,) whether an image may be learned from; all are asked about.
        penalty: C; None chooses it by the loss of held-out images.
    """
    if penalty is None:
        penalty = _choose(lesson, labels, classes, learned)
    logits = np.mean([_logits(lesson, labels, classes, learned, penalty, fold) for fold in lesson.folds], axis=0)
    judged = np.all([can_judge(labels, fold, learned) for fold in lesson.folds], axis=0)
    asked = learned & judged
    temperature = _temperature(logits[asked], labels[asked]) if asked.any() else 1.0
    return Held(softmax(logits / temperature), judged, temperature, penalty)


def _choose(lesson: Lesson, labels: Ints, classes: int, learned: Flags) -> float:
    """The penalty of the lowest loss over held-out images, calibrated, in the first repeat."""
    rows = np.random.default_rng(0).permutation(np.flatnonzero(learned))[:CHOOSING]
    some = Lesson(lesson.features[rows], lesson.folds[:1, rows], lesson.begin)
    fold, known = some.folds[0], labels[rows]
    everything = np.ones(len(rows), np.bool_)
    asked = can_judge(known, fold, everything)
    if not asked.any():
        return PENALTIES[len(PENALTIES) // 2]
    losses = {}
    for penalty in PENALTIES:
        logits = _logits(some, known, classes, everything, penalty, fold)[asked]
        losses[penalty] = _loss(logits, known[asked], _temperature(logits, known[asked]))
    return min(losses, key=lambda each: losses[each])


def _logits(lesson: Lesson, labels: Ints, classes: int, learned: Flags, penalty: float, fold: Ints) -> Doubles:
    """(n, K) of each image by the classifier of the other folds."""
    logits = np.full((len(labels), classes), _NEVER)
    for outside, inside in _parts(fold, learned):
        there = np.unique(labels[inside])
        lesson.begin(f"logistic regression, C {penalty:g}")
        if len(there) == 1:
            logits[outside, there[0]] = 0.0
        elif len(there):
            logits[np.ix_(outside, there)] = _fitted(lesson.features, labels, inside, outside, penalty)
    return logits


def _parts(fold: Ints, learned: Flags) -> Iterator[tuple[Ints, Ints]]:
    """Of each fold its images, and those of the others that are learned from."""
    for number in np.unique(fold):
        yield np.flatnonzero(fold == number), np.flatnonzero((fold != number) & learned)


def _fitted(features: Floats, labels: Ints, inside: Ints, outside: Ints, penalty: float) -> Doubles:
    layer = LogisticRegression(C=penalty, max_iter=_ITERATIONS, tol=_TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        layer.fit(features[inside], labels[inside])
    found = layer.decision_function(features[outside])
    return np.stack([-found / 2, found / 2], axis=1) if found.ndim == 1 else np.asarray(found)


def _temperature(logits: Doubles, labels: Ints) -> float:
    """That of the lowest loss. Source: Guo et al. 2017, On Calibration of Modern Neural Networks."""
    return float(min(_TEMPERATURES, key=lambda each: _loss(logits, labels, each)))


def _loss(logits: Doubles, labels: Ints, temperature: float) -> float:
    """Mean cross-entropy, in nats."""
    return float(-log(softmax(logits / temperature))[np.arange(len(labels)), labels].mean())


def regress(lesson: Lesson, values: Floats, learned: Flags) -> Doubles:
    """Returns what ridge regressions that have not seen an image say of its numbers, (n, K).

    Args:
        lesson: The images.
        values: (n, K) their numbers.
        learned: (n,) whether an image may be learned from; all are asked about.
    """
    return np.asarray(np.mean([_answers(lesson, values, learned, fold) for fold in lesson.folds], axis=0))


def _answers(lesson: Lesson, values: Floats, learned: Flags, fold: Ints) -> Doubles:
    answers = np.zeros(values.shape)
    for outside, inside in _parts(fold, learned):
        lesson.begin("ridge regression")
        model = RidgeCV(RIDGES).fit(lesson.features[inside], values[inside])
        answers[outside] = np.asarray(model.predict(lesson.features[outside])).reshape(len(outside), -1)
    return answers

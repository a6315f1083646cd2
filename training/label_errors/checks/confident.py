"""Confident learning: which labels contradict what was learned from all the others.

An image is counted as one of class j where its probability of j reaches the mean that j has over the images labelled
so. Counting labels against these classes gives the confident joint; what lies off its diagonal is labelled wrongly.

Source: Northcutt, Jiang and Chuang 2021, Confident Learning: Estimating Uncertainty in Dataset Labels, Journal of
    Artificial Intelligence Research 70 (equations 1 and 2, method C_confusion without the images that the classifier
    itself gives to their label).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.tasks.probabilities import Doubles

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_EPSILON = 1e-6
"""By which a probability may miss a threshold, which it would otherwise do by rounding where all are equal."""


@dataclass(frozen=True, eq=False)
class Confident:
    """What confident learning says of n images.

    Attributes:
        joint: (K, K) images labelled as the row that are counted as the column.
        suspects: (n,) whether the label is wrong.
        guesses: (n,) the class of highest probability.
        confidence: (n,) probability of the label as it is given.
    """

    joint: Ints
    suspects: Flags
    guesses: Ints
    confidence: Doubles

    @property
    def noise(self) -> float:
        """Estimated share of wrong labels among the images that could be counted, in [0, 1]; 0 without any."""
        return 1 - float(np.trace(self.joint)) / max(1, int(self.joint.sum()))


def learn(labels: Ints, probabilities: Doubles) -> Confident:
    """Counts labels against what out-of-fold probabilities say.

    Args:
        labels: (n,) class of each image as it is given.
        probabilities: (n, K) of a classifier that has not learned from the image; calibrated.
    """
    classes = probabilities.shape[1]
    confidence = probabilities[np.arange(len(labels)), labels]
    counted, found = _counted(probabilities, _thresholds(labels, confidence, classes))
    joint = np.zeros((classes, classes), np.int64)
    np.add.at(joint, (labels[counted], found[counted]), 1)
    guesses = np.asarray(probabilities.argmax(axis=1), np.int64)
    suspects = counted & (found != labels) & (guesses != labels)
    return Confident(joint, suspects, guesses, confidence)


def _thresholds(labels: Ints, confidence: Doubles, classes: int) -> Doubles:
    """The mean confidence of the images of each class, (K,); of a class without any, one that nothing reaches."""
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, confidence, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def _counted(probabilities: Doubles, thresholds: Doubles) -> tuple[Flags, Ints]:
    """Whether an image is counted at all, and as which class: the most probable of those that reach their threshold."""
    reached = probabilities >= thresholds - _EPSILON
    best = np.where(reached, probabilities, -1.0).argmax(axis=1)
    return np.asarray(reached.any(axis=1)), np.asarray(best, np.int64)

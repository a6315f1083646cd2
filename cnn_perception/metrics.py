"""Numbers that say how good and how fast a classifier is, from plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassScores:
    """How well one class is recognised.

    Attributes:
        precision: Share of the predictions of this class that are right, in [0, 1]; 0 if it was never predicted.
        recall: Share of the samples of this class that were found, in [0, 1]; 0 if it never occurs.
        f1: Harmonic mean of both, in [0, 1]; 0 if both are 0.
        support: Samples of this class.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Latency:
    """Percentiles of a duration, milliseconds; all 0 where nothing was measured."""

    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


def confusion_matrix(truth: Sequence[int] | Counts, predicted: Sequence[int] | Counts, classes: int) -> Counts:
    """Counts how often each class was taken for each other.

    Args:
        truth: n class indices in [0, classes).
        predicted: n class indices in [0, classes).
        classes: How many classes there are.

    Returns:
        (classes, classes) int64; rows are the truth, columns the prediction.

    Raises:
        ValueError: If the lengths differ or an index is out of range.
    """
    rows, columns = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise ValueError(f"truth has the shape {rows.shape}, predicted {columns.shape}; both must be (n,)")
    if rows.size and (min(rows.min(), columns.min()) < 0 or max(rows.max(), columns.max()) >= classes):
        raise ValueError(f"a class index is outside [0, {classes})")
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


def per_class(confusion: Counts) -> tuple[ClassScores, ...]:
    """Returns precision, recall and F1 of each class of a (K, K) confusion matrix."""
    hits = np.diag(confusion).astype(np.float64)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return tuple(
        ClassScores(float(precision[k]), float(recall[k]), float(f1[k]), int(support[k])) for k in range(len(confusion))
    )


def accuracy(confusion: Counts) -> float:
    """Returns the share of right predictions in [0, 1]; 0 where there are no samples."""
    return float(np.trace(confusion) / max(int(confusion.sum()), 1))


def balanced_accuracy(confusion: Counts) -> float:
    """Returns the mean recall of the classes that occur, in [0, 1]; 0 where there are no samples.

    Unlike accuracy it cannot be had by always answering the most frequent class.
    """
    recalls = [scores.recall for scores in per_class(confusion) if scores.support]
    return float(np.mean(recalls)) if recalls else 0.0


def macro_f1(confusion: Counts) -> float:
    """Returns the mean F1 of the classes that occur or were predicted, in [0, 1]; 0 where there are no samples."""
    seen = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
    values = [scores.f1 for scores, counts in zip(per_class(confusion), seen, strict=True) if counts]
    return float(np.mean(values)) if values else 0.0


def top_k_accuracy(scores: npt.NDArray[np.floating], truth: Sequence[int] | Counts, k: int) -> float:
    """Returns the share of samples whose true class is among the k best scores.

    Args:
        scores: (n, K) floats, higher is better; of equal scores the lower class index is the better one.
        truth: n class indices in [0, K).
        k: How many of the best count, at least 1.

    Returns:
        In [0, 1]; 0 where there are no samples.
    """
    ranks = [true_rank(row, index) for row, index in zip(scores, truth, strict=True)]
    return float(np.mean([rank < k for rank in ranks])) if ranks else 0.0


def true_rank(scores: npt.NDArray[np.floating], truth: int) -> int:
    """Returns how many classes are ranked before the true one, given the (K,) scores of one sample; 0 is a hit."""
    better = np.count_nonzero(scores > scores[truth])
    tied_before = np.count_nonzero(scores[:truth] == scores[truth])
    return int(better + tied_before)


def latency(durations_ms: Sequence[float] | npt.NDArray[np.floating]) -> Latency:
    """Returns the mean and the percentiles (linear interpolation) of durations in milliseconds."""
    if not len(durations_ms):
        return Latency(0.0, 0.0, 0.0, 0.0)
    p50, p90, p99 = np.percentile(np.asarray(durations_ms, np.float64), (50, 90, 99))
    return Latency(float(np.mean(durations_ms)), float(p50), float(p90), float(p99))

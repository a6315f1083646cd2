"""Numbers that say how good, how honest and how fast a model is, from plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_perception.intervals import Estimate, Independent, Sampling

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]


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


@dataclass(frozen=True)
class CalibrationBin:
    """The samples whose best score lies in (`lower`, `upper`].

    Attributes:
        lower: In [0, 1].
        upper: In (0, 1].
        count: How many samples.
        confidence: Mean of their best scores, in [0, 1]; 0 without samples.
        accuracy: Share of them whose best class is right, in [0, 1]; 0 without samples.
    """

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class CalibrationScores:
    """How far scores can be taken for probabilities.

    Attributes:
        ece: Expected calibration error in [0, 1]: the mean distance of confidence and accuracy over the bins,
            weighed by their samples; 0 where there are no samples.
        bins: Of equal width, from 0 to 1; a reliability diagram shows `accuracy` over `confidence`.
    """

    ece: float
    bins: tuple[CalibrationBin, ...]


@dataclass(frozen=True)
class Headline:
    """What a robot with a rule for unknown images will do, beside what it would do without: shares in [0, 1].

    Attributes:
        images: How many were scored.
        top1: Of right answers among all; an image of a class that is called unknown is wrong.
        top1_without_rule: Of images whose best class is right, whatever the rule says; without a rule as `top1`.
        coverage: Of images that are not called unknown.
        top1_answered: Of right answers among those; None where there are none.
    """

    images: int
    top1: Estimate
    top1_without_rule: Estimate
    coverage: Estimate
    top1_answered: Estimate | None

    def in_words(self) -> str:
        """Returns all of it in one line, with the 95 % intervals."""
        if self.coverage.value == 1.0:
            return f"top-1 {self.top1.in_percent()}"
        answered = f", of these right {self.top1_answered.in_percent()}" if self.top1_answered else ""
        return (
            f"top-1 {self.top1.in_percent()} with the unknown rule, {self.top1_without_rule.in_percent()} without; "
            f"answered {self.coverage.in_percent()}{answered}"
        )


def headline(
    is_best_right: npt.NDArray[np.bool_], is_unknown: npt.NDArray[np.bool_], sampling: Sampling | None = None
) -> Headline | None:
    """Returns the shares that say most of a model with one class an image; None of no images.

    Args:
        is_best_right: (n,) whether the network's best class is the known one.
        is_unknown: (n,) whether the rule calls the image unknown; never without a rule.
        sampling: How the images came to be measured; independent of each other by default.
    """
    count = len(is_best_right)
    if not count:
        return None
    drawn = sampling or Independent(count)
    is_answered = ~is_unknown
    is_right = is_best_right & is_answered
    return Headline(
        images=count,
        top1=drawn.share(is_right),
        top1_without_rule=drawn.share(is_best_right),
        coverage=drawn.share(is_answered),
        top1_answered=drawn.share(is_right, is_answered) if is_answered.any() else None,
    )


def confusion_matrix(truth: Sequence[int] | Counts, predicted: Sequence[int] | Counts, classes: int) -> Counts:
    """Returns how often each class was taken for each other.

    Args:
        truth: n class indices in [0, classes).
        predicted: n class indices in [0, classes).
        classes: How many classes there are.

    Returns:
        (classes, classes) int64; rows are the truth, columns the prediction.

    Raises:
        ValueError: If the lengths differ or an index is out of range.
    """
    rows = np.asarray(truth, np.int64)
    columns = np.asarray(predicted, np.int64)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise ValueError(f"truth has the shape {rows.shape}, predicted {columns.shape}; both must be (n,)")
    if rows.size and (min(rows.min(), columns.min()) < 0 or max(rows.max(), columns.max()) >= classes):
        raise ValueError(f"a class index is outside [0, {classes})")
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


def per_class(confusion: Counts) -> tuple[ClassScores, ...]:
    """Returns precision, recall and F1 of each class of a (K, K) confusion matrix."""
    hits = np.diag(confusion).astype(np.float64)
    support = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(support, 1)
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


def macro_f1(confusion: Counts, classes: int | None = None) -> float:
    """Returns the mean F1 of the classes that occur or were predicted, in [0, 1]; 0 where there are no samples.

    Args:
        confusion: (K, K) counts.
        classes: How many of the K are classes, the first ones; all by default.
    """
    seen = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
    rows = zip(per_class(confusion)[:classes], seen[:classes], strict=True)
    values = [scores.f1 for scores, counts in rows if counts]
    return float(np.mean(values)) if values else 0.0


def mean_intervals(
    truth: Sequence[int] | Counts, predicted: Sequence[int] | Counts, classes: int, sampling: Sampling | None = None
) -> dict[str, tuple[float, float]]:
    """Returns the bootstrap's 95 % intervals of `balanced_accuracy` and `macro_f1`, by these names; none of one image.

    Args:
        truth: n class indices in [0, classes).
        predicted: n class indices in [0, classes]; the last is `unknown`, which is wrong and no class.
        classes: How many classes there are.
        sampling: As in `headline`.
    """
    known = np.asarray(truth, np.int64)
    found = np.asarray(predicted, np.int64)
    drawn = sampling or Independent(len(known))

    def of(figure: Callable[[Counts], float]) -> tuple[float, float] | None:
        return drawn.figure(lambda rows: figure(confusion_matrix(known[rows], found[rows], classes + 1)))

    both = {"balanced_accuracy": of(balanced_accuracy), "macro_f1": of(lambda counts: macro_f1(counts, classes))}
    return {name: interval for name, interval in both.items() if interval is not None}


def macro_f1_of_labels(truth: npt.NDArray[np.bool_], seen: npt.NDArray[np.bool_]) -> float:
    """Returns the mean F1 of the classes that occur or were seen, in [0, 1], of (n, K) flags; 0 of none."""
    counts = truth.sum(axis=0) + seen.sum(axis=0)
    values = 2 * (truth & seen).sum(axis=0)[counts > 0] / counts[counts > 0]
    return float(values.mean()) if len(values) else 0.0


def top_k_accuracy(scores: Floats, truth: Sequence[int] | Counts, k: int) -> float:
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


def true_rank(scores: Floats, truth: int) -> int:
    """Returns how many classes are ranked before the true one, given the (K,) scores of one sample; 0 is a hit."""
    better = np.count_nonzero(scores > scores[truth])
    tied_before = np.count_nonzero(scores[:truth] == scores[truth])
    return int(better + tied_before)


def latency(durations_ms: Sequence[float] | Floats) -> Latency:
    """Returns the mean and the percentiles (linear interpolation) of durations in milliseconds."""
    if not len(durations_ms):
        return Latency(0.0, 0.0, 0.0, 0.0)
    p50, p90, p99 = np.percentile(np.asarray(durations_ms, np.float64), (50, 90, 99))
    return Latency(float(np.mean(durations_ms)), float(p50), float(p90), float(p99))


def average_precision(scores: Floats, truth: npt.NDArray[np.bool_]) -> float:
    """Returns the area under the precision-recall curve of one class, without interpolation.

    Args:
        scores: (n,) floats, higher means more likely.
        truth: (n,) bool, whether the class is really there.

    Returns:
        The mean, over the positive samples, of the precision at their score, in [0, 1]; 0 without positive samples.

    Source: scikit-learn's definition of average_precision_score, AP = sum of (R_n - R_(n-1)) P_n.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    last_of_ties = np.append(np.diff(scores[order]) != 0, True)[: len(scores)]
    precision = (hits / np.arange(1, len(scores) + 1))[last_of_ties]
    gained = np.diff(hits[last_of_ties], prepend=0)
    return float((precision * gained).sum() / max(int(truth.sum()), 1))


def mean_average_precision(scores: Floats, truth: npt.NDArray[np.bool_]) -> float:
    """Returns the mean of `average_precision` over the classes that occur.

    Args:
        scores: (n, K) floats, higher means more likely.
        truth: (n, K) bool, whether each class is really there.

    Returns:
        In [0, 1]; 0 where no class occurs.
    """
    values = [average_precision(scores[:, k], truth[:, k]) for k in range(truth.shape[1]) if truth[:, k].any()]
    return float(np.mean(values)) if values else 0.0


def auroc(scores: Floats, truth: npt.NDArray[np.bool_]) -> float:
    """Returns how often a positive sample has a higher score than a negative one.

    Args:
        scores: (n,) floats, higher means more likely.
        truth: (n,) bool, which samples are positive.

    Returns:
        In [0, 1], a tie counts one half; 0.5, which is chance, where one of the two kinds is missing.

    Source: the area under the ROC curve is the Mann-Whitney statistic (Fawcett 2006, An introduction to ROC analysis).
    """
    positive = int(truth.sum())
    negative = len(truth) - positive
    if not positive or not negative:
        return 0.5
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    wins = mean_rank[place][truth].sum() - positive * (positive + 1) / 2
    return float(wins / (positive * negative))


def entropy(scores: Floats) -> float:
    """Returns the Shannon entropy of (K,) scores that add up to 1, in nats: 0 for one sure class, ln K for none."""
    positive = scores[scores > 0].astype(np.float64)
    return float(-(positive * np.log(positive)).sum())


def ece(scores: Floats, truth: Sequence[int] | Counts, bins: int = 15) -> CalibrationScores:
    """Returns how far the best scores are from how often the best class is right.

    Args:
        scores: (n, K) floats in [0, 1], such as a softmax; of equal scores the lower class index is the best.
        truth: n class indices in [0, K).
        bins: How many bins of equal width [0, 1] is cut into.

    Returns:
        The expected calibration error and its bins.

    """
    return calibration(scores.max(axis=1), scores.argmax(axis=1) == np.asarray(truth, np.int64), bins)


def calibration(confidence: Floats, hit: npt.NDArray[np.bool_], bins: int = 15) -> CalibrationScores:
    """Returns how far scores are from how often what they are given to is so.

    Args:
        confidence: (n,) scores in [0, 1].
        hit: (n,) whether it is so.
        bins: How many bins of equal width [0, 1] is cut into.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3, with their 15 bins.
    """
    confidence = np.asarray(confidence, np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(place, minlength=bins)
    mean_confidence = np.bincount(place, confidence, bins) / np.maximum(count, 1)
    accuracies = np.bincount(place, hit, bins) / np.maximum(count, 1)
    error = (count * np.abs(mean_confidence - accuracies)).sum() / max(len(confidence), 1)
    rows = zip(edges[:-1], edges[1:], count, mean_confidence, accuracies, strict=True)
    return CalibrationScores(
        float(error), tuple(CalibrationBin(float(a), float(b), int(n), float(c), float(d)) for a, b, n, c, d in rows)
    )


def mae(truth: Floats, predicted: Floats) -> npt.NDArray[np.float64]:
    """Returns the mean absolute error of each number: (K,) in its unit, from (n, K) truths and predictions, n >= 1."""
    return np.asarray(np.abs(predicted - truth).mean(axis=0, dtype=np.float64))


def mae_interval(truth: Floats, predicted: Floats, sampling: Sampling | None = None) -> tuple[float, float] | None:
    """Returns the bootstrap's 95 % interval of the mean absolute error of (n,) numbers; None of fewer than 2.

    Args:
        truth: (n,) numbers.
        predicted: (n,) numbers.
        sampling: As in `headline`.
    """
    errors = np.abs(predicted - truth).astype(np.float64)
    return (sampling or Independent(len(errors))).figure(lambda rows: float(errors[rows].mean()))


def rmse(truth: Floats, predicted: Floats) -> npt.NDArray[np.float64]:
    """Returns the root of the mean squared error of each number: (K,) in its unit, as in `mae`."""
    return np.asarray(np.sqrt(np.square(predicted - truth).mean(axis=0, dtype=np.float64)))


def r2(truth: Floats, predicted: Floats) -> npt.NDArray[np.float64]:
    """Returns the share of each number's variance that is explained: (K,), at most 1, from arrays as in `mae`.

    1 is perfect, 0 is as good as always answering the mean, below 0 is worse. Where the truth never varies it is 1 for
    exact predictions and 0 for all others, as in scikit-learn.
    """
    error = np.square(predicted - truth).sum(axis=0, dtype=np.float64)
    spread = np.square(truth - truth.mean(axis=0, dtype=np.float64)).sum(axis=0, dtype=np.float64)
    return np.asarray(np.where(spread > 0, 1.0 - error / np.where(spread > 0, spread, 1.0), error == 0))

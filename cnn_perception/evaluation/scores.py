"""The arithmetic over all frames of an evaluation, for each task."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception import metrics
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.model.spec import UNKNOWN, ModelSpec


@dataclass(frozen=True)
class FrameCounts:
    """What became of the frames.

    Attributes:
        total: Images seen: `scored` + `unlabelled` + the sum of `bad`.
        scored: Good frames with a known answer.
        unlabelled: Good frames without one.
        bad: Frames that could not be used, by reason.
    """

    total: int
    scored: int
    unlabelled: int
    bad: dict[str, int]


@dataclass(frozen=True)
class ClassReport:
    """One row of the per-class table; see `metrics.ClassScores`."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class MulticlassScores:
    """Rates are in [0, 1] and None where nothing was scored.

    Attributes:
        frames: What became of the frames.
        top1: Share of the scored frames that were answered rightly; one called unknown is wrong.
        top5: Share of the scored frames with the right class among the best five, whatever the unknown rule says.
        balanced_accuracy: Mean recall of the classes that occur; one called unknown is not found.
        macro_f1: Mean F1 of the classes that occur or were answered.
        unknown: Share of the scored frames that were called unknown; 0 for a model without a rule.
        top1_answered: `top1` among the frames that were not called unknown.
        coverage: Share of the scored frames that were not called unknown and whose score reaches the threshold.
        top1_above_threshold: `top1` among those.
        confusion: Counts; the K rows are the truth, the K columns the answer. A model with an unknown rule has one
            more column for it.
        classes: Scores of each class, in the model's order.
    """

    frames: FrameCounts
    top1: float | None
    top5: float | None
    balanced_accuracy: float | None
    macro_f1: float | None
    unknown: float | None
    top1_answered: float | None
    coverage: float | None
    top1_above_threshold: float | None
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[ClassReport, ...]


@dataclass(frozen=True)
class LabelReport(ClassReport):
    """One class of a multilabel model, at its threshold.

    Attributes:
        threshold: Score from which it counts as seen.
        average_precision: See `metrics.average_precision`; over all thresholds. None where the class never occurs.
    """

    threshold: float
    average_precision: float | None


@dataclass(frozen=True)
class MultilabelScores:
    """Rates are in [0, 1] and None where nothing was scored.

    Attributes:
        frames: What became of the frames.
        mean_average_precision: Mean `average_precision` of the classes that occur, whatever the thresholds.
        macro_f1: Mean F1 of the classes that occur or were seen, at their thresholds.
        exact: Share of the scored frames in which exactly the known classes were seen.
        classes: Scores of each class, in the model's order.
    """

    frames: FrameCounts
    mean_average_precision: float | None
    macro_f1: float | None
    exact: float | None
    classes: tuple[LabelReport, ...]


@dataclass(frozen=True)
class NumberReport:
    """One number of a regression.

    Attributes:
        name: Of the number.
        unit: In which the errors are; may be empty.
        mae: Mean absolute error.
        rmse: Root of the mean squared error.
        r2: See `metrics.r2`.
        mae_of_mean: Mean absolute error of always answering the mean of these truths, which has to be beaten.
    """

    name: str
    unit: str
    mae: float
    rmse: float
    r2: float
    mae_of_mean: float


@dataclass(frozen=True)
class RegressionScores:
    """The errors of each number, in the model's order; empty where nothing was scored."""

    frames: FrameCounts
    numbers: tuple[NumberReport, ...]


Scores = MulticlassScores | MultilabelScores | RegressionScores


def score(records: Sequence[FrameRecord], spec: ModelSpec, threshold: float) -> Scores:
    """Computes the figures of a report from the records of all frames.

    Args:
        records: All frames.
        spec: The model.
        threshold: Score in [0, 1] below which the robot publishes nothing.
    """
    good = [record for record in records if record.prediction is not None]
    scored = [record for record in good if record.truth is not None]
    bad = Counter(record.error for record in records if record.error)
    frames = FrameCounts(len(records), len(scored), len(good) - len(scored), dict(bad.most_common()))
    if spec.task == "multiclass":
        return _multiclass(frames, scored, spec, threshold)
    if spec.task == "multilabel":
        return _multilabel(frames, scored, spec)
    return _regression(frames, scored, spec)


def _multiclass(frames: FrameCounts, scored: list[FrameRecord], spec: ModelSpec, threshold: float) -> MulticlassScores:
    names = spec.class_names
    position = {name: index for index, name in enumerate((*names, UNKNOWN) if spec.unknown else names)}
    truth = [position[record.truth] for record in scored if isinstance(record.truth, str)]
    confusion = metrics.confusion_matrix(truth, [position[record.answer] for record in scored], len(position))
    answered = [record for record in scored if record.prediction and not record.prediction.unknown]
    sure = [record for record in answered if record.prediction and record.prediction.score >= threshold]
    classes = _class_reports(names, metrics.per_class(confusion))
    return MulticlassScores(
        frames=frames,
        top1=_share([record.is_right for record in scored]),
        top5=_share([record.truth_rank < 5 for record in scored]),
        balanced_accuracy=metrics.balanced_accuracy(confusion) if scored else None,
        macro_f1=_macro_f1(classes, confusion.sum(axis=0)) if scored else None,
        unknown=1 - len(answered) / len(scored) if scored else None,
        top1_answered=_share([record.is_right for record in answered]),
        coverage=len(sure) / len(scored) if scored else None,
        top1_above_threshold=_share([record.is_right for record in sure]),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion[: len(names)]),
        classes=classes,
    )


def _multilabel(frames: FrameCounts, scored: list[FrameRecord], spec: ModelSpec) -> MultilabelScores:
    names, shape = spec.class_names, (len(scored), len(spec.class_names))
    truth = np.array([[n in r.truth for n in names] for r in scored if isinstance(r.truth, frozenset)], bool)
    scores = np.array([r.prediction.scores for r in scored if r.prediction], np.float32).reshape(shape)
    truth, seen = truth.reshape(shape), scores >= np.array(spec.thresholds, np.float32)
    # Of each class, "there" against "not there" is a matrix of its own.
    pairs = [
        metrics.confusion_matrix((~truth[:, k]).astype(int), (~seen[:, k]).astype(int), 2) for k in range(len(names))
    ]
    classes = tuple(
        LabelReport(
            **dataclasses.asdict(row),
            threshold=spec.thresholds[k],
            average_precision=metrics.average_precision(scores[:, k], truth[:, k]) if row.support else None,
        )
        for k, row in enumerate(_class_reports(names, [metrics.per_class(pair)[0] for pair in pairs]))
    )
    return MultilabelScores(
        frames=frames,
        mean_average_precision=metrics.mean_average_precision(scores, truth) if truth.any() else None,
        macro_f1=_macro_f1(classes, seen.sum(axis=0)) if scored else None,
        exact=_share([record.is_right for record in scored]),
        classes=classes,
    )


def _regression(frames: FrameCounts, scored: list[FrameRecord], spec: ModelSpec) -> RegressionScores:
    if not scored:
        return RegressionScores(frames, ())
    truth = np.array([record.truth for record in scored if isinstance(record.truth, tuple)], np.float64)
    predicted = np.array([record.prediction.values for record in scored if record.prediction], np.float64)
    mean = np.broadcast_to(truth.mean(axis=0), truth.shape)
    rows = zip(
        spec.class_names,
        spec.units,
        metrics.mae(truth, predicted),
        metrics.rmse(truth, predicted),
        metrics.r2(truth, predicted),
        metrics.mae(truth, mean),
        strict=True,
    )
    return RegressionScores(frames, tuple(NumberReport(name, unit, *map(float, row)) for name, unit, *row in rows))


def _class_reports(names: Sequence[str], rows: Sequence[metrics.ClassScores]) -> tuple[ClassReport, ...]:
    return tuple(ClassReport(name, **dataclasses.asdict(row)) for name, row in zip(names, rows, strict=False))


def _macro_f1(classes: Sequence[ClassReport], answers: metrics.Counts) -> float:
    """Returns the mean F1 of the classes that occur or were answered so many times; 0 where there are none."""
    values = [row.f1 for row, count in zip(classes, answers, strict=False) if row.support or count]
    return float(np.mean(values)) if values else 0.0


def _share(hits: Sequence[bool | None]) -> float | None:
    return sum(map(bool, hits)) / len(hits) if hits else None

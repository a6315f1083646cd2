"""The parts of the evaluation's page that depend on the model's task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.plots import Scatter, Series, Strips, presence, scatter, series, timeline
from cnn_perception.evaluation.report_record import Report
from cnn_perception.evaluation.scores import (
    LabelReport,
    MulticlassScores,
    MultilabelScores,
    NumberReport,
    RegressionScores,
)
from cnn_perception.model.spec import UNKNOWN, ModelSpec
from cnn_perception.pages.class_tables import ClassTables, class_tables
from cnn_perception.pages.rendering import percent


@dataclass(frozen=True)
class LabelTable:
    """The figures of each class of a multilabel model."""

    template: ClassVar[str] = "labels.html"
    rows: tuple[LabelReport, ...]


@dataclass(frozen=True)
class NumberTable:
    """The errors of each number, and each answered over known."""

    template: ClassVar[str] = "numbers.html"
    rows: tuple[NumberReport, ...]
    scatters: tuple[Scatter, ...]


def cards(report: Report) -> list[tuple[str, str]]:
    """Returns (what it is, figure) of the most important figures."""
    scores = report.scores
    if isinstance(scores, RegressionScores):
        return [(f"MAE of {n.name}{f', {n.unit}' if n.unit else ''}", f"{n.mae:.3g}") for n in scores.numbers]
    if isinstance(scores, MultilabelScores):
        shares = [
            ("mean average precision", scores.mean_average_precision),
            ("macro F1 at the thresholds", scores.macro_f1),
            ("frames with exactly the right classes", scores.exact),
        ]
    else:
        shares = _multiclass_cards(report, scores)
    return [(name, percent(value)) for name, value in shares if value is not None]


def _multiclass_cards(report: Report, scores: MulticlassScores) -> list[tuple[str, float | None]]:
    spec = report.model.spec
    shares = [
        ("top-1 accuracy" + (", unknown is wrong" if spec.unknown else ""), scores.top1),
        ("balanced accuracy", scores.balanced_accuracy),
        ("macro F1", scores.macro_f1),
    ]
    if len(spec.class_names) > 5:
        shares.insert(1, ("top-5 accuracy", scores.top5))
    if spec.unknown:
        shares += [("of frames called unknown", scores.unknown), ("top-1 of the others", scores.top1_answered)]
    if report.threshold > 0.0:
        shares.append((f"of frames score {report.threshold:g} or more", scores.coverage))
        shares.append((f"top-1 at score {report.threshold:g} or more", scores.top1_above_threshold))
    return shares


def over_time(report: Report, records: Sequence[FrameRecord]) -> list[Strips | Series]:
    """Returns the plots of a recording over time; none where there is too little to show."""
    spec = report.model.spec
    plots: list[Strips | Series | None] = []
    if spec.task == "multiclass":
        plots.append(timeline(records, (*spec.class_names, UNKNOWN) if spec.unknown else spec.class_names))
    elif spec.task == "multilabel":
        plots.append(presence(records, spec.class_names))
    else:
        numbers = zip(spec.class_names, spec.units, strict=True)
        plots += [series(records, index, name, unit) for index, (name, unit) in enumerate(numbers)]
    return [plot for plot in plots if plot is not None]


def tables(report: Report, records: Sequence[FrameRecord]) -> ClassTables | LabelTable | NumberTable:
    """Returns what is shown of all scored frames."""
    scores, spec = report.scores, report.model.spec
    if isinstance(scores, RegressionScores):
        plots = (scatter(records, index, number.name) for index, number in enumerate(scores.numbers))
        return NumberTable(scores.numbers, tuple(plot for plot in plots if plot is not None))
    if isinstance(scores, MultilabelScores):
        return LabelTable(scores.classes)
    confusion = np.array(scores.confusion, np.int64)
    if spec.unknown is None:
        return class_tables(confusion, spec.class_names, "frames")
    square = np.vstack((confusion, np.zeros((1, confusion.shape[1]), np.int64)))  # nothing is known to be unknown
    return class_tables(square, (*spec.class_names, UNKNOWN), "frames")


def order_of_worst(spec: ModelSpec) -> str:
    """Returns in which order the worst frames are shown."""
    if spec.task == "regression":
        return "the largest error of a number first; at most a few of the same second"
    if spec.task == "multilabel":
        return "wrong classes first, the farthest from their thresholds at the top; then the closest calls"
    return "mistakes first, the most confident one at the top; then the closest calls"

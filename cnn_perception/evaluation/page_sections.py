"""The parts of the evaluation's page that depend on the model's task."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.plots import Scatter, Series, Strips, presence, scatter, series, timeline
from cnn_perception.evaluation.recording.drawings import (
    ReliabilityDiagram,
    TradeOffCurve,
    reliability_diagram,
    trade_off_curve,
)
from cnn_perception.evaluation.recording.video import resized_to_view
from cnn_perception.evaluation.report_record import Report
from cnn_perception.image.messages import RgbImage
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.masks.drawing import colour_of, coloured
from cnn_perception.masks.scores import OTHER, MaskScores, in_words
from cnn_perception.masks.segmentation import MaskedPicture
from cnn_perception.model.spec import UNKNOWN, ModelSpec
from cnn_perception.pages import data_url
from cnn_perception.pages.class_tables import ClassTables, class_tables
from cnn_perception.pages.rendering import percent
from cnn_perception.tasks.multiclass import MulticlassScores
from cnn_perception.tasks.multilabel import LabelReport, MultilabelScores
from cnn_perception.tasks.registry import task_of
from cnn_perception.tasks.regression import NumberReport, RegressionScores
from cnn_perception.tasks.rules import Figure


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


@dataclass(frozen=True)
class MaskTable:
    """The score map against masks.

    Attributes:
        scores: The figures.
        text: The most important ones, in words.
        rows: (class, IoU, share of the pixels that are it, that are called it, IoU of the whole image's class).
        legend: (class, colour).
        pictures: (what it is, URL) of the worst frames: each as it is, as its mask has it, as it was answered.
    """

    template: ClassVar[str] = "masks.html"
    scores: MaskScores
    text: str
    rows: tuple[tuple[str, float | None, float, float, float | None], ...]
    legend: tuple[tuple[str, str], ...]
    pictures: tuple[tuple[str, str], ...]


def mask_table(scores: MaskScores, pictures: Sequence[MaskedPicture]) -> MaskTable:
    """Returns what is shown of masks."""
    names = [one.name for one in scores.label_map.classes]
    of_whole = {one.name: one.iou for one in scores.whole_image.classes}
    pixels = scores.pixels or 1
    coloured_names = [name for name in names if name != OTHER]
    return MaskTable(
        scores=scores,
        text=in_words(scores),
        rows=tuple(
            (one.name, one.iou, one.truth_pixels / pixels, one.answered_pixels / pixels, of_whole[one.name])
            for one in scores.label_map.classes
        ),
        legend=tuple((name, "#{:02x}{:02x}{:02x}".format(*colour_of(i))) for i, name in enumerate(coloured_names)),
        pictures=tuple(_masked_picture(one, len(coloured_names)) for one in pictures),
    )


def _masked_picture(picture: MaskedPicture, count: int) -> tuple[str, str]:
    views = [picture.image, *(coloured(picture.image, one, count) for one in (picture.truth, picture.answers))]
    row = RgbImage(np.concatenate([resized_to_view(view) for view in views], axis=1))
    return f"{picture.name}: {percent(picture.accuracy)} of its pixels right", data_url.of_image(row)


def key_figures(report: Report) -> list[tuple[str, str]]:
    """Returns (what it is, figure) of the most important figures."""
    return [_card(one) for one in report.scores.figures(report.model.spec, report.threshold)]


def _card(figure: Figure) -> tuple[str, str]:
    def shown(value: float) -> str:
        return percent(value) if figure.is_share else f"{value:.3g}"

    if figure.interval is None:
        return figure.name, shown(figure.value)
    low, high = figure.interval
    return f"{figure.name}; 95 %: {shown(low)} to {shown(high)}", shown(figure.value)


def over_time(report: Report, records: Sequence[FrameRecord]) -> list[Strips | Series]:
    """Returns the plots of a recording over time; none where there is too little to show."""
    spec = report.model.spec
    drawn_as = task_of(spec.task).timeline
    plots: list[Strips | Series | None] = []
    if drawn_as == "strips":
        plots.append(timeline(records, dict.fromkeys((*spec.class_names, UNKNOWN))))
    elif drawn_as == "presence":
        plots.append(presence(records, spec.class_names))
    else:
        numbers = zip(spec.class_names, spec.units, strict=True)
        plots += [series(records, index, name, unit) for index, (name, unit) in enumerate(numbers)]
    return [plot for plot in plots if plot is not None]


def tables(report: Report, records: Sequence[FrameRecord]) -> list[ClassTables | LabelTable | NumberTable]:
    """Returns what is shown of all scored frames; nothing for scores of a kind that has no table."""
    scores = report.scores
    if isinstance(scores, MulticlassScores):
        return [_class_tables(scores, report.model.spec)]
    if isinstance(scores, MultilabelScores):
        return [LabelTable(scores.classes)]
    if isinstance(scores, RegressionScores):
        plots = (scatter(records, index, number.name) for index, number in enumerate(scores.numbers))
        return [NumberTable(scores.numbers, tuple(plot for plot in plots if plot is not None))]
    return []


def curves(report: Report) -> list[ReliabilityDiagram | TradeOffCurve]:
    """Returns what is drawn of scores and thresholds; nothing for numbers."""
    drawn: list[ReliabilityDiagram | TradeOffCurve] = []
    if report.calibration is not None:
        is_exclusive = task_of(report.model.spec.task).is_exclusive
        drawn.append(reliability_diagram(report.calibration, is_exclusive=is_exclusive))
    if report.trade_off is not None:
        drawn.append(trade_off_curve(report.trade_off))
    return drawn


def _class_tables(scores: MulticlassScores, spec: ModelSpec) -> ClassTables:
    confusion = np.array(scores.confusion, np.int64)
    count = max(confusion.shape)
    if count == len(spec.class_names):
        return class_tables(confusion, spec.class_names, "frames")
    square = np.zeros((count, count), np.int64)  # a row for frames of no class, a column for unknown answers
    square[: len(confusion), : confusion.shape[1]] = confusion
    shown = class_tables(square, (*spec.class_names, UNKNOWN), "frames")
    last = [dataclasses.replace(row, name=NONE_OF_THESE) for row in shown.confusion if row.name == UNKNOWN]
    others = [row for row in shown.confusion if row.name != UNKNOWN]
    return dataclasses.replace(shown, confusion=(*others, *last))


def order_of_worst(spec: ModelSpec) -> str:
    """Returns in which order the worst frames are shown."""
    return task_of(spec.task).order_of_worst

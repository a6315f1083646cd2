"""The parts of the evaluation's page that depend on the model's task."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.plots import render_presence, render_scatter, render_series, render_timeline
from cnn_perception.evaluation.report_record import Report
from cnn_perception.model.spec import UNKNOWN, ModelSpec
from cnn_perception.pages import page
from cnn_perception.tasks.multiclass import MulticlassScores
from cnn_perception.tasks.multilabel import MultilabelScores
from cnn_perception.tasks.registry import task_of
from cnn_perception.tasks.regression import RegressionScores


def cards(report: Report) -> list[tuple[str, str]]:
    """Returns (what it is, figure as HTML) of the most important figures."""
    figures = report.scores.figures(report.model.spec, report.threshold)
    return [(one.name, page.percent(one.value) if one.is_share else f"{one.value:.3g}") for one in figures]


def over_time(report: Report, records: Sequence[FrameRecord]) -> str:
    """Returns the picture of a recording over time, as HTML; empty where there is too little to show."""
    spec = report.model.spec
    timeline = task_of(spec.task).timeline
    if timeline == "strips":
        return render_timeline(records, (*spec.class_names, UNKNOWN) if spec.unknown else spec.class_names)
    if timeline == "presence":
        return render_presence(records, spec.class_names)
    series = (
        (name, render_series(records, index, unit))
        for index, (name, unit) in enumerate(zip(spec.class_names, spec.units, strict=True))
    )
    return "".join(f"<p><b>{escape(name)}</b></p>{drawn}" for name, drawn in series if drawn)


def figures(report: Report, records: Sequence[FrameRecord]) -> str:
    """Returns tables and pictures of all scored frames, as HTML."""
    scores, spec = report.scores, report.model.spec
    if isinstance(scores, RegressionScores):
        return _numbers(scores, records)
    if isinstance(scores, MultilabelScores):
        return _labels(scores)
    if not isinstance(scores, MulticlassScores):
        return ""
    confusion = np.array(scores.confusion, np.int64)
    if spec.unknown is None:
        return page.classes(confusion, spec.class_names, "frames")
    square = np.vstack((confusion, np.zeros((1, confusion.shape[1]), np.int64)))  # nothing is known to be unknown
    return page.classes(square, (*spec.class_names, UNKNOWN), "frames")


def order_of_worst(spec: ModelSpec) -> str:
    """Returns in which order the worst frames are shown."""
    return task_of(spec.task).order_of_worst


def _labels(scores: MultilabelScores) -> str:
    rows = []
    for row in scores.classes:
        values = (row.average_precision, row.precision, row.recall, row.f1)
        bars = "".join(f"<td>{page.bar(value, page.percent(value))}</td>" for value in values)
        rows.append(f"<tr><td>{escape(row.name)}</td><td>{row.support}</td><td>{row.threshold:.3g}</td>{bars}</tr>")
    names = ("class", "frames", "threshold", "average precision", "precision", "recall", "F1")
    head = "".join(f"<th>{name}</th>" for name in names)
    note = '<p class="soft small">average precision is over all thresholds, the others are at the class\'s own</p>'
    table = f'<div class="scroll"><table class="plain"><tr>{head}</tr>{"".join(rows)}</table></div>'
    return page.section("Per class", note + table)


def _numbers(scores: RegressionScores, records: Sequence[FrameRecord]) -> str:
    rows = "".join(
        f"<tr><td>{escape(n.name)}</td><td>{escape(n.unit)}</td><td>{n.mae:.4g}</td><td>{n.mae_of_mean:.4g}</td>"
        f"<td>{n.rmse:.4g}</td><td>{n.r2:.3f}</td></tr>"
        for n in scores.numbers
    )
    head = "".join(f"<th>{name}</th>" for name in ("number", "unit", "MAE", "MAE of the mean", "RMSE", "R2"))
    note = '<p class="soft small">MAE of the mean: of always answering the mean of these truths</p>'
    table = f'{note}<div class="scroll"><table class="plain"><tr>{head}</tr>{rows}</table></div>'
    drawn = "".join(
        page.section(f"{number.name}: predicted and true", render_scatter(records, index))
        for index, number in enumerate(scores.numbers)
    )
    return f'<div class="columns">{page.section("Errors", table)}{drawn}</div>'

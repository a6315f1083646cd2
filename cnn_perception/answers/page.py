"""Answers as one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from cnn_perception.answers.agreement import Agreement, Difference
from cnn_perception.answers.over_time import Percentiles
from cnn_perception.answers.recorded_report import RecordedReport
from cnn_perception.answers.stream_report import StreamReport
from cnn_perception.evaluation.plots import Strips
from cnn_perception.intervals import Estimate
from cnn_perception.pages.rendering import percent, render

Rows = list[tuple[str, str]]
"""(what it is, text) of each line."""


@dataclass(frozen=True)
class Section:
    """A table of the page.

    Attributes:
        heading: Above it.
        rows: (what it is, text) of each line; several texts where there are columns.
        note: Above the rows.
        columns: What each of several texts is of.
    """

    heading: str
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnswersPage:
    """What the page shows.

    Attributes:
        title: Of the page.
        about: (what, name) of the sources.
        complete: Whether nothing is missing.
        required: What had to be reached; empty for nothing.
        passed: Whether it was; None if nothing had to be.
        figures: The most important ones.
        remarks: What is missing.
        warnings: What is odd.
        sections: The tables.
        differences: Frames that were answered otherwise than offline.
        strips: What is known and answered over time; None where there is nothing to draw.
    """

    title: str
    about: Rows
    complete: bool
    required: str
    passed: bool | None
    figures: Rows
    remarks: Sequence[str]
    warnings: Sequence[str]
    sections: Sequence[Section]
    differences: Sequence[Difference] = ()
    strips: Strips | None = None


def render_page(page: AnswersPage) -> str:
    """Returns the text of the page."""
    return render(
        "cnn_perception.answers",
        "answers.html",
        title=page.title,
        about=page.about,
        outcome=_outcome(page),
        figures=page.figures,
        remarks=page.remarks,
        warnings=page.warnings,
        sections=page.sections,
        differences=page.differences,
        strips=page.strips,
        strips_note="the latest answer at each moment; the ages of answers shift it to the right",
    )


def render_recorded(report: RecordedReport, strips: Strips | None) -> str:
    """Returns the text of `answers.html`."""
    answers = Section("Answers", stream_rows(report.stream), time_words(report.stream))
    sections = [answers, Section("Frames", _frame_rows(report))]
    if report.agreement is not None:
        sections.append(Section("Beside the model offline", agreement_rows(report.agreement, report.offline)))
    if report.model is not None:
        model = report.model
        rows = [("file", model.path), ("SHA-256", model.sha256), ("architecture", model.architecture)]
        sections.append(Section("Model", [*rows, ("execution provider", model.provider)]))
    about = [("bag", report.source), ("answers", report.stream.topic), ("images", report.topic)]
    return render_page(
        AnswersPage(
            title=f"Answers recorded in {PurePath(report.source).name}",
            about=[pair for pair in [*about, ("labels", report.labels)] if pair[1]],
            complete=report.complete,
            required=report.required,
            passed=report.passed,
            figures=stream_figures(report.stream) + _delay_card(report.delay_ms),
            remarks=report.remarks,
            warnings=report.warnings,
            sections=sections,
            differences=report.agreement.differences if report.agreement else (),
            strips=strips,
        )
    )


def stream_figures(stream: StreamReport) -> Rows:
    """Returns the most important figures of a stream of answers."""
    found = [("answers", str(stream.answers))]
    if stream.scores.accuracy is not None:
        one = stream.scores.accuracy
        text = f"right answers; 95 %: {percent(one.low)} to {percent(one.high)}"
        found.append((text, percent(one.value)))
    if stream.in_time.accuracy is not None:
        found.append(("of the time the latest answer is right", percent(stream.in_time.accuracy)))
    found += [(f"MAE of {one.name}", f"{one.mae:.4g}") for one in stream.scores.errors]
    if stream.unknown:
        found.append(("of the answers unknown", percent(stream.unknown)))
    return found


def stream_rows(stream: StreamReport) -> Rows:
    """Returns all figures of a stream of answers."""
    counts = (
        ("topic", stream.topic),
        ("answers", str(stream.answers)),
        ("that belong to a frame", str(stream.matched)),
        ("with a stamp of no frame", str(stream.strangers)),
        ("to frames that had one already", str(stream.repeated)),
        ("frames whose stamp leaves open which answer is theirs", str(stream.ambiguous)),
        ("unknown", percent(stream.unknown)),
        ("without any class", str(stream.nothing)),
        ("labelled frames answered", str(stream.scores.scored)),
        ("labelled frames not answered", str(stream.scores.unanswered)),
    )
    return [*counts, *_quality_rows(stream), *_change_rows(stream)]


def _quality_rows(stream: StreamReport) -> Rows:
    rows = [(f"MAE of {one.name}", f"{one.mae:.4g}") for one in stream.scores.errors]
    if stream.scores.accuracy is not None:
        rows.append(("right answers", stream.scores.accuracy.in_percent()))
    if stream.scores.sampling is not None:
        worth = stream.scores.sampling.independent_frames
        rows.append(("as many independent frames would say as much", f"{worth:.0f}"))
    latest = stream.in_time
    if latest.accuracy is not None:
        text = f"{percent(latest.accuracy)} of {latest.labelled_s:.1f} s"
        rows.append(("time in which the latest answer is right", text))
    rows += [("MAE of the latest answer in time", f"{error:.4g}") for error in latest.errors]
    return [*rows, ("labelled time before the first answer", f"{latest.silent_s:.2f} s")]


def _change_rows(stream: StreamReport) -> Rows:
    rows = []
    if stream.changes_per_minute is not None:
        rows.append(("changes of the answer a minute", f"{stream.changes_per_minute:.1f}"))
    if stream.change_delays is not None and stream.change_delays.changes:
        found = stream.change_delays
        rows.append(("changes of what is known", f"{found.changes}, of which {found.missed} were missed"))
        rows.append(("delay of the others", in_milliseconds(found.delay_ms)))
    return rows


def agreement_rows(agreement: Agreement, offline: Estimate | None) -> Rows:
    """Returns what is said of answers beside those of the model offline."""
    rows = [
        ("answers compared", str(agreement.compared)),
        ("same answer", str(agreement.same_answer)),
        (f"same scores, within {agreement.tolerance:g}", str(agreement.same)),
        ("largest difference of a score or number", f"{agreement.largest:.2g}"),
    ]
    return rows + ([] if offline is None else [("right answers offline, of all labelled frames", offline.in_percent())])


def time_words(stream: StreamReport) -> str:
    """Returns how far the figures of a stream can be believed; empty where nothing was scored."""
    return stream.scores.sampling.in_words if stream.scores.sampling else ""


def in_milliseconds(found: Percentiles) -> str:
    """Returns percentiles on one line."""
    if not found.count:
        return "none"
    return f"p50 {found.p50_ms:.1f} ms, p95 {found.p95_ms:.1f} ms, p99 {found.p99_ms:.1f} ms"


def _frame_rows(report: RecordedReport) -> Rows:
    rows = [
        ("images", str(report.images)),
        ("without an answer", str(report.unanswered)),
        ("without a stamp", str(report.without_stamp)),
    ]
    return rows if report.delay_ms is None else [*rows, ("from image to answer", in_milliseconds(report.delay_ms))]


def _delay_card(delay_ms: Percentiles | None) -> Rows:
    if delay_ms is None or not delay_ms.count:
        return []
    return [("from image to answer, median", f"{delay_ms.p50_ms:.1f} ms")]


def _outcome(page: AnswersPage) -> tuple[str, str]:
    """Returns `good`, `bad` or nothing, and the outcome in words."""
    if not page.required:
        kind, text = "", "no target set"
    else:
        kind, text = ("good", f"Passed: {page.required}") if page.passed else ("bad", f"Missed: {page.required}")
    return (kind, text) if page.complete else ("bad", f"Incomplete; {text}")

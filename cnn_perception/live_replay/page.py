"""A replay as one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

from pathlib import PurePath

from cnn_perception.answers.page import (
    AnswersPage,
    Rows,
    Section,
    agreement_rows,
    in_milliseconds,
    render_page,
    stream_figures,
    stream_rows,
    time_words,
)
from cnn_perception.evaluation.plots import Strips
from cnn_perception.live_replay.report import LiveReport


def render_live(report: LiveReport, strips: Strips | None) -> str:
    """Returns the text of `live.html`; `strips` are what is known and answered over time."""
    about = [("bag", report.source), ("images", report.topic), ("labels", report.labels)]
    sections = [
        Section("What became of every frame", frame_rows(report)),
        Section("Age and rate", pace_rows(report)),
        _answers(report),
        Section("Same frame, same answer", agreement_rows(report.agreement, report.offline)),
        Section("Node", _node_rows(report)),
    ]
    return render_page(
        AnswersPage(
            title=f"{report.model.architecture} live on {PurePath(report.source).name}",
            about=[pair for pair in about if pair[1]],
            complete=report.complete,
            required=report.required,
            passed=report.passed,
            figures=[*stream_figures(report.answers), *_cards(report)],
            remarks=report.remarks,
            warnings=[*report.warnings, *(f"the node said: {line}" for line in report.node.said)],
            sections=sections,
            differences=report.agreement.differences,
            strips=strips,
        )
    )


def _cards(report: LiveReport) -> Rows:
    frames = report.frames
    return [
        (f"frames answered of {frames.published} published", str(frames.answered)),
        ("age of an answer, median", f"{report.age_ms.p50_ms:.1f} ms"),
        ("answered as offline", f"{report.agreement.same} of {report.agreement.compared}"),
    ]


def frame_rows(report: LiveReport) -> Rows:
    """Returns what became of every frame, a row each."""
    frames = report.frames
    dropped = [(f"dropped: {reason}", str(count)) for reason, count in sorted(frames.dropped.items())]
    rows = [
        ("images in the bag", str(frames.in_bag)),
        ("that cannot be read, and were not published", str(frames.unreadable)),
        ("not published, because the replay ended early", str(frames.unplayed)),
        ("published", str(frames.published)),
        ("answered", str(frames.answered)),
        ("overtaken by a newer one", str(frames.overtaken)),
        ("lost on the way to the node", str(frames.lost)),
        *dropped,
        ("unaccounted for", str(frames.unaccounted)),
        ("answers that did not arrive here", str(frames.unheard)),
    ]
    return rows + [(f"odd, but used: {kind}", str(count)) for kind, count in sorted(report.odd.items())]


def pace_rows(report: LiveReport) -> Rows:
    """Returns how old answers were, and whether the rate was kept."""
    pace = report.pace
    kept = "kept" if pace.is_kept else "NOT kept: the figures are those of this machine"
    return [
        ("age, from publication to the answer's arrival", in_milliseconds(report.age_ms)),
        ("rate", f"{pace.achieved:.3g} of {pace.wanted:g} times as recorded, {kept}"),
        ("images published late, p95", f"{pace.late_p95_ms:.1f} ms, of {pace.interval_ms:.1f} ms between two"),
        ("pauses skipped", f"{report.skipped_s:.1f} s"),
        ("images published on", f"{report.played_on}, {report.qos}"),
    ]


def _answers(report: LiveReport) -> Section:
    """Returns the figures of the answers, beside those of single frames where the node smooths."""
    found = report.steadiness
    words = f" {time_words(report.answers)}".rstrip()
    if not found.is_on:
        return Section("Answers", stream_rows(report.answers), f"The node does not smooth.{words}")
    note = (
        f"Smoothed with smoothing_s {found.smoothing_s:g}, hysteresis {found.hysteresis:g}, hold_s {found.hold_s:g}: "
        f"an earlier answer was held at {found.held} of {found.compared} frames.{words}"
    )
    alone = dict(stream_rows(report.raw))
    rows = [(name, text, alone.get(name, "")) for name, text in stream_rows(report.answers)]
    return Section("Answers", rows, note, ("as published", "of single frames"))


def _node_rows(report: LiveReport) -> Rows:
    model, node = report.model, report.node
    return [
        ("model", model.path),
        ("SHA-256", model.sha256),
        ("execution provider, offline", model.provider),
        ("CPU", f"{node.cpu_s:.1f} s, {node.cores:.2f} cores on average"),
        ("memory, at most", f"{node.peak_mb:.0f} MB"),
        *((f"{stage}, p50 / p95", f"{text} ms") for stage, text in node.stages_ms.items()),
        ("log", node.log),
    ]

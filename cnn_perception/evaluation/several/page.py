"""The report of several bags as one HTML page, which links the page of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.page import shared_parts
from cnn_perception.evaluation.page_sections import mask_table
from cnn_perception.evaluation.several.pooled import BagRow, PooledReport, WorstOfBags
from cnn_perception.evaluation.several.slices import FEWEST_FRAMES, SliceScore
from cnn_perception.files import as_utf8
from cnn_perception.label_text import shown
from cnn_perception.pages.rendering import percent, render
from cnn_perception.tasks.registry import task_of
from cnn_perception.tasks.rules import Figure

_MOST_SLICES = 20


@dataclass(frozen=True)
class _ShownBag:
    """A row of the table of bags, as texts; `link` is empty where there is no page, `share` None of numbers."""

    name: str
    link: str
    kind: str
    state: str
    recording: str
    frames: str
    share: float | None
    figure: str
    interval: str


@dataclass(frozen=True)
class _ShownSlice:
    """A row of the table of slices, as texts; `share` is None of numbers."""

    kind: str
    name: str
    frames: str
    share: float | None
    figure: str
    interval: str
    is_worse: bool


def render_bags(pooled: PooledReport, records: Sequence[FrameRecord]) -> str:
    """Returns the page.

    Args:
        pooled: The figures.
        records: All frames of all bags.

    Returns:
        The text of `report.html`.
    """
    has_classes = task_of(pooled.report.model.spec.task).has_classes
    figures = [row.figures[0].name for row in pooled.bags if row.figures]
    worse = sum(one.is_worse for one in pooled.slices)
    return render(
        "cnn_perception.evaluation",
        "bags.html",
        **shared_parts(pooled.report, records),
        masks=mask_table(pooled.report.masks, ()) if pooled.report.masks else None,
        bags=[_shown_bag(row, required=pooled.each is not None) for row in pooled.bags],
        figure_name=figures[0] if figures else "figure",
        each=str(pooled.each) if pooled.each else "",
        slices=[_shown_slice(one, has_classes=has_classes) for one in pooled.slices[:_MOST_SLICES]],
        slice_count=len(pooled.slices),
        slice_figure="right answers" if has_classes else "mean error",
        worse_count=worse,
        fewest_frames=FEWEST_FRAMES,
        worst=[_shown_frame(one) for one in pooled.worst_of_bags],
    )


def link_to(name: str) -> str:
    """Returns the address of a bag's page beside this one; a name that begins with a word and a colon is no scheme."""
    return f"./{quote_from_bytes(name.encode(errors='surrogateescape'))}/report.html"


def _shown_bag(row: BagRow, *, required: bool) -> _ShownBag:
    if row.failure:
        return _ShownBag(row.name, "", "wrong", f"not evaluated: {row.failure}", "", "", None, "", "")
    state = "complete" if row.complete else "; ".join(row.remarks)
    if required:
        state = f"{'reached' if row.passed else 'missed'}, {state}"
    kind = "wrong" if not row.complete or row.passed is False else "right"
    facts = row.recording
    recording = f"{facts.start}, {facts.length_s:.1f} s, {facts.rate_hz:.1f} Hz" if facts else ""
    counts = row.frames
    frames = f"{counts.scored} of {counts.total}" if counts else ""
    figure = row.figures[0] if row.figures else None
    share = figure.value if figure and figure.is_share else None
    return _ShownBag(row.name, link_to(row.name), kind, state, recording, frames, share, *_texts(figure))


def _texts(figure: Figure | None) -> tuple[str, str]:
    """Returns a figure and its interval as texts."""
    if figure is None:
        return "\N{EN DASH}", ""
    return _text(figure.value, figure.is_share), _range(figure.interval, figure.is_share)


def _text(value: float, is_share: bool) -> str:
    return percent(value) if is_share else f"{value:.3g}"


def _range(ends: tuple[float, float] | None, is_share: bool) -> str:
    return " to ".join(_text(end, is_share) for end in ends) if ends else ""


def _shown_slice(one: SliceScore, *, has_classes: bool) -> _ShownSlice:
    return _ShownSlice(
        kind=one.kind,
        name=one.name,
        frames=f"{one.frames}, like {one.independent_frames:.0f}",
        share=one.value if has_classes else None,
        figure=_text(one.value, has_classes),
        interval=_range((one.low, one.high), has_classes),
        is_worse=one.is_worse,
    )


def _shown_frame(worst: WorstOfBags) -> tuple[str, str, str, str, str]:
    """Returns (bag, link, frame, what is known, what was answered) of one of the worst frames."""
    frame = worst.frame
    known = "unlabelled" if frame.truth is None else shown(frame.truth)
    score = "" if frame.score is None else f" {percent(frame.score)}"
    place = f"frame {frame.index}, {frame.time_s:.2f} s"
    name = as_utf8(worst.bag).decode()
    return name, link_to(worst.bag), place, known, f"{shown(frame.predicted)}{score}"

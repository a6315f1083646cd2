"""A comparison as one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

from dataclasses import dataclass

from cnn_perception.comparison.comparison import ChangedFrame, Comparison, Measure, Slice
from cnn_perception.comparison.report import words
from cnn_perception.comparison.report.pictures import MOST_PICTURES, Shown, chosen
from cnn_perception.comparison.report.record import ComparisonReport, Pictures
from cnn_perception.label_text import Truth, shown, text_of
from cnn_perception.pages import data_url
from cnn_perception.pages.rendering import render

_MOST_SLICES = 80


@dataclass(frozen=True)
class _Row:
    """A figure of both models, in words; `kind` is `good`, `bad` or empty."""

    name: str
    frames: int
    theirs: str
    ours: str
    gain: str
    kind: str
    change: str


@dataclass(frozen=True)
class _Picture:
    """A frame that changed.

    Attributes:
        url: Its picture; empty where there is none.
        truth: What is known of it.
        theirs: What the baseline answered.
        ours: What is answered now.
        kind: `right` or `wrong`, what the answer now is; empty for numbers.
        place: Where it is.
    """

    url: str
    truth: str
    theirs: str
    ours: str
    kind: str
    place: str


@dataclass(frozen=True)
class _Gallery:
    """Frames of one kind of change, and how many there are."""

    title: str
    text: str
    pictures: tuple[_Picture, ...]


def page(report: ComparisonReport) -> str:
    """Returns the text of comparison.html."""
    found = report.comparison
    headline = found.headline
    slices = [_slice_row(one) for one in found.slices]
    return render(
        "cnn_perception.comparison.report",
        "comparison.html",
        title=f"{report.ours.path} against {report.theirs.path}",
        report=report,
        heading=words.heading(found),
        cards=[
            (f"{headline.name}, baseline", words.figure(headline, headline.theirs)),
            (f"{headline.name}, now", words.figure(headline, headline.ours)),
            (f"gain, {found.points}", f"{100 * headline.difference.value:+.1f}"),
            ("frames", str(found.frames)),
        ],
        detectable=words.detectable(found),
        measures=[_measure_row(one) for one in (headline, *found.measures)],
        slices=slices[:_MOST_SLICES],
        more_slices=max(len(slices) - _MOST_SLICES, 0),
        galleries=[_gallery(found, report.pictures, "lost"), _gallery(found, report.pictures, "gained")],
        method=words.method(headline.difference, is_share=headline.scale == "share"),
        slice_count=len(slices),
        models=_models(report),
    )


def wanted(comparison: Comparison) -> list[ChangedFrame]:
    """Returns the frames whose pictures the page shows."""
    return [*chosen(comparison.lost).frames, *chosen(comparison.gained).frames]


def _measure_row(measure: Measure) -> _Row:
    return _row(measure.name, measure, "", "")


def _slice_row(part: Slice) -> _Row:
    kinds = {"better": "good", "worse": "bad", "not shown": ""}
    change = "" if part.change == "not shown" else part.change
    return _row(f"{part.kind}: {part.name}", part.measure, kinds[part.change], change)


def _row(name: str, measure: Measure, kind: str, change: str) -> _Row:
    theirs = words.figure(measure, measure.theirs)
    ours = words.figure(measure, measure.ours)
    return _Row(name, measure.difference.frames, theirs, ours, words.gain(measure), kind, change)


def _gallery(found: Comparison, pictures: Pictures, direction: str) -> _Gallery:
    changed = found.lost if direction == "lost" else found.gained
    kept = chosen(changed)
    title = words.counted(len(changed), found, direction)
    shown_frames = tuple(_picture(one, pictures, found) for one in kept.frames)
    return _Gallery(title, _choice(kept), shown_frames)


def _choice(kept: Shown) -> str:
    """Returns how the shown frames were chosen."""
    if kept.events <= MOST_PICTURES:
        return "one frame of each event: like changes that follow each other within a second"
    return f"one frame of each of the largest {MOST_PICTURES} of {kept.events} events: like changes in a row"


def _picture(changed: ChangedFrame, pictures: Pictures, found: Comparison) -> _Picture:
    frame = changed.frame
    image = pictures.get((frame.bag, frame.topic, frame.index))
    kind = ""
    if found.headline.scale == "share":
        kind = "wrong" if changed.gain < 0 else "right"
    place = frame.name or f"{frame.topic}, frame {frame.index}, stamp {frame.stamp_ns / 1e9:.3f} s"
    if found.bags > 1:
        place = f"{frame.bag}: {place}"
    url = data_url.of_image(image) if image is not None else ""
    return _Picture(url, _answer(frame.truth), _answer(frame.theirs.given), _answer(frame.ours.given), kind, place)


def _answer(answer: Truth | None) -> str:
    return "no answer" if answer is None else shown(text_of(answer))


def _models(report: ComparisonReport) -> list[tuple[str, str]]:
    return [
        ("model", report.ours.path),
        ("its SHA-256", report.ours.sha256),
        ("baseline", report.theirs.path),
        ("its SHA-256", report.theirs.sha256),
        ("recording", report.source),
        ("compared at (UTC)", report.created),
    ]

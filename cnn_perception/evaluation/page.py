"""The evaluation as one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.page_sections import curves, key_figures, mask_table, order_of_worst, over_time, tables
from cnn_perception.evaluation.recording.drawings import facts_table
from cnn_perception.evaluation.report_record import Report, WorstFrame
from cnn_perception.label_text import shown
from cnn_perception.masks.segmentation import MaskedPicture
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.pages.model_facts import facts_of
from cnn_perception.pages.rendering import percent, render


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame for a human's attention, and its overlay as a data URL, a tenth as large as its pixels."""

    frame: WorstFrame
    url: str


@dataclass(frozen=True)
class _Outcome:
    """Whether the target was reached: `good`, `bad` or empty, and in words."""

    kind: str
    text: str


@dataclass(frozen=True)
class _CaptionedPicture:
    """A worst frame as the page shows it.

    Attributes:
        url: The picture itself.
        kind: `right`, `wrong`, or empty where that cannot be said.
        predicted: What was answered, as in label files.
        answer: The same for a human, with the score.
        remark: What is known of the frame.
        place: Where it is in the bag or the folder, and how close the answer was.
    """

    url: str
    kind: str
    predicted: str
    answer: str
    remark: str
    place: str


def render_html(
    report: Report,
    records: Sequence[FrameRecord],
    pictures: Sequence[Picture],
    masked: Sequence[MaskedPicture] = (),
    video: str = "",
) -> str:
    """Returns the page.

    Args:
        report: The figures.
        records: All frames, in order; used for the timeline.
        pictures: The worst frames, the worst first.
        masked: The frames whose label maps fit their masks worst.
        video: Name of the overlay video beside the page; empty without one.

    Returns:
        The text of `report.html`.
    """
    return render(
        "cnn_perception.evaluation",
        "report.html",
        **shared_parts(report, records),
        timelines=over_time(report, records) if report.topic else [],
        facts=facts_table(report.recording) if report.recording else [],
        masks=mask_table(report.masks, masked) if report.masks else None,
        order_of_worst=order_of_worst(report.model.spec),
        pictures=[_captioned(picture, is_bag=bool(report.topic)) for picture in pictures],
        video=video,
        longest_ms=max((row.p50_ms for row in report.latency.values()), default=0.0) or 1.0,
    )


def shared_parts(report: Report, records: Sequence[FrameRecord]) -> dict[str, object]:
    """Returns what the page of one bag or folder and that of several bags show alike, by the names in the templates."""
    return {
        "title": f"{report.model.spec.architecture} on {PurePath(report.source).name}",
        "report": report,
        "outcome": _outcome(report),
        "figures": _figures(report),
        "tables": tables(report, records) if report.scores.frames.scored else [],
        "curves": curves(report),
        "frames": _frames(report),
        "model": _model_card(report),
    }


def _outcome(report: Report) -> _Outcome:
    kind = ""
    text = "no target set"
    if report.target is not None:
        kind = "good" if report.passed else "bad"
        text = f"{'Passed' if report.passed else 'Missed'}: {report.target}"
    return _Outcome(kind, text) if report.complete else _Outcome("bad", f"Incomplete; {text}")


def _figures(report: Report) -> list[tuple[str, str]]:
    inference = report.latency.get("inference")
    frames = report.scores.frames
    rows = key_figures(report)
    rows.append((f"frames scored of {frames.total}", str(frames.scored)))
    rows.append(("frames per second, all included", f"{report.frames_per_second:.1f}"))
    if inference is not None:
        rows.append(("inference, median", f"{inference.p50_ms:.1f} ms"))
    return rows


def _captioned(picture: Picture, *, is_bag: bool) -> _CaptionedPicture:
    frame = picture.frame
    place = f"{frame.name or f'frame {frame.index}'}, {frame.time_s:.2f} s" if is_bag else frame.name
    answer = shown(frame.predicted)
    if frame.score is not None and frame.margin is not None:
        answer += f" {percent(frame.score)}" if frame.predicted != UNKNOWN else ""
        place += f", margin {frame.margin:.2f}"
    elif frame.deviation is not None:
        place += f", off by {frame.deviation:.3g}"
    kind, remark = _judged(frame)
    return _CaptionedPicture(picture.url, kind, frame.predicted, answer, remark, place)


def _judged(frame: WorstFrame) -> tuple[str, str]:
    """Returns whether an answer is right (`right`, `wrong` or empty), and what is known of the frame."""
    if frame.truth is None:
        return "", "unlabelled"
    if frame.is_right:
        return "right", "right"
    return "" if frame.is_right is None else "wrong", f"is {shown(frame.truth)}"


def _frames(report: Report) -> list[tuple[str, int]]:
    frames = report.scores.frames
    bad = [(f"bad: {reason}", count) for reason, count in frames.bad.items()]
    rows = [("scored", frames.scored), ("unlabelled, not scored", frames.unlabelled), *bad, ("all", frames.total)]
    return rows + [(f"not among them: {kind}", count) for kind, count in report.ignored.items()]


def _model_card(report: Report) -> list[tuple[str, str]]:
    """Returns (what it is, text) of everything that the report says of the model."""
    model = report.model
    provider = model.provider + (f" ({model.fallback})" if model.fallback else "")
    found = [("file", model.path), ("SHA-256", model.sha256), ("execution provider", provider)]
    return found + facts_of(model.spec, model.provider)

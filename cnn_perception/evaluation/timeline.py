"""Truth and prediction of a recording over time, as one SVG picture."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.model.spec import UNKNOWN

_BINS = 480
_MOST_LEGENDS = 24
_WRONG, _UNKNOWN = "#c8322b", "#8a94a3"
_PRESENCE = {"seen": "#12805c", "missed": _WRONG, "seen by mistake": "#e09a1f", "seen, unlabelled": "#8fa3bd"}


def render_timeline(records: Sequence[FrameRecord], class_names: Sequence[str]) -> str:
    """Draws truth, prediction and mistakes over time; each column of the picture shows its most frequent class.

    Args:
        records: All frames of a recording, in order.
        class_names: The model's classes; each has its colour.

    Returns:
        HTML with a legend and an SVG picture; empty where there are no two good frames.
    """
    timed, columns = _columns(records)
    if not columns:
        return ""
    truth = [_most_frequent(str(record.truth) for record in column if record.truth) for column in columns]
    predicted = [_most_frequent(record.answer for record in column) for column in columns]
    wrong = ["mistake" if any(record.is_right is False for record in column) else None for column in columns]
    seen = [name for name in class_names if name in {*truth, *predicted}]
    colours = {name: _colour(index) if name != UNKNOWN else _UNKNOWN for index, name in enumerate(seen)}
    strips = [("predicted", predicted, colours)]
    if any(record.truth is not None for record in timed):
        strips = [("truth", truth, colours), *strips, ("mistakes", wrong, {"mistake": _WRONG})]
    return _legend({name: colours[name] for name in seen[:_MOST_LEGENDS]}) + _picture(strips, timed)


def render_presence(records: Sequence[FrameRecord], class_names: Sequence[str]) -> str:
    """Draws of each class when it was seen, and when that was a mistake or not known to be right.

    Args:
        records: All frames of a recording, in order, of a multilabel model.
        class_names: The model's classes; those that neither occur nor were seen are left out.

    Returns:
        HTML with a legend and an SVG picture; empty where there are no two good frames.
    """
    timed, columns = _columns(records)
    strips = []
    for name in class_names:
        found = [_most_frequent(_presence(record, name) for record in column) for column in columns]
        if any(found):
            strips.append((name, found, _PRESENCE))
    if not columns or not strips:
        return ""
    return _legend(_PRESENCE) + _picture(strips[:_MOST_LEGENDS], timed)


def _presence(record: FrameRecord, name: str) -> str | None:
    is_seen = record.prediction is not None and name in record.prediction.seen
    if not isinstance(record.truth, frozenset):
        return "seen, unlabelled" if is_seen else None
    if name in record.truth:
        return "seen" if is_seen else "missed"
    return "seen by mistake" if is_seen else None


def _columns(records: Sequence[FrameRecord]) -> tuple[list[FrameRecord], list[list[FrameRecord]]]:
    """Returns the good frames, and the same by the column of the picture; no columns for less than two frames."""
    timed = [record for record in records if record.prediction is not None]
    if len(timed) < 2:
        return timed, []
    first_s, span_s = timed[0].time_s, max(timed[-1].time_s - timed[0].time_s, 1e-9)
    columns: list[list[FrameRecord]] = [[] for _ in range(min(_BINS, max(len(timed) // 2, 1)))]
    for record in timed:
        share = (record.time_s - first_s) / span_s
        columns[min(max(int(share * len(columns)), 0), len(columns) - 1)].append(record)
    return timed, columns


def _picture(strips: Sequence[tuple[str, Sequence[str | None], dict[str, str]]], timed: Sequence[FrameRecord]) -> str:
    height, first_s = 34 * len(strips), timed[0].time_s
    span_s = max(timed[-1].time_s - first_s, 1e-9)
    drawing = [
        f'<text x="86" y="{34 * row + 19}" text-anchor="end" fill="#5c6b7f">{escape(label[:12])}</text>'
        + _strip(classes, 34 * row, palette)
        for row, (label, classes, palette) in enumerate(strips)
    ]
    for tick in range(6):
        x, time_s = 96 + tick * 180, first_s + tick * span_s / 5
        anchor = "start" if tick == 0 else "end" if tick == 5 else "middle"
        drawing.append(f'<text x="{x}" y="{height + 12}" text-anchor="{anchor}" fill="#5c6b7f">{time_s:.1f} s</text>')
    return f'<svg viewBox="0 0 1000 {height + 18}" width="100%" role="img" font-size="13">{"".join(drawing)}</svg>'


def _legend(colours: dict[str, str]) -> str:
    chips = (
        f'<span class="chip"><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in colours.items()
    )
    return f"<div>{''.join(chips)}</div>"


def _strip(classes: Sequence[str | None], top: int, colours: dict[str, str]) -> str:
    """Draws one row of the timeline from x = 96 to 996; equal neighbours become one rectangle."""
    width = 900 / len(classes)
    rectangles = [f'<rect x="96" y="{top}" width="900" height="28" rx="3" fill="#eef1f5"/>']
    start = 0
    for index in range(1, len(classes) + 1):
        if index < len(classes) and classes[index] == classes[start]:
            continue
        name = classes[start]
        if name is not None:
            place = f'x="{96 + start * width:.2f}" y="{top}" width="{(index - start) * width:.2f}" height="28"'
            rectangles.append(f'<rect {place} fill="{colours[name]}"><title>{escape(name)}</title></rect>')
        start = index
    return "".join(rectangles)


def _most_frequent(names: Iterable[str | None]) -> str | None:
    counts = Counter(names)
    return counts.most_common(1)[0][0] if counts else None


def _colour(index: int) -> str:
    """Spreads hues by the golden angle, so that neighbouring classes differ and any number of them is possible."""
    red, green, blue = colorsys.hls_to_rgb((0.58 + index * 0.61803) % 1.0, 0.52 if index % 2 else 0.62, 0.62)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"

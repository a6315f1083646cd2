"""Answers and truth of a recording as SVG pictures: classes over time, numbers over time and against each other."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.model.spec import UNKNOWN

_COLUMNS = 600
"""More points than this cannot be told apart in a picture."""
_MOST_POINTS = 2000
_TRUE, _FOUND, _SOFT, _LINE = "#16202e", "#d9600f", "#5c6b7f", "#e3e8ef"

_BINS = 480
_MOST_LEGENDS = 24
_WRONG, _UNKNOWN = "#c8322b", "#8a94a3"
_PRESENCE = {"seen": "#12805c", "missed": _WRONG, "seen by mistake": "#e09a1f", "seen, unlabelled": "#8fa3bd"}

_Values = npt.NDArray[np.float64]


def render_series(records: Sequence[FrameRecord], index: int, unit: str) -> str:
    """Draws one number over time, what was answered and what is known; each point is the mean of its column.

    Args:
        records: All frames of a recording, in order.
        index: Which of the model's numbers.
        unit: Of the number; may be empty.

    Returns:
        HTML with a legend and an SVG picture; empty where there are no two good frames.
    """
    good = [record for record in records if record.prediction is not None]
    if len(good) < 2:
        return ""
    times_s = np.array([record.time_s for record in good])
    found = np.array([record.prediction.values[index] for record in good if record.prediction], np.float64)
    true = np.array([r.truth[index] if isinstance(r.truth, tuple) else np.nan for r in good], np.float64)
    first_s, span_s = float(times_s[0]), max(float(times_s[-1] - times_s[0]), 1e-9)
    count = min(_COLUMNS, len(good))
    column = np.clip((times_s - first_s) / span_s * count, 0, count - 1).astype(int)
    low, high = _range(np.concatenate((found, true)))
    drawing = [_level(value, 96, 996, 190 - 180 * (value - low) / (high - low)) for value in _ticks(low, high)]
    for values, colour in ((true, _TRUE), (found, _FOUND)):
        drawing += _lines(values, column, count, (low, high), colour)
    for tick in range(6):
        anchor = "start" if tick == 0 else "end" if tick == 5 else "middle"
        place = f'x="{96 + tick * 180}" y="208" text-anchor="{anchor}" fill="{_SOFT}"'
        drawing.append(f"<text {place}>{first_s + tick * span_s / 5:.1f} s</text>")
    known = _chip(_TRUE, "truth") if np.isfinite(true).any() else ""
    svg = f'<svg viewBox="0 0 1000 214" width="100%" role="img" font-size="13">{"".join(drawing)}</svg>'
    note = f'<span class="soft small">{escape(unit)}</span>' if unit else ""
    return f"<div>{known}{_chip(_FOUND, 'predicted')}{note}</div>{svg}"


def render_scatter(records: Sequence[FrameRecord], index: int) -> str:
    """Draws the answered over the known values of one number; on the diagonal they are equal.

    Args:
        records: All frames.
        index: Which of the model's numbers.

    Returns:
        An SVG picture; empty where no frame was scored.
    """
    pairs = [
        (r.truth[index], float(r.prediction.values[index]))
        for r in records
        if r.prediction and isinstance(r.truth, tuple)
    ]
    if not pairs:
        return ""
    points = np.array(pairs[:: -(-len(pairs) // _MOST_POINTS)])
    low, high = _range(points)
    drawing = []
    for value in _ticks(low, high):
        share = (value - low) / (high - low)
        drawing.append(_level(value, 60, 360, 310 - 300 * share))
        place = f'x="{60 + 300 * share:.1f}" y="328" text-anchor="middle" fill="{_SOFT}"'
        drawing.append(f"<text {place}>{value:.3g}</text>")
    drawing.append(f'<line x1="60" y1="310" x2="360" y2="10" stroke="{_SOFT}" stroke-dasharray="4 4"/>')
    for true, found in (points - low) / (high - low):
        drawing.append(f'<circle cx="{60 + 300 * true:.1f}" cy="{310 - 300 * found:.1f}" r="2.5"/>')
    drawing.append(f'<text x="210" y="346" text-anchor="middle" fill="{_SOFT}">truth</text>')
    drawing.append(
        f'<text x="14" y="160" text-anchor="middle" fill="{_SOFT}" transform="rotate(-90 14 160)">predicted</text>'
    )
    style = f'role="img" font-size="12" fill="{_FOUND}" fill-opacity="0.6"'
    return f'<svg viewBox="0 0 372 352" width="372" style="max-width:100%" {style}>{"".join(drawing)}</svg>'


def _lines(
    values: _Values, column: npt.NDArray[np.int_], count: int, limits: tuple[float, float], colour: str
) -> list[str]:
    """Draws the mean of each column that has one, with gaps where there is none."""
    low, high = limits
    known = np.isfinite(values)
    weights = np.bincount(column[known], minlength=count)
    means = np.bincount(column[known], values[known], count) / np.maximum(weights, 1)
    gaps = np.bincount(column[~known], minlength=count) > 0
    runs: list[list[str]] = [[]]
    for index in range(count):
        if weights[index]:
            y = 190 - 180 * (means[index] - low) / (high - low)
            runs[-1].append(f"{96 + 900 * index / max(count - 1, 1):.1f},{y:.1f}")
        elif gaps[index]:
            runs.append([])
    style = f'fill="none" stroke="{colour}" stroke-width="1.6" stroke-linejoin="round"'
    return [f'<polyline points="{" ".join(run)}" {style}/>' for run in runs if run]


def _range(values: _Values) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.03 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Returns some round values between two limits."""
    step = 10.0 ** np.floor(np.log10((high - low) / 2))
    step *= next(factor for factor in (5, 2, 1, 0.5) if (high - low) / (step * factor) >= 3)
    return [float(step * k) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _level(value: float, left: int, right: int, y: float) -> str:
    line = f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{_LINE}"/>'
    return f'{line}<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{_SOFT}">{value:.3g}</text>'


def _chip(colour: str, text: str) -> str:
    return f'<span class="chip"><i style="background:{colour}"></i>{text}</span>'


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

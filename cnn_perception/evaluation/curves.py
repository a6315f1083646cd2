"""Known and answered numbers, over time and against each other, as SVG pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from cnn_perception.evaluation.frame_record import FrameRecord

_COLUMNS = 600
"""More points than this cannot be told apart in a picture."""
_MOST_POINTS = 2000
_TRUE, _FOUND, _SOFT, _LINE = "#16202e", "#d9600f", "#5c6b7f", "#e3e8ef"

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

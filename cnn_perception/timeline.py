"""Truth and prediction of a recording over time, as one SVG picture."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from cnn_perception.results import FrameRecord

_BINS = 480
_MOST_LEGENDS = 24


def render_timeline(records: Sequence[FrameRecord], class_names: Sequence[str]) -> str:
    """Draws truth, prediction and mistakes over time; each column of the picture shows its most frequent class.

    Args:
        records: All frames of a recording, in order.
        class_names: The model's classes; each has its colour.

    Returns:
        HTML with a legend and an SVG picture; empty where there are no two good frames.
    """
    timed = [record for record in records if record.prediction is not None]
    if len(timed) < 2:
        return ""
    first_s, span_s = timed[0].time_s, max(timed[-1].time_s - timed[0].time_s, 1e-9)
    columns: list[list[FrameRecord]] = [[] for _ in range(min(_BINS, max(len(timed) // 2, 1)))]
    for record in timed:
        share = (record.time_s - first_s) / span_s
        columns[min(max(int(share * len(columns)), 0), len(columns) - 1)].append(record)
    truth = [_most_frequent(record.truth for record in column) for column in columns]
    predicted = [_most_frequent(r.prediction.name for r in column if r.prediction) for column in columns]
    wrong = ["mistake" if any(record.truth_rank > 0 for record in column) else None for column in columns]
    shown = [name for name in class_names if name in {*truth, *predicted}]
    colours = {name: _colour(index) for index, name in enumerate(shown)}
    strips = [("predicted", predicted, colours)]
    if any(record.truth is not None for record in timed):
        strips = [("truth", truth, colours), *strips, ("mistakes", wrong, {"mistake": "#c8322b"})]
    height = 34 * len(strips)
    drawing = [
        f'<text x="86" y="{34 * row + 19}" text-anchor="end" fill="#5c6b7f">{label}</text>'
        + _strip(classes, 34 * row, palette)
        for row, (label, classes, palette) in enumerate(strips)
    ]
    for tick in range(6):
        x, time_s = 96 + tick * 180, first_s + tick * span_s / 5
        anchor = "start" if tick == 0 else "end" if tick == 5 else "middle"
        drawing.append(f'<text x="{x}" y="{height + 12}" text-anchor="{anchor}" fill="#5c6b7f">{time_s:.1f} s</text>')
    svg = f'<svg viewBox="0 0 1000 {height + 18}" width="100%" role="img" font-size="13">{"".join(drawing)}</svg>'
    legend = "".join(
        f'<span class="chip"><i style="background:{colours[n]}"></i>{escape(n)}</span>' for n in shown[:_MOST_LEGENDS]
    )
    return f"<div>{legend}</div>{svg}"


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

"""Diagrams of a run's report, drawn as SVG that stands in the page itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from cnn_perception import metrics
from training.tasks.probabilities import Doubles

_LEFT, _TOP, _PLOT = 44, 12, 250
_BINS = 40
_LABEL = 70
"""Pixels that two numbers below an axis must be apart."""
_COLOURS = {"val": "#2b6cb0", "test": "#12805c", "outside": "#c8322b"}
_TEXT = 'font-size="11" fill="#5c6b7f"'


def reliability(found: metrics.Calibration, title: str) -> str:
    """Draws accuracy over confidence: bars on the diagonal mean that a score is a probability.

    Args:
        found: Bins from 0 to 1.
        title: Written above.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, figure 1.
    """
    side, most = _PLOT, max([b.count for b in found.bins] + [1])
    parts = [_frame(side, side, title)]
    for b in found.bins:
        if b.count:
            left, width = _LEFT + b.lower * side, (b.upper - b.lower) * side - 1
            opacity = 0.3 + 0.7 * b.count / most
            tip = f"{b.lower:.2f} to {b.upper:.2f}: {b.count} images, score {b.confidence:.3f}, right {b.accuracy:.3f}"
            parts.append(_rectangle(left, b.accuracy, width, side, "#2b6cb0", opacity, tip))
            across = f'x1="{left:.1f}" x2="{left + width:.1f}"'
            height = _TOP + 18 + (1 - b.confidence) * side
            parts.append(f'<line {across} y1="{height:.1f}" y2="{height:.1f}" stroke="#c8322b" stroke-width="2"/>')
    low, high = _TOP + 18 + side, _TOP + 18
    parts.append(
        f'<line x1="{_LEFT}" y1="{low}" x2="{_LEFT + side}" y2="{high}" stroke="#5c6b7f" stroke-dasharray="4 4"/>'
    )
    for share in (0.0, 0.5, 1.0):
        parts.append(_below(_LEFT + share * side, low, f"{share:g}"))
        parts.append(f'<text x="{_LEFT - 8}" y="{low - share * side + 4}" text-anchor="end" {_TEXT}>{share:g}</text>')
    parts.append(_below(_LEFT + side / 2, low + 16, "score of the best class"))
    return _svg(side + _LEFT + 16, side + _TOP + 64, title, parts)


def histogram(scores: Mapping[str, Doubles], threshold: float, title: str) -> str:
    """Draws how often each score occurs among several kinds of images, as shares of each kind.

    Args:
        scores: (n,) scores of `val`, `test`, `outside`; n of at least 1.
        threshold: Marked by a line; what is left of it is unknown.
        title: Written above.
    """
    width, height = 4 * _PLOT, _PLOT
    everything = np.concatenate([*scores.values(), [threshold]])
    low, high = float(everything.min()), float(everything.max())
    high = high if high > low else low + 1.0
    edges = np.linspace(low, high, _BINS + 1)
    shares = {name: np.histogram(values, edges)[0] / len(values) for name, values in scores.items()}
    most = max(float(counts.max()) for counts in shares.values())
    parts = [_frame(width, height, title)]
    for name, counts in shares.items():
        for index, share in enumerate(counts):
            if share:
                left = _LEFT + index * width / _BINS
                tip = f"{name}, {edges[index]:.4g} to {edges[index + 1]:.4g}: {share:.1%}"
                parts.append(_rectangle(left, float(share) / most, width / _BINS, height, _COLOURS[name], 0.5, tip))
    bottom, x = _TOP + 18 + height, _LEFT + (threshold - low) / (high - low) * width
    parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP + 18}" y2="{bottom}" stroke="#16202e" stroke-width="2"/>')
    marks = [(_LEFT, f"{low:.3g}"), (_LEFT + width, f"{high:.3g}"), (x, f"threshold {threshold:.3g}")]
    parts += [_below(at, bottom, text) for at, text in marks if at == x or abs(at - x) > _LABEL]
    return _svg(width + _LEFT + 24, height + _TOP + 48, title, parts) + _legend(list(scores))


def _legend(names: Sequence[str]) -> str:
    chips = (f'<span class="chip"><i style="background:{_COLOURS[name]}"></i>{escape(name)}</span>' for name in names)
    return f"<div>{''.join(chips)}</div>"


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width} {height}" style="width:100%;max-width:{width}px"'
    return f'<svg role="img" aria-label="{escape(title)}" {size}>{"".join(parts)}</svg>'


def _frame(width: int, height: int, title: str) -> str:
    text = f'<text x="{_LEFT}" y="{_TOP + 6}" font-size="13" font-weight="600" fill="#16202e">{escape(title)}</text>'
    return f'{text}<rect x="{_LEFT}" y="{_TOP + 18}" width="{width}" height="{height}" fill="#f6f8fa"/>'


def _rectangle(left: float, share: float, width: float, height: int, colour: str, opacity: float, tip: str) -> str:
    place = f'x="{left:.1f}" y="{_TOP + 18 + (1 - share) * height:.1f}" width="{width:.1f}"'
    tall = f'height="{share * height:.1f}" fill="{colour}" fill-opacity="{opacity:.2f}"'
    return f"<rect {place} {tall}><title>{escape(tip)}</title></rect>"


def _below(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y + 15}" text-anchor="middle" {_TEXT}>{escape(text)}</text>'

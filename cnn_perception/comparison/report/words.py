"""The figures of a comparison in words."""

from __future__ import annotations

from cnn_perception.comparison.comparison import Comparison, Measure
from cnn_perception.comparison.difference import Difference
from cnn_perception.comparison.verdict import amount

LISTED_FRAMES = 1000
"""So many changed frames are listed; of more, those that changed most."""


def figure(measure: Measure, value: float) -> str:
    """Returns one model's figure."""
    if measure.scale == "error":
        return f"{value:.4g} {measure.unit}".rstrip()
    return f"{100 * value:.1f} %"


def gain(measure: Measure) -> str:
    """Returns by how much the model is better, with its interval; below 0 it is worse."""
    found = measure.difference
    if measure.scale == "error":
        text = f"{found.value:+.3g} ({found.low:+.3g} to {found.high:+.3g}) {measure.unit}"
        return text.rstrip()
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def detectable(comparison: Comparison) -> str:
    """Returns the smallest loss that the frames could have shown."""
    return f"{amount(comparison.headline.difference.detectable)} {comparison.points}"


def method(found: Difference, *, is_share: bool) -> str:
    """Returns how the interval was made, and what that takes for granted."""
    if found.unit == "bag":
        return f"{found.units} recordings, each drawn as a whole (bootstrap)"
    if found.unit == "time":
        return (
            f"{found.frames} frames in blocks of {found.block} neighbours, which are one event: circular block "
            "bootstrap, the length twice that of Politis and White's rule, at least a second"
        )
    if is_share:
        return (
            f"{found.frames} images that are taken for independent: McNemar's test (mid-p), Agresti and Min's interval"
        )
    return f"{found.frames} images that are taken for independent: bootstrap"


def heading(comparison: Comparison) -> str:
    """Returns the verdict as the beginning of a page."""
    text = comparison.verdict.text
    return text[0].upper() + text[1:]


def counted(count: int, comparison: Comparison, direction: str) -> str:
    """Returns how many frames changed, such as `12 frames newly wrong`."""
    if comparison.headline.scale == "share":
        return f"{count} frames newly {'wrong' if direction == 'lost' else 'right'}"
    return f"{count} frames of a {'larger' if direction == 'lost' else 'smaller'} error"

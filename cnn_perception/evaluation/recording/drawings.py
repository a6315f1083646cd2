"""Calibration, the trade-off of thresholds and the facts of a recording, as the page shows them.

Places in a plot are shares of its width and height, from its lower left corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cnn_perception.evaluation.recording.curves import TradeOff, TradeOffPoint
from cnn_perception.evaluation.recording.facts import RecordingFacts
from cnn_perception.metrics import CalibrationBin, CalibrationScores
from cnn_perception.pages.rendering import percent

_ROWS = 6


@dataclass(frozen=True)
class ReliabilityDiagram:
    """How often scores hold over what they say.

    Attributes:
        template: What shows it.
        ece: The expected calibration error, in [0, 1].
        of: What a score is of, in words.
        bin_count: How many bins of equal width there are.
        bins: Those with samples.
        most: Samples of the fullest.
    """

    template: ClassVar[str] = "calibration.html"
    ece: float
    of: str
    bin_count: int
    bins: tuple[CalibrationBin, ...]
    most: int


@dataclass(frozen=True)
class TradeOffCurve:
    """Accuracy over coverage as a threshold moves.

    Attributes:
        template: What shows it.
        rule: Which threshold moves.
        line: (coverage, accuracy) from the lowest threshold to the highest, as shares of the axes.
        found: (coverage, share of the frames of no class that are called unknown), likewise; empty without such frames.
        now: Where the threshold in force is; None where it answers nothing.
        lowest: The accuracy at the lower end of the axis.
        rows: Some thresholds, that in force first: (threshold, coverage, false alarms, accuracy, found) as texts.
    """

    template: ClassVar[str] = "trade_off.html"
    rule: str
    line: tuple[tuple[float, float], ...]
    found: tuple[tuple[float, float], ...]
    now: tuple[float, float] | None
    lowest: float
    rows: tuple[tuple[str, str, str, str, str], ...]


def reliability_diagram(scores: CalibrationScores, *, is_exclusive: bool) -> ReliabilityDiagram:
    """Returns the diagram of a calibration; of one class an image, or of several."""
    filled = tuple(one for one in scores.bins if one.count)
    of = "the best class of a frame" if is_exclusive else "each class of a frame"
    return ReliabilityDiagram(scores.ece, of, len(scores.bins), filled, max((one.count for one in filled), default=1))


def trade_off_curve(found: TradeOff) -> TradeOffCurve:
    """Returns the curve of a trade-off."""
    answered = [(point.coverage, point.accuracy) for point in found.points if point.accuracy is not None]
    least = min((accuracy for _, accuracy in answered), default=0.0)
    lowest = max(0.0, int(least * 20 - 1e-9) / 20 if least < 1.0 else 0.9)

    def height(accuracy: float) -> float:
        return max(0.0, (accuracy - lowest) / (1.0 - lowest))

    now = found.now
    return TradeOffCurve(
        rule=found.rule,
        line=tuple((coverage, height(accuracy)) for coverage, accuracy in answered),
        found=tuple((point.coverage, point.found) for point in found.points if point.found is not None),
        now=None if now.accuracy is None else (now.coverage, height(now.accuracy)),
        lowest=lowest,
        rows=tuple(map(_row, (now, *found.points[:: max(1, len(found.points) // _ROWS)]))),
    )


def _row(point: TradeOffPoint) -> tuple[str, str, str, str, str]:
    shares = (point.coverage, 1.0 - point.coverage, point.accuracy, point.found)
    coverage, alarms, accuracy, found = map(percent, shares)
    return f"{point.threshold:.4g}", coverage, alarms, accuracy, found


def facts_table(facts: RecordingFacts) -> list[tuple[str, str]]:
    """Returns (what it is, text) of the facts of a recording."""
    gaps = ", ".join(f"{gap.length_s:.2f} s at {gap.start_s:.2f} s" for gap in facts.gaps) or "none"
    more = f" and {facts.gap_count - len(facts.gaps)} shorter ones" if facts.gap_count > len(facts.gaps) else ""
    topics = "; ".join(f"{topic.name} ({topic.type}): {topic.count}" for topic in facts.topics)
    return [
        ("first image received", facts.start),
        ("length", f"{facts.length_s:.2f} s, {facts.images} images"),
        ("rate", f"{facts.rate_hz:.2f} Hz, by the median time between two images" if facts.rate_hz else "one image"),
        ("gaps", gaps + more),
        ("missing at that rate", f"about {facts.missing} images, dropped before or by the recorder"),
        ("topics", topics),
    ]

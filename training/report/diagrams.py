"""What the diagrams of a run's report show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cnn_perception import metrics
from training.tasks.probabilities import Doubles

_BINS = 40


@dataclass(frozen=True)
class Reliability:
    """Accuracy over confidence: bars on the diagonal mean that a score is a probability.

    Attributes:
        template: What shows it.
        title: Written above.
        bins: From a score of 0 to 1.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, figure 1.
    """

    template: ClassVar[str] = "reliability.html"
    title: str
    bins: tuple[metrics.CalibrationBin, ...]

    @property
    def largest_count(self) -> int:
        """How many images the fullest bin has, at least 1."""
        return max([b.count for b in self.bins] + [1])


@dataclass(frozen=True)
class HistogramBar:
    """How many images of one kind have about the same score.

    Attributes:
        kind: Of the images: `val` or `outside`.
        place: Where the bar begins, as share of the plot's width.
        low: Lowest score.
        high: Highest score.
        share: Of all images of this kind, in [0, 1].
    """

    kind: str
    place: float
    low: float
    high: float
    share: float


@dataclass(frozen=True)
class Histogram:
    """How often each score occurs among several kinds of images, as shares of each kind.

    Attributes:
        template: What shows it.
        title: Written above.
        kinds: What is told apart.
        bars: Those that are not empty, of all kinds.
        bar_width: Of each, as share of the plot's width.
        low: The lowest score.
        high: The highest score, greater than `low`.
        threshold: What is below is unknown.
    """

    template: ClassVar[str] = "histogram.html"
    title: str
    kinds: tuple[str, ...]
    bars: tuple[HistogramBar, ...]
    bar_width: float
    low: float
    high: float
    threshold: float

    @property
    def largest_share(self) -> float:
        """Of the highest bar."""
        return max(bar.share for bar in self.bars)

    @property
    def threshold_place(self) -> float:
        """Where the threshold lies, as share of the plot's width."""
        return (self.threshold - self.low) / (self.high - self.low)


def histogram(scores: Mapping[str, Doubles], threshold: float, title: str) -> Histogram:
    """Counts how often each score occurs.

    Args:
        scores: (n,) scores of `val`, `outside`; n of at least 1.
        threshold: What is below is unknown.
        title: Written above.
    """
    everything = np.concatenate([*scores.values(), [threshold]])
    low = float(everything.min())
    high = float(everything.max())
    if high == low:
        high = low + 1.0
    edges = np.linspace(low, high, _BINS + 1)
    bars: list[HistogramBar] = []
    for kind, values in scores.items():
        bars += _bars(kind, values, edges)
    return Histogram(title, tuple(scores), tuple(bars), 1 / _BINS, low, high, threshold)


def _bars(kind: str, values: Doubles, edges: Doubles) -> list[HistogramBar]:
    """Returns the bars of one kind that are not empty; edges are those of all bars, (_BINS + 1,)."""
    bars = []
    shares = np.histogram(values, edges)[0] / len(values)
    for k in np.flatnonzero(shares):
        low = float(edges[k])
        high = float(edges[k + 1])
        bars.append(HistogramBar(kind, int(k) / _BINS, low, high, float(shares[k])))
    return bars

"""How far a figure of so many images can be believed: 95 % intervals, of shares, of any figure, and of a difference.

They hold for images that do not depend on each other. The frames of one recording do: theirs are wider, see
`time_blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

RESAMPLES = 200
"""Times that a bootstrap draws the images anew: its limits are then known to about a tenth of their distance."""
TAIL = 0.025
"""The part of a distribution beyond each end of an interval of 95 %."""
_Z = 1.959963984540054  # of the standard normal distribution: 95 % lie nearer to 0


@dataclass(frozen=True)
class Estimate:
    """A figure with the interval that holds the true one in 95 of 100 such measurements.

    Attributes:
        value: As it was measured.
        low: Where the interval begins.
        high: Where it ends.
    """

    value: float
    low: float
    high: float

    def in_percent(self) -> str:
        """Returns a share in words, such as `85.7% (80.2 to 89.9%)`."""
        return f"{self.value:.1%} ({100 * self.low:.1f} to {self.high:.1%})"


class Sampling(Protocol):
    """How images came to be measured, which decides how far their figures can be believed."""

    def share(self, hits: Flags, among: Flags | None = None) -> Estimate:
        """Returns the share of (n,) hits among all images, or (n,) some of them, at least one, with its interval."""

    def figure(self, statistic: Callable[[Rows], float]) -> tuple[float, float] | None:
        """Returns the interval of a figure of images, given by their rows; None where there are fewer than 2."""


@dataclass(frozen=True)
class Independent:
    """So many images that do not depend on each other."""

    count: int

    def share(self, hits: Flags, among: Flags | None = None) -> Estimate:
        """Returns the share with Wilson's interval."""
        counted = hits if among is None else hits[among]
        return wilson(int(counted.sum()), len(counted))

    def figure(self, statistic: Callable[[Rows], float]) -> tuple[float, float] | None:
        """Returns the interval of the bootstrap."""
        return bootstrap(statistic, self.count)


def wilson(hits: float, count: float, quantile: float = _Z) -> Estimate:
    """Returns the share of hits with its interval, in [0, 1].

    Args:
        hits: How many of them.
        count: Of how many, at least 1; no whole number where images that depend on each other are worth so many.
        quantile: Of the standard normal distribution, by which the interval's ends are; 95 % by default.

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference; recommended for any
        number of images by Brown, Cai and DasGupta 2001, Interval Estimation for a Binomial Proportion.
    """
    share = hits / count
    weight = quantile**2 / count
    middle = (share + weight / 2) / (1 + weight)
    reach = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    # where all or none are hits one end is exactly the share itself, which rounding would miss by a hair
    return Estimate(share, min(max(middle - reach, 0.0), share), max(min(middle + reach, 1.0), share))


def student_quantile(freedom: float, tail: float = TAIL) -> float:
    """Returns beyond what a part of Student's distribution lies at its upper end, within 1 %.

    Args:
        freedom: Degrees of freedom, at least 1; not always a whole number.
        tail: The part, from 1e-5 to below 0.5.

    With t = sqrt(freedom) * tan(angle) the density is a power of the cosine, which is added up.
    """
    steps = np.linspace(0.0, 1.0, 2**13 + 1)
    angles = math.pi / 2 * steps**2 * (3.0 - 2.0 * steps)  # dense at both ends: of much and of little freedom
    density = np.cos(angles) ** (freedom - 1.0)
    mass = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(angles))))
    angle = float(np.interp(1.0 - 2.0 * tail, mass / mass[-1], angles))
    return math.sqrt(freedom) * math.tan(angle)


def bootstrap(statistic: Callable[[Rows], float], count: int) -> tuple[float, float] | None:
    """Returns the percentile interval of a figure of images, such as a mean error; None of fewer than 2 images.

    Args:
        statistic: Gives the figure of some of the images, by their rows; one may occur several times.
        count: How many images there are.

    Source: Efron 1979, Bootstrap Methods: Another Look at the Jackknife.
    """
    if count < 2:
        return None
    random = np.random.default_rng(0)
    drawn = [statistic(random.integers(0, count, count)) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True)
class PairedDifference:
    """By how much the answers of one model are better than those of another to the same images.

    Attributes:
        images: How many.
        gained: How many only the one answers rightly.
        lost: How many only the other does.
        difference: Of the shares of right answers, in [-1, 1].
        chance: How often two equally good models would differ by as much, in [0, 1].
    """

    images: int
    gained: int
    lost: int
    difference: Estimate
    chance: float


def paired(ours: Flags, theirs: Flags) -> PairedDifference:
    """Compares which of n images, at least 1, two models answer rightly, (n,) each.

    Source: Agresti and Min 2005, Simple Improved Confidence Intervals for Comparing Matched Proportions (the interval:
        Wald's with half an image added to each of the four cases); McNemar 1947, Note on the Sampling Error of the
        Difference Between Correlated Proportions (the chance, by the binomial distribution).
    """
    count = len(ours)
    gained = int((ours & ~theirs).sum())
    lost = int((theirs & ~ours).sum())
    total = count + 2.0
    middle = (gained - lost) / total
    reach = _Z * math.sqrt((gained + lost + 1) - (gained - lost) ** 2 / total) / total
    difference = Estimate((gained - lost) / count, max(middle - reach, -1.0), min(middle + reach, 1.0))
    return PairedDifference(count, gained, lost, difference, sign_test(gained, lost))


def paired_mean(differences: npt.NDArray[np.floating[Any]]) -> Estimate:
    """Returns the mean of (n,) differences, n of at least 1, with its bootstrap interval; of one image it is alone."""
    mean = float(differences.mean())
    low, high = bootstrap(lambda rows: float(differences[rows].mean()), len(differences)) or (mean, mean)
    return Estimate(mean, low, high)


def sign_test(gained: int, lost: int, *, is_mid: bool = False) -> float:
    """Returns the chance of a division as uneven or more, where both sides are as likely.

    Args:
        gained: How many are on the one side.
        lost: How many are on the other.
        is_mid: Whether of divisions that are as uneven half counts (mid-p): the exact test alarms too seldom.

    Source: Fagerland, Lydersen and Laake 2013, The McNemar test for binary matched-pairs data: mid-p and asymptotic are
        better than exact conditional.
    """
    count = gained + lost
    terms = [math.exp(_log_choose(count, k) - count * math.log(2)) for k in range(min(gained, lost) + 1)]
    return min(1.0, 2.0 * sum(terms) - is_mid * terms[-1])


def _log_choose(count: int, taken: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(taken + 1) - math.lgamma(count - taken + 1)

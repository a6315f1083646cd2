"""How far a figure of recordings can be believed: 95 % intervals that know that neighbouring frames show one event.

Frames of a recording are taken in blocks of time, which stay whole when the figure's spread is estimated, and the
recordings themselves as clusters. A share is then worth that of so many independent frames as would spread as much, and
has Wilson's interval of these; any other figure has the block bootstrap's.

Source: Künsch 1989, The Jackknife and the Bootstrap for General Stationary Observations (moving blocks); Politis and
White 2004, Automatic Block-Length Selection for the Dependent Bootstrap, with the correction of Patton, Politis and
White 2009 (their length); Cochran 1977, Sampling Techniques, section 11 (clusters within which is sampled again); Korn
and Graubard 1998, Confidence Intervals for Proportions with Small Expected Number of Positive Counts (the effective
number of independent observations, with the degrees of freedom).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_perception.intervals import RESAMPLES, TAIL, Estimate, Flags, Rows, student_quantile, wilson

Values = npt.NDArray[np.floating[Any]]

_LONGER = 3
"""The length for the least error of a variance is too short for intervals. In simulated recordings of 600 to 3000
frames, whose mistakes last 5 to 100 frames, one three times as long holds the truth in 85 to 95 of 100, one twice as
long in 81 to 94; as if all frames were independent it would be 13 to 55. Of 300 to 3000 answers of two equal models,
which differ for 10 to 150 frames at a time, it raises an alarm in at most 6 of 100, the single length in up to 20."""
_FEWEST_BLOCKS = 4
"""Of fewer, nobody can tell how much they differ."""


@dataclass(frozen=True)
class TimeBlocks:
    """The frames of some recordings, one recording after the other, each in the order of time.

    Attributes:
        frames: How many each recording has, at least 1.
        lengths: How many frames a block of each has.
        sizes: How many values each frame has, at least 1, such as boxes, which stay together; None for one each.
    """

    frames: tuple[int, ...]
    lengths: tuple[int, ...]
    sizes: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        """How many values all have together."""
        return sum(self.frames if self.sizes is None else self.sizes)

    @property
    def blocks(self) -> int:
        """How many blocks beside each other fill the recordings, at least one each."""
        return sum(max(1, frames // length) for frames, length in zip(self.frames, self.lengths, strict=True))

    def share(self, hits: Flags, among: Flags | None = None, comparisons: int = 1) -> Estimate:
        """Returns the share of hits with its interval, in [0, 1].

        Args:
            hits: (n,) of all frames.
            among: (n,) which of the frames count, at least one; all by default.
            comparisons: With how many others it is looked at: all their intervals together hold the truth in 95 of
                100 such measurements (Bonferroni).
        """
        counted = np.ones(len(hits), np.bool_) if among is None else among
        share = float(hits[counted].mean())
        worth, freedom = self._worth(hits, counted)
        tail = TAIL / comparisons
        normal = NormalDist().inv_cdf(1.0 - tail)
        adjusted = max(worth * (normal / student_quantile(freedom, tail)) ** 2, 1.0)
        found = wilson(share * adjusted, adjusted, normal)
        return Estimate(share, min(found.low, share), max(found.high, share))

    def mean(self, values: Values, among: Flags | None = None, comparisons: int = 1) -> Estimate:
        """Returns the mean of (n,) values with its interval, by Student's distribution; arguments as in `share`."""
        counted = np.ones(len(values), np.bool_) if among is None else among
        mean = float(values[counted].mean())
        variance, freedom = self._variance(values, counted)
        reach = student_quantile(freedom, TAIL / comparisons) * math.sqrt(variance)
        return Estimate(mean, mean - reach, mean + reach)

    def independent(self, values: Values | Flags, among: Flags | None = None) -> float:
        """Returns how many independent frames would say as much of the mean of (n,) values as these frames do."""
        counted = np.ones(len(values), np.bool_) if among is None else among
        return self._worth(values, counted)[0]

    def figure(self, statistic: Callable[[Rows], float]) -> tuple[float, float] | None:
        """Returns the percentile interval of any figure of frames, by rows as in `intervals.bootstrap`.

        Recordings are drawn anew, one fewer than there are, and blocks of time within each (Rao and Wu 1988, Resampling
        Inference with Complex Survey Data); of a single one its blocks only. None of fewer than 2 frames.
        """
        if self.count < 2:
            return None
        random = np.random.default_rng(0)
        low, high = np.percentile([statistic(self._drawn(random)) for _ in range(RESAMPLES)], (2.5, 97.5))
        return float(low), float(high)

    def _worth(self, values: Values | Flags, counted: Flags) -> tuple[float, float]:
        """Returns the number of independent frames, and the degrees of freedom with which it is known."""
        variance, freedom = self._variance(values, counted)
        count = int(counted.sum())
        spread = float(values[counted].astype(np.float64).var())
        if spread <= 0.0 or variance <= 0.0:  # all alike: each block is one event, for all that is known
            return min(float(count), max(1.0, count / self.count * self.blocks)), freedom
        return min(float(count), max(1.0, spread / variance)), freedom

    def _variance(self, values: Values | Flags, counted: Flags) -> tuple[float, float]:
        """Returns the variance of the mean of the counted values, and its degrees of freedom.

        It is that of blocks within the recordings, and that of the recordings among each other (Satterthwaite 1946 for
        the freedom of their sum).
        """
        mean = values[counted].mean(dtype=np.float64)
        residuals = self._of_frames(np.where(counted, values - mean, 0.0))
        begins = np.cumsum((0, *self.frames[:-1]))
        parts = np.split(residuals, begins[1:])
        numbers = np.add.reduceat((self._of_frames(counted.astype(np.int64)) > 0).astype(np.int64), begins)
        total = int(counted.sum()) ** 2
        within = sum(_variance_of_sum(part, n) for part, n in zip(parts, self.lengths, strict=True)) / total
        clusters = int((numbers > 0).sum())
        free_within = max(float((numbers / self.lengths).sum()) - clusters, 1.0)
        if clusters == 1:
            return within, free_within
        between = clusters / (clusters - 1) * sum(float(part.sum()) ** 2 for part in parts) / total
        both = within + between
        uncertain = between**2 / (clusters - 1) + within**2 / free_within
        return both, both**2 / uncertain if uncertain > 0.0 else float(free_within)

    def _drawn(self, random: np.random.Generator) -> Rows:
        """Returns the rows of a resample."""
        bags = len(self.frames)
        chosen = random.integers(0, bags, bags - 1) if bags > 1 else np.zeros(1, np.int64)
        begins = np.cumsum((0, *self.frames))
        drawn = np.concatenate([begins[k] + _moving(self.frames[k], self.lengths[k], random) for k in chosen.tolist()])
        if self.sizes is None:
            return drawn
        rows = np.split(np.arange(self.count), np.cumsum(self.sizes[:-1]))
        return np.concatenate([rows[frame] for frame in drawn.tolist()])

    def _of_frames(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the sums of the values of each frame."""
        if self.sizes is None:
            return values
        sums: npt.NDArray[Any] = np.add.reduceat(values, np.cumsum((0, *self.sizes[:-1])))
        return sums


def time_blocks(marks: Sequence[Values]) -> TimeBlocks:
    """Returns the blocks of recordings, each as long as its frames depend on each other.

    Args:
        marks: Of each recording a value for each of its frames, in the order of time, that shows how alike they are:
            how good or bad each was answered, see `TaskRules.badness`. Recordings without frames are left out.
    """
    filled = [mark for mark in marks if len(mark)]
    lengths = (block_length([mark]) or _longest(len(mark)) for mark in filled)
    return TimeBlocks(tuple(map(len, filled)), tuple(lengths))


def block_length(parts: Sequence[Values]) -> int | None:
    """Returns how many neighbouring frames are one event, so that intervals of blocks of so many can be believed.

    Args:
        parts: (n,) floats each of recordings, in the order of time; nothing is known of the order between them.

    Returns:
        At least 1, which says that frames are independent, and of a quarter of all frames at most; None where the
        values never differ, and so tell nothing.
    """
    count = sum(map(len, parts))
    if not count:
        return None
    covariances = _autocovariances(parts, count)
    power = float(covariances[0])
    if power <= 1e-18:
        return None
    last = _last_dependent_lag(covariances / power, count)
    if not last:
        return 1
    lags = np.arange(1, min(2 * last, len(covariances) - 1) + 1)
    weights = np.minimum(1.0, 2.0 * (1.0 - lags / (2 * last)))  # the flat-top window of Politis and Romano 1995
    terms = weights * covariances[lags]
    spectrum = power + 2.0 * terms.sum()
    slope = 2.0 * (lags * terms).sum()
    if spectrum <= 0.0:
        return 1 if slope <= 0.0 else _longest(count)
    best = (1.5 * slope**2 / spectrum**2 * count) ** (1 / 3)
    return int(min(max(1, math.ceil(_LONGER * best)), _longest(count)))


def _longest(count: int) -> int:
    return max(1, count // _FEWEST_BLOCKS)


def _last_dependent_lag(correlations: Values, count: int) -> int:
    """Returns the largest lag before the first run of lags at which nothing is seen of a dependence."""
    run = max(5, math.ceil(math.sqrt(math.log10(max(count, 2)))))
    bound = 2.0 * math.sqrt(math.log10(max(count, 2)) / count)
    quiet = 0
    most = len(correlations)
    for lag in range(1, most):
        quiet = quiet + 1 if abs(correlations[lag]) < bound else 0
        if quiet == run:
            return lag - run
    return most // 2


def _autocovariances(parts: Sequence[Values], count: int) -> npt.NDArray[np.float64]:
    """Returns the autocovariances from lag 0 to half the frames, by Fourier transforms; no pair is of two parts."""
    mean = sum(float(np.sum(part)) for part in parts) / count
    found = np.zeros(count // 2 + 1)
    for part in filter(len, parts):
        size = 2 * len(part)  # padded, so that nothing wraps around
        spectrum = np.fft.rfft(np.asarray(part, np.float64) - mean, size)
        own = np.fft.irfft(np.abs(spectrum) ** 2, size)[: min(len(part), len(found))]
        found[: len(own)] += own
    return found / count


def _variance_of_sum(residuals: Values, length: int) -> float:
    """Returns the variance that the moving block bootstrap gives the sum of (n,) values, of endlessly many draws."""
    sums = np.concatenate(([0.0], np.cumsum(residuals)))
    blocks = sums[length:] - sums[:-length]
    return float(blocks.var()) * len(residuals) / length


def _moving(count: int, length: int, random: np.random.Generator) -> Rows:
    """Returns the rows of as many blocks as n frames have, each from anywhere."""
    starts = random.integers(0, count - length + 1, math.ceil(count / length))
    return np.asarray((starts[:, None] + np.arange(length)).reshape(-1)[:count], np.int64)

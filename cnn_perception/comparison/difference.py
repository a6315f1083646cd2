"""The difference of two models on the same frames, its 95 % interval, and the least difference that could be seen.

Images of a folder are taken for independent: McNemar's test. Neighbouring frames of a recording are one event, which is
drawn as a whole: block bootstrap in time. Of many recordings each is drawn as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cnn_perception.intervals import TAIL, Estimate, paired, sign_test, student_quantile
from cnn_perception.time_blocks import block_length

Values = npt.NDArray[np.float64]
Unit = Literal["frame", "time", "bag"]
"""What is independent of its like: each frame, each stretch of time, or each recording."""

RESAMPLES = 4000
"""Times that a bootstrap draws anew: 100 of them are beyond each end of the interval."""
EVENT_S = 1.0
"""Frames nearer than this in time are one event, however the answers to them differ."""
SIGNIFICANCE = 2 * TAIL
_Z = 1.959963984540054  # of the standard normal distribution: 97.5 % lie below
_Z_POWER = 0.8416212335729143  # 80 % lie below
_LEAST_EVENTS = 6
"""Of fewer nothing is proven: that all speak for one of two equal models has a chance of 2 * 0.5^5, more than 5 %."""
_BEGINS = 10
"""In about so many ways a recording is cut into stretches, or blocks, to find the fewest."""
_ROUNDING_S = 1e-6
_DRAWS_AT_ONCE = 2**21
"""Starts of blocks that are held in memory."""


@dataclass(frozen=True)
class Difference:
    """By how much one model is better than another on the same frames; below 0 it is worse.

    Attributes:
        frames: How many were compared.
        value: Mean of the differences: of shares in [-1, 1], or of errors in their unit.
        low: Where the 95 % interval begins.
        high: Where it ends.
        chance: How often models that differ by just the loss that is allowed would seem to differ as much, in [0, 1].
        detectable: The smallest loss that would be proven in 80 of 100 such recordings; above 0.
        unit: What was taken for independent.
        block: Frames that are one event, 1 where each is its own.
        units: How many independent ones there are.
    """

    frames: int
    value: float
    low: float
    high: float
    chance: float
    detectable: float
    unit: Unit
    block: int
    units: int


@dataclass(frozen=True, eq=False)
class Series:
    """What differs in frames of one recording, in the order of time.

    Attributes:
        differences: (n,) float64, above 0 where the new model is better.
        times_s: (n,) float64 seconds, ascending; all equal where no time is known.
    """

    differences: Values
    times_s: Values


def difference(parts: Sequence[Series], unit: Unit, *, max_loss: float, is_share: bool) -> Difference:
    """Returns the difference of all frames.

    Args:
        parts: Recordings, at least one frame in all.
        unit: What is independent of its like.
        max_loss: The loss that is allowed, 0 or more, in the unit of the differences.
        is_share: Whether the differences are between -1 and 1, and so their mean.
    """
    filled = [part for part in parts if len(part.differences)]
    values = np.concatenate([part.differences for part in filled])
    if unit == "frame" and is_share:
        return _of_independent(values, max_loss)
    block = _block(filled) if unit == "time" else 1
    return _resampled(filled, unit, block, max_loss=max_loss, is_share=is_share)


def holm(chances: Sequence[float]) -> list[float]:
    """Returns the chances of several tests so that each can be held against the same limit as a single one.

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    adjusted = [0.0] * len(chances)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(chances)), key=lambda i: chances[i])):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[index]))
        adjusted[index] = largest
    return adjusted


def _of_independent(values: Values, max_loss: float) -> Difference:
    """Returns the difference of right and wrong answers to independent images, of -1, 0 and 1 each."""
    gained = int((values > 0).sum())
    lost = int((values < 0).sum())
    found = paired(values > 0, values < 0).difference
    count = len(values)
    low, high = found.low, found.high
    if not gained + lost:
        high = _unseen(count)
        low = -high
    error = (high - low) / (2 * _Z)
    middle = (high + low) / 2
    chance = sign_test(gained, lost, is_mid=True)
    if max_loss:
        chance = math.erfc(abs(middle + max_loss) / error / math.sqrt(2))
    detectable = _detectable(error, count, max_loss, is_share=True)
    return Difference(count, found.value, low, high, chance, detectable, "frame", 1, count)


def _resampled(parts: Sequence[Series], unit: Unit, block: int, *, max_loss: float, is_share: bool) -> Difference:
    """Returns the difference with the interval of a bootstrap that draws blocks, or whole recordings.

    It is never narrower than if all frames were independent, as it would be of blocks that happen to be all alike.
    """
    values = np.concatenate([part.differences for part in parts])
    count = len(values)
    units = len(parts) if unit == "bag" else sum(math.ceil(len(part.differences) / block) for part in parts)
    mean = float(values.mean())
    means = _means_of_bags(parts) if unit == "bag" else _means_of_blocks(parts, block)
    spread = mean + (means - mean) * _expansion(_differing(parts, unit, block))
    low, high = (float(end) for end in np.quantile(spread, (TAIL, 1 - TAIL)))
    least = paired(values > 0, values < 0).difference if is_share else _of_normal(values)
    low = min(low, least.low)
    high = max(high, least.high)
    events = _differing(parts, unit, 1) if unit != "time" else sum(map(_events, parts))
    if events < _LEAST_EVENTS:
        reach = _unseen(units) if is_share else abs(mean)
        low = min(low, -reach)
        high = max(high, reach)
    if is_share:
        low = max(low, -1.0)
        high = min(high, 1.0)
    beyond = min(int((spread >= -max_loss).sum()), int((spread <= -max_loss).sum()))
    chance = min(1.0, max(2 * (beyond + 1) / (RESAMPLES + 1), 2 * 0.5**events))
    error = (high - low) / (2 * _Z)
    worth = float(values.var()) / error**2 if error else 0.0  # so many independent frames would be as sure
    detectable = _detectable(error, min(max(worth, units), count), max_loss, is_share=is_share)
    return Difference(count, mean, low, high, chance, detectable, unit, block, units)


def _of_normal(values: Values) -> Estimate:
    """Returns the mean of independent values with the interval of the normal distribution."""
    mean = float(values.mean())
    reach = _Z * float(values.std()) / math.sqrt(len(values))
    return Estimate(mean, mean - reach, mean + reach)


def _block(parts: Sequence[Series]) -> int:
    """Returns how many frames are drawn together: by how long differences last, and at least those of an event."""
    ahead = [np.searchsorted(part.times_s, part.times_s + EVENT_S - _ROUNDING_S) for part in parts]
    in_event = float(np.median(np.concatenate([ends - np.arange(len(ends)) for ends in ahead])))
    longest = max(len(part.differences) for part in parts)
    return min(max(math.ceil(in_event), block_length([part.differences for part in parts]) or 1), longest)


def _means_of_blocks(parts: Sequence[Series], block: int) -> Values:
    """Returns (RESAMPLES,) means of series put together of circular blocks, each recording by itself.

    Source: Kuensch 1989, The Jackknife and the Bootstrap for General Stationary Observations; Politis and Romano 1992,
        A Circular Block-Resampling Procedure for Stationary Data.
    """
    random = np.random.default_rng(0)
    total = np.zeros(RESAMPLES)
    count = 0
    for part in parts:
        size = len(part.differences)
        length = min(block, size)
        ends = np.cumsum(np.concatenate([[0.0], part.differences, part.differences[: length - 1]]))
        sums = ends[length:] - ends[:-length]
        blocks = math.ceil(size / length)
        total += size / (blocks * length) * _drawn_sums(random, sums, blocks)
        count += size
    return total / count


def _drawn_sums(random: np.random.Generator, sums: Values, blocks: int) -> Values:
    """Returns (RESAMPLES,) sums of so many blocks drawn with replacement."""
    rows = max(1, _DRAWS_AT_ONCE // blocks)
    sizes = [min(rows, RESAMPLES - first) for first in range(0, RESAMPLES, rows)]
    return np.concatenate([sums[random.integers(0, len(sums), (size, blocks))].sum(axis=1) for size in sizes])


def _means_of_bags(parts: Sequence[Series]) -> Values:
    """Returns (RESAMPLES,) means over recordings drawn with replacement, each with all its frames."""
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(parts), (RESAMPLES, len(parts)))
    sums = np.array([part.differences.sum() for part in parts])
    sizes = np.array([len(part.differences) for part in parts], np.float64)
    return np.asarray(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))


def _differing(parts: Sequence[Series], unit: Unit, block: int) -> int:
    """Returns how many blocks, or recordings, hold a difference; blocks begin so that it is the fewest."""
    if unit == "bag":
        return sum(bool(part.differences.any()) for part in parts)
    places = (np.flatnonzero(part.differences) for part in parts)
    begins = range(0, block, max(1, block // _BEGINS))
    return sum(min(len(np.unique((place + begin) // block)) for begin in begins) for place in places)


def _events(part: Series) -> int:
    """Returns in how many stretches of `EVENT_S` a recording holds a difference, begun so that it is the fewest."""
    times_s = part.times_s[part.differences != 0]
    if not len(times_s):
        return 0
    begins_s = np.arange(_BEGINS) / _BEGINS * EVENT_S
    return min(len(np.unique(np.floor((times_s + begin_s + _ROUNDING_S) / EVENT_S))) for begin_s in begins_s)


def _expansion(units: int) -> float:
    """Returns by how much the interval of a bootstrap of few units is too narrow, at least 1.

    Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, the expanded percentile interval.
    """
    units = max(units, 2)
    return student_quantile(units - 1) / _Z * math.sqrt(units / (units - 1))


def _unseen(units: int) -> float:
    """Returns the share up to which something may occur that was met in none of so many units.

    Source: Clopper and Pearson 1934, The Use of Confidence or Fiducial Limits, of 0 hits.
    """
    return float(1.0 - TAIL ** (1.0 / units))


def _detectable(error: float, units: float, max_loss: float, *, is_share: bool) -> float:
    """Returns the loss that is proven with a probability of 80 %.

    A loss needs answers that differ, at least as many as it is large: where few did, its own spread decides.

    Args:
        error: Standard error of the difference.
        units: As how many independent frames all of them are worth.
        max_loss: The loss that is allowed.
        is_share: Whether the differences are between -1 and 1.
    """
    reach = (_Z + _Z_POWER) * error
    if is_share:
        reach = max(reach, (_Z + _Z_POWER) ** 2 / units)
        return min(max_loss + reach, 1.0)
    return max_loss + reach

"""How many neighbouring frames of a recording are one event: the length of the blocks that are drawn together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_QUIET_LAGS = 5
"""So many autocorrelations in a row must be as those of noise; Politis and White's K_N up to 10^25 frames."""

_LONGER = 2.0
"""The length of the least error of a variance is too short for intervals: of simulated recordings of 300 to 3000 equal
answers, whose differences last 10 to 150 frames, up to 20 in 100 raised an alarm; with twice the length it is 6."""
_FEWEST_BLOCKS = 4
"""Of fewer, nobody can tell how much they differ."""


def block_length(parts: Sequence[Values]) -> int:
    """Returns the length of blocks for an interval of a series' mean by the circular block bootstrap, at least 1.

    The longer neighbours resemble each other, the longer it is; 1 for a series that never changes.

    Args:
        parts: (n,) floats each: stretches of the series, between which nothing is known of the order.

    Source: Politis and White 2004, Automatic Block-Length Selection for the Dependent Bootstrap, with the constant as
        corrected by Patton, Politis and White 2009.
    """
    count = sum(len(part) for part in parts)
    covariances = _autocovariances(parts, count)
    if count < 3 or covariances[0] <= 1e-12:
        return 1
    lags = _lags_that_matter(covariances, count)
    k = np.arange(1, lags + 1)
    window = np.minimum(1.0, 2.0 * (1.0 - k / lags))
    weighted = window * covariances[1 : lags + 1]
    spread = 2.0 * float((k * weighted).sum())
    variance = float(covariances[0] + 2.0 * weighted.sum())
    longest = math.ceil(count / _FEWEST_BLOCKS)
    if variance <= 0.0:
        return 1 if spread <= 0.0 else longest
    best = _LONGER * (1.5 * (spread / variance) ** 2 * count) ** (1.0 / 3.0)
    return int(min(max(math.ceil(best), 1), longest))


def _autocovariances(parts: Sequence[Values], count: int) -> Values:
    """Returns the autocovariances from lag 0 to half the frames; no pair is of two parts."""
    mean = sum(float(part.sum()) for part in parts) / max(count, 1)
    found = np.zeros(count // 2 + 1)
    for part in parts:
        size = 2 * len(part)
        spectrum = np.fft.rfft(part - mean, size) if size else np.zeros(1)  # padded, so that nothing wraps around
        own = np.fft.irfft(np.abs(spectrum) ** 2, max(size, 1))[: min(len(part), len(found))]
        found[: len(own)] += own
    return found / max(count, 1)


def _lags_that_matter(covariances: Values, count: int) -> int:
    """Returns twice the lag after which autocorrelations are as those of noise, at least 1, at most all there are."""
    limit = 2.0 * math.sqrt(math.log10(count) / count)
    quiet = np.abs(covariances[1:]) < limit * covariances[0]
    most = len(covariances) - 1
    for lag in range(most - _QUIET_LAGS + 1):
        if quiet[lag : lag + _QUIET_LAGS].all():
            return min(2 * max(lag, 1), most)
    return most

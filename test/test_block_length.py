"""Owns: how long blocks are. Leaves to others: the intervals of blocks (test_time_blocks, test_difference).

Oracle: the length that Politis and White derive for autoregressive series, whose autocorrelations are known.
"""

from __future__ import annotations

import numpy as np
import pytest

from cnn_perception.time_blocks import block_length


def autoregressive(correlation: float, count: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=count + 500)
    values = np.zeros(count + 500)
    for index in range(1, len(values)):
        values[index] = correlation * values[index - 1] + noise[index]
    return values[500:]


@pytest.mark.parametrize("correlation", [0.5, 0.7, 0.9])
def test_of_an_autoregressive_series_it_is_three_times_the_best_length_of_a_variance(correlation: float):
    count = 20_000
    found = np.median([block_length([autoregressive(correlation, count, seed)]) for seed in range(5)])

    ratio = 2 * correlation / (1 - correlation**2)  # of the sum of |k| rho^|k| and the sum of rho^|k|
    assert found == pytest.approx(3 * (1.5 * ratio**2 * count) ** (1 / 3), rel=0.25)


def test_of_independent_frames_it_is_short_and_of_long_events_long():
    random = np.random.default_rng(0)
    noise = random.choice([-1.0, 0.0, 1.0], 2000)

    independent = block_length([noise])
    events = block_length([np.repeat(noise[:100], 20)])

    assert independent == 1
    assert events is not None
    assert 30 <= events <= 500


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0], [2.0] * 50, [0.0] * 50])
def test_what_never_changes_tells_nothing_of_it(values: list[float]):
    assert block_length([np.array(values)]) is None


def test_recordings_are_not_joined():
    """Each recording is constant, and so no frame tells anything of a change within one."""
    alternating = [np.full(10, float(number % 2)) for number in range(40)]

    apart = block_length(alternating)
    joined = block_length([np.concatenate(alternating)])

    assert apart != joined
    assert apart is not None
    assert 1 <= apart <= 100


def test_it_is_never_longer_than_a_quarter_of_the_frames():
    trend = np.arange(60.0)

    assert block_length([trend]) == 15

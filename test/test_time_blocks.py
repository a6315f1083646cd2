"""Owns: intervals of recordings. Oracles: simulated recordings whose truth is known, a bootstrap by hand, Wilson's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cnn_perception.intervals import Independent, wilson
from cnn_perception.time_blocks import TimeBlocks, block_length, time_blocks

ACCURACY = 0.85


def recording(random: np.random.Generator, count: int, lasting: float, accuracy: float = ACCURACY) -> np.ndarray:
    """Right answers of which the share is known, and whose mistakes last so many frames: a Gaussian chain, cut."""
    keep = math.exp(-1 / lasting) if lasting else 0.0
    noise = random.normal(size=count)
    values = np.empty(count)
    values[0] = noise[0]
    for index in range(1, count):
        values[index] = keep * values[index - 1] + math.sqrt(1 - keep**2) * noise[index]
    return values < stats.norm.ppf(accuracy)


def marks(hits: np.ndarray) -> np.ndarray:
    return (~hits).astype(float)


def test_of_recordings_whose_mistakes_last_the_interval_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(8)
    measured = [recording(random, 1500, 10) for _ in range(300)]

    found = [time_blocks([marks(hits)]).share(hits) for hits in measured]
    as_if_independent = [Independent(1500).share(hits) for hits in measured]

    assert np.mean([one.low <= ACCURACY <= one.high for one in found]) == pytest.approx(0.95, abs=0.04)
    assert np.mean([one.low <= ACCURACY <= one.high for one in as_if_independent]) < 0.6


def test_of_several_recordings_that_differ_it_holds_the_truth_of_all_such_recordings():
    random = np.random.default_rng(1)
    held = []
    held_by_wilson = []
    for _ in range(200):
        accuracies = random.choice([0.7, 0.8, 0.9, 1.0], 12)  # of each the mean is 0.85
        drives = [recording(random, 100, 3, min(accuracy, 0.9999)) for accuracy in accuracies]
        hits = np.concatenate(drives)
        one = time_blocks([marks(drive) for drive in drives]).share(hits)
        plain = Independent(len(hits)).share(hits)
        held.append(one.low <= ACCURACY <= one.high)
        held_by_wilson.append(plain.low <= ACCURACY <= plain.high)

    assert np.mean(held) >= 0.91
    assert np.mean(held_by_wilson) < 0.75


def test_of_independent_frames_it_is_wilsons():
    hits = recording(np.random.default_rng(2), 4000, 0)

    blocks = time_blocks([marks(hits)])
    found = blocks.share(hits)

    plain = wilson(int(hits.sum()), 4000)
    assert found.value == plain.value
    assert found.high - found.low == pytest.approx(plain.high - plain.low, rel=0.05)
    assert blocks.independent(hits) == pytest.approx(4000, rel=0.05)


@pytest.mark.parametrize("lasting", [4, 15])
def test_the_independent_frames_are_those_of_a_moving_block_bootstrap_by_hand(lasting):
    hits = recording(np.random.default_rng(3), 1200, lasting)
    blocks = time_blocks([marks(hits)])
    (length,) = blocks.lengths

    random = np.random.default_rng(4)
    means = []
    for _ in range(3000):
        starts = random.integers(0, 1200 - length + 1, 1200 // length)
        means.append(np.concatenate([hits[start : start + length] for start in starts]).mean())

    share = hits.mean()
    variance = np.var(means) * (1200 // length * length) / 1200  # the draws by hand are cut to whole blocks
    assert blocks.independent(hits) == pytest.approx(share * (1 - share) / variance, rel=0.08)
    low, high = blocks.figure(lambda rows: float(hits[rows].mean())) or (0.0, 0.0)
    assert (low, high) == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=0.015)


def test_blocks_are_longer_where_mistakes_last_longer():
    random = np.random.default_rng(5)

    lengths = [np.median([block_length([marks(recording(random, 2000, t))]) for _ in range(9)]) for t in (0, 3, 12, 50)]

    assert lengths[0] == 1
    assert lengths == sorted(lengths)
    assert lengths[3] > 4 * lengths[1]


def test_a_recording_in_which_nothing_ever_differs_is_worth_a_few_frames():
    hits = np.ones(1000, np.bool_)

    found = time_blocks([np.full(1000, 0.3)]).share(hits)

    assert found.value == found.high == 1.0
    assert found.low < 0.5


def test_of_two_recordings_the_spread_between_them_counts():
    alike = np.concatenate([np.tile([True, False], 50)] * 2)
    apart = np.concatenate([np.ones(100, np.bool_), np.zeros(100, np.bool_)])
    blocks = TimeBlocks((100, 100), (1, 1))

    # by hand: 2 / 1 * (50^2 + 50^2) / 200^2 is the variance between, nothing within
    assert blocks.independent(apart) == pytest.approx(0.25 / 0.25)
    assert blocks.independent(alike) == pytest.approx(200)
    assert blocks.share(apart).high - blocks.share(apart).low > 0.8


def test_a_part_of_the_frames_has_its_own_share_and_a_wider_interval_of_many():
    hits = recording(np.random.default_rng(6), 900, 2)
    blocks = time_blocks([marks(hits[:300]), marks(hits[300:])])
    inside = np.arange(900) < 300

    alone = blocks.share(hits, inside)
    among_many = blocks.share(hits, inside, comparisons=50)

    assert alone.value == hits[:300].mean()
    assert among_many.low < alone.low
    assert among_many.high > alone.high


def test_the_mean_of_numbers_has_students_interval_of_independent_frames():
    values = np.random.default_rng(7).normal(3, 2, 200)

    found = time_blocks([values]).mean(values)

    expected = stats.t.interval(0.95, 199, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=0.01)


def test_recordings_without_frames_are_left_out_and_one_frame_is_enough():
    blocks = time_blocks([np.zeros(0), np.zeros(1)])

    assert blocks.frames == (1,)
    assert blocks.share(np.array([True])).value == 1.0
    assert blocks.figure(lambda rows: 1.0) is None


def test_values_of_one_frame_stay_together_and_are_worth_one():
    """Frames of 1 to 5 values that are all alike: no more is known than of as many frames."""
    random = np.random.default_rng(3)
    frames = random.random(400) < 0.5
    sizes = random.integers(1, 6, 400)
    values = np.repeat(frames, sizes)
    together = TimeBlocks((400,), (1,), tuple(sizes.tolist()))

    assert together.count == len(values)
    assert 300 <= together.independent(values) <= 400
    assert TimeBlocks((len(values),), (1,)).independent(values) > 1.9 * together.independent(values)
    wide, narrow = together.share(values), TimeBlocks((len(values),), (1,)).share(values)
    assert wide.value == narrow.value
    assert wide.high - wide.low > 1.4 * (narrow.high - narrow.low)
    drawn = together.figure(lambda rows: float(values[rows].mean()))
    assert drawn is not None
    assert drawn[1] - drawn[0] == pytest.approx(wide.high - wide.low, rel=0.25)


def test_frames_of_one_value_each_are_what_they_were():
    values = np.random.default_rng(4).random(50) < 0.3
    plain, sized = TimeBlocks((20, 30), (2, 3)), TimeBlocks((20, 30), (2, 3), (1,) * 50)

    assert plain.share(values) == sized.share(values)
    assert plain.figure(lambda rows: float(values[rows].mean())) == sized.figure(
        lambda rows: float(values[rows].mean())
    )

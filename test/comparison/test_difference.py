"""Owns: differences of two models, their intervals and chances, and what could be seen.

Oracles: scipy, hand arithmetic, and draws with a planted difference. Leaves to others: the interval of independent
pairs (test_intervals), the length of blocks (test_block_length), what frames are compared (test_comparison).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from benchmark.comparison_power import Setting, compared, count, drawn
from cnn_perception.comparison.difference import Difference, Series, Unit, difference, holm
from cnn_perception.intervals import sign_test


def mid_p(gained: int, lost: int) -> float:
    return sign_test(gained, lost, is_mid=True)


def found(values, unit: Unit = "time", period_s: float = 0.1, **options) -> Difference:
    settings = {"max_loss": 0.0, "is_share": True, **options}
    array = np.array(values, np.float64)
    return difference([Series(array, np.arange(len(array)) * period_s)], unit, **settings)


@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (5, 0), (0, 6), (3, 11), (11, 3), (40, 25), (400, 470)])
def test_mid_p_is_the_exact_chance_less_half_of_what_was_seen(gained: int, lost: int):
    exact = stats.binomtest(gained, gained + lost).pvalue
    seen = stats.binom.pmf(gained, gained + lost, 0.5)

    assert mid_p(gained, lost) == pytest.approx(exact - seen, rel=1e-9)


@pytest.mark.parametrize("both", [0, 1, 7])
def test_mid_p_of_equal_sides_is_one(both: int):
    assert mid_p(both, both) == pytest.approx(1.0)


def test_holms_chances_are_those_of_his_procedure():
    """By hand: 4 * 0.005, 3 * 0.01, then 2 * 0.03, which is larger than 0.04."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.9]) == [1.0, 1.0]


def test_independent_images_have_mcnemars_chance_and_the_share_that_was_counted():
    one = found([-1] * 15 + [1] * 4 + [0] * 281, "frame")

    assert one.value == pytest.approx(-11 / 300)
    assert one.chance == mid_p(4, 15)
    assert one.low < one.value < one.high < 0
    assert (one.unit, one.block, one.units) == ("frame", 1, 300)


def test_of_independent_frames_blocks_of_time_say_the_same_as_their_standard_error():
    values = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 3000, p=[0.06, 0.9, 0.04])

    one = found(values)

    reach = 1.96 * values.std() / np.sqrt(3000)
    assert (one.low, one.high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.25 * reach)


def test_events_of_fifteen_frames_are_as_wide_as_so_many_fewer_frames():
    events = np.random.default_rng(4).choice([-1.0, 0.0, 1.0], 400, p=[0.2, 0.6, 0.2])

    single = found(events, "frame")
    repeated = found(np.repeat(events, 15))

    assert repeated.high - repeated.low == pytest.approx(single.high - single.low, rel=0.3)


@pytest.mark.parametrize("unit", ["frame", "time"])
def test_a_planted_loss_of_two_points_is_found_in_95_of_100_draws_of_2000_frames(unit: Unit):
    assert count(Setting(2000, 1, 0.04, 0.02, unit), 100).worse >= 95


@pytest.mark.parametrize("unit", ["frame", "time"])
def test_equal_models_raise_at_most_10_alarms_in_100_draws(unit: Unit):
    equal = count(Setting(2000, 1, 0.04, 0.0, unit), 100)

    assert equal.worse + equal.better <= 10


@pytest.mark.parametrize("discordant", [0.04, 0.15])
def test_of_events_of_fifteen_frames_blocks_keep_the_alarms_down_that_mcnemar_raises(discordant: float):
    blocks = count(Setting(2000, 15, discordant, 0.0, "time"), 100)
    mcnemar = count(Setting(2000, 15, discordant, 0.0, "frame"), 100)

    assert blocks.worse + blocks.better <= 10
    assert blocks.held >= 90
    assert mcnemar.worse + mcnemar.better >= 40


def test_the_loss_that_could_be_shown_is_found_in_about_80_of_100_draws():
    loss = found(drawn(Setting(2000, 1, 0.04, 0.0, "frame"), np.random.default_rng(0)), "frame").detectable

    assert 70 <= count(Setting(2000, 1, 0.04, loss, "frame"), 100).worse <= 92


@pytest.mark.parametrize(("seconds", "is_proven"), [(1, False), (5, False), (6, True), (30, True)])
def test_what_lasts_less_than_six_seconds_proves_nothing(seconds: int, is_proven: bool):
    """A junction that one model gets wrong in every frame is one event, however many frames it has."""
    one = found([-1] * 10 * seconds)

    assert (one.high < 0) is is_proven
    assert (one.chance < 0.05) is is_proven


def test_what_happens_at_many_times_proves_something_however_regular_it_is():
    """Three frames of each second: blocks of whole seconds are all alike, and do not vary at all."""
    one = found([-1, -1, -1, 0, 0, 0, 0, 0, 0, 0] * 30)

    assert one.high < 0
    least = found([-1] * 90 + [0] * 210, "frame")
    assert one.high - one.low >= least.high - least.low
    assert one.detectable >= least.detectable


def test_events_are_counted_in_time_where_frames_between_them_are_left_out():
    """Of one class there are three frames a second; fewer than ten in each of its events."""
    times_s = np.array([second + step / 10 for second in range(8) for step in range(3)])

    one = difference([Series(np.full(24, -1.0), times_s)], "time", max_loss=0.0, is_share=True)

    assert one.high < 0
    assert one.block == 3


def test_a_single_long_event_in_a_short_recording_proves_nothing():
    one = found([-1] * 100 + [0] * 80)

    assert one.high >= 0


@pytest.mark.parametrize(("count_", "unit"), [(1, "frame"), (40, "frame"), (400, "frame"), (400, "time")])
def test_where_no_answer_differs_the_interval_is_what_may_occur_unseen(count_: int, unit: Unit):
    one = found([0] * count_, unit)

    expected = stats.binomtest(0, one.units).proportion_ci(0.95, "exact").high
    assert (one.low, one.high) == pytest.approx((-expected, expected))
    assert one.chance == 1.0
    assert one.units == (count_ if unit == "frame" else count_ // 10)


def test_a_single_frame_proves_nothing():
    for unit in ("frame", "time", "bag"):
        for value in (-1, 0, 1):
            one = found([value], unit)
            assert one.low <= 0 <= one.high
            assert one.chance >= 0.05


def test_recordings_as_wholes_have_students_interval_of_their_means():
    means = np.random.default_rng(5).normal(-0.1, 0.05, 25).clip(-1, 1)
    parts = [Series(np.full(40, mean), np.arange(40) / 10) for mean in means]

    one = difference(parts, "bag", max_loss=0.0, is_share=False)

    low, high = stats.t.interval(0.95, 24, means.mean(), stats.sem(means))
    assert (one.low, one.high) == pytest.approx((low, high), abs=0.2 * (high - low))
    assert (one.units, one.block) == (25, 1)


def test_a_recording_of_more_frames_weighs_more():
    parts = [Series(np.full(300, -1.0), np.arange(300.0)), Series(np.zeros(100), np.arange(100.0))]

    assert difference(parts, "time", max_loss=0.0, is_share=True).value == -0.75


def test_blocks_hold_two_cameras_at_the_same_time():
    """Twice the same answers at the same times are no more than once."""
    values = drawn(Setting(900, 1, 0.1, 0.05, "time"), np.random.default_rng(6))
    once = found(values, period_s=0.5)
    times_s = np.repeat(np.arange(900) * 0.5, 2)

    twice = difference([Series(np.repeat(values, 2), times_s)], "time", max_loss=0.0, is_share=True)

    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.25)


def test_errors_are_differences_in_their_unit():
    values = np.random.default_rng(7).normal(-0.3, 1.0, 900)

    one = found(values, "frame", is_share=False)

    low, high = stats.t.interval(0.95, 899, values.mean(), stats.sem(values))
    assert (one.low, one.high) == pytest.approx((low, high), abs=0.02)
    assert one.detectable == pytest.approx((1.96 + 0.8416) * stats.sem(values), rel=0.1)


def test_a_loss_that_is_allowed_has_to_be_exceeded():
    values = [-1] * 60 + [1] * 10 + [0] * 930

    chances = [found(values, "frame", max_loss=limit).chance for limit in (0.0, 0.02, 0.05, 0.08)]

    assert chances[0] < chances[1] < 0.05
    assert chances[2] > 0.5
    assert chances[3] < 0.05
    assert [a < b for a, b in pairwise(found(values, "frame", max_loss=x).detectable for x in (0.0, 0.1))] == [True]


def test_the_same_frames_give_the_same_figures():
    values = drawn(Setting(600, 5, 0.1, 0.0, "time"), np.random.default_rng(8))

    assert compared(values, "time") == compared(values, "time")


@pytest.mark.parametrize(("frames", "event", "discordant"), [(600, 60, 0.3), (1800, 100, 0.3), (1800, 30, 0.1)])
def test_events_of_any_length_raise_few_alarms(frames: int, event: int, discordant: float):
    """Their lengths are geometric, with this mean; equally often one model is right and the other."""
    alarms = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        values = np.zeros(frames)
        at = int(random.integers(event))
        while at < frames:
            at += int(random.geometric(discordant / (event * (1 - discordant))))
            length = int(random.geometric(1 / event))
            values[at : at + length] = random.choice([-1, 1])
            at += length
        one = compared(values, "time")
        alarms += one.chance < 0.05

    assert alarms <= 10

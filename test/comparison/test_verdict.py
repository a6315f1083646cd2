"""Owns: what is said of a difference, and when a model fails. Leaves to others: the difference (test_difference)."""

from __future__ import annotations

import pytest

from cnn_perception.comparison.difference import Difference
from cnn_perception.comparison.verdict import Verdict, judge


def verdict(value: float, low: float, high: float, max_loss: float = 0.0, chance: float = 0.01, **options) -> Verdict:
    found = Difference(2000, value, low, high, chance, 0.01, "time", 15, 133)
    return judge(found, max_loss, "points", **options)


def test_a_proven_loss_is_said_with_its_interval():
    one = verdict(-0.021, -0.034, -0.009)

    assert one.text == "worse: 2.1 points (95 %: 0.9 to 3.4)"
    assert (one.change, one.is_loss_proven, one.is_loss_ruled_out) == ("worse", True, False)
    assert one.fails("pass")


def test_a_proven_gain_is_said_with_its_interval():
    one = verdict(0.021, 0.009, 0.034)

    assert one.text == "better: 2.1 points (95 %: 0.9 to 3.4)"
    assert not one.fails("fail")


def test_where_nothing_is_shown_the_loss_that_is_possible_is_said():
    one = verdict(0.002, -0.004, 0.008, chance=0.4)

    assert one.text == ("no difference shown: +0.2 points (95 %: -0.4 to +0.8); a loss of up to 0.4 points is possible")
    assert not one.fails("pass")
    assert one.fails("fail")


@pytest.mark.parametrize(
    ("low", "high", "is_proven", "is_ruled_out"),
    [
        (-0.040, -0.0201, True, False),
        (-0.040, -0.0200, False, False),
        (-0.040, -0.0199, False, False),
        (-0.0201, -0.005, False, False),
        (-0.0200, -0.005, False, True),
        (-0.0199, -0.005, False, True),
        (0.001, 0.010, False, True),
    ],
)
def test_an_allowed_loss_below_at_and_above_the_interval(low, high, is_proven, is_ruled_out):
    one = verdict((low + high) / 2, low, high, max_loss=0.02)

    assert (one.is_loss_proven, one.is_loss_ruled_out) == (is_proven, is_ruled_out)
    assert one.fails("pass") is is_proven
    assert one.fails("fail") is not is_ruled_out


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.040, -0.025, "more than the 2 points that --max-loss allows"),
        (-0.010, -0.005, "within the 2 points that --max-loss allows"),
        (-0.040, -0.005, "which may be more than the 2 points that --max-loss allows"),
    ],
)
def test_what_is_allowed_is_said_beside_the_loss(low, high, words):
    assert verdict((low + high) / 2, low, high, max_loss=0.02).text.endswith(words)


@pytest.mark.parametrize(("chance", "change"), [(0.049, "worse"), (0.05, "not shown"), (0.051, "not shown")])
def test_a_loss_needs_a_chance_below_five_percent(chance, change):
    one = verdict(-0.02, -0.04, -0.001, chance=chance)

    assert one.change == change
    assert one.is_loss_proven is (change == "worse")


def test_one_model_file_differs_in_nothing_from_itself():
    one = verdict(0.0, -0.02, 0.02, chance=1.0, is_same_model=True)

    assert one.text == "no difference: both are the same model file"
    assert not one.fails("fail")

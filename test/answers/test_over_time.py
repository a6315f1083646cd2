"""Owns: answers as a robot lives with them, by hand arithmetic. Leaves to others: where they come from."""

from __future__ import annotations

import pytest

from cnn_perception.answers.answer import Answer, Reading
from cnn_perception.answers.matching import AskedFrame
from cnn_perception.answers.over_time import change_delays, changes_per_minute, in_time, percentiles

CLASS = Reading()


def frames(*truths):
    """One a second, from 10 s on."""
    return [AskedFrame(index, index, 10.0 + index, truth) for index, truth in enumerate(truths)]


def answer(time_s, name, score=0.9):
    return Answer(0, time_s, ((name, score),) if name else ())


def test_the_latest_answer_holds_until_the_next_right_or_wrong():
    # 10 to 12 s red, 12 to 14 s blue; nothing before 10.25 s, red up to 12.5 s, then blue
    found = in_time(frames("red", "red", "blue", "blue"), [answer(10.25, "red"), answer(12.5, "blue")], CLASS)

    assert found.labelled_s == pytest.approx(4.0)
    assert found.silent_s == pytest.approx(0.25)
    assert found.accuracy == pytest.approx((1.75 + 1.5) / 4)


def test_time_in_which_nothing_is_known_does_not_count():
    found = in_time(frames("red", None, "red"), [answer(9.0, "red"), answer(12.25, "blue")], CLASS)

    assert found.labelled_s == pytest.approx(2.0)
    assert found.accuracy == pytest.approx(1.25 / 2)


def test_an_answer_without_a_class_is_wrong_and_none_of_these_is_rightly_unknown():
    assert in_time(frames("red", "red"), [answer(9.0, "")], CLASS).accuracy == 0.0
    assert in_time(frames("none of these", "red"), [answer(9.0, "unknown")], CLASS).accuracy == pytest.approx(0.5)


def test_numbers_have_their_mean_error_over_the_time_with_an_answer():
    reading = Reading(has_classes=False, names=("steer",))
    asked = [AskedFrame(0, 0, 0.0, (1.0,)), AskedFrame(1, 1, 1.0, (2.0,))]

    found = in_time(asked, [answer(0.5, "steer", 1.5)], reading)

    assert found.accuracy is None
    assert found.errors == (pytest.approx((0.5 * 0.5 + 1.0 * 0.5) / 1.5),)
    assert found.silent_s == pytest.approx(0.5)


def test_changes_are_counted_a_minute():
    answers = [answer(time_s, name) for time_s, name in ((0, "a"), (10, "b"), (20, "b"), (30, "a"))]

    assert changes_per_minute(answers, CLASS) == pytest.approx(4.0)
    assert changes_per_minute(answers[:1], CLASS) is None
    assert changes_per_minute(answers, Reading(has_classes=False)) is None


def test_the_delay_of_a_change_is_the_time_until_the_answer_follows():
    asked = frames("red", "red", "blue", "blue", "red", "red")
    answers = [answer(10.1, "red"), answer(12.4, "blue"), answer(14.9, "red")]

    found = change_delays(asked, answers, CLASS)

    assert (found.changes, found.missed) == (2, 0)
    assert found.delay_ms.p50_ms == pytest.approx((400 + 900) / 2)


def test_a_change_that_is_over_before_the_answer_follows_is_missed_and_one_known_before_costs_nothing():
    asked = frames("red", "blue", "red", None, "blue", "green")
    answers = [answer(9.0, "red"), answer(12.5, "blue"), answer(14.9, "green")]

    found = change_delays(asked, answers, CLASS)

    # to blue at 11 s: missed; to red at 12 s: answered all along; over the gap: not told; to green at 15 s: before
    assert (found.changes, found.missed) == (3, 1)
    assert found.delay_ms.count == 2
    assert found.delay_ms.p99_ms == 0.0


def test_percentiles_are_those_of_linear_interpolation():
    found = percentiles([n / 1000 for n in range(101)])

    assert (found.count, found.p50_ms, found.p95_ms, found.p99_ms) == pytest.approx((101, 50.0, 95.0, 99.0))
    assert percentiles([]).count == 0

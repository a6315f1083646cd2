"""Owns: which answer belongs to which frame. Leaves to others: how good it is (test_over_time, test_recorded)."""

from __future__ import annotations

from cnn_perception.answers.answer import Answer
from cnn_perception.answers.matching import AskedFrame, matched


def frame(index, stamp_ns):
    return AskedFrame(index, stamp_ns, index / 10, None)


def answer(stamp_ns, name="red"):
    return Answer(stamp_ns, 0.0, ((name, 1.0),))


def test_an_answer_belongs_to_the_frame_with_its_stamp_to_the_nanosecond():
    found = matched([frame(0, 100), frame(1, 101)], [answer(101, "blue"), answer(99)])

    assert found.answers == (None, answer(101, "blue"))
    assert (found.strangers, found.repeated, found.ambiguous) == (1, 0, 0)


def test_the_first_of_several_answers_to_a_frame_counts():
    found = matched([frame(0, 100)], [answer(100, "red"), answer(100, "blue")])

    assert found.answers == (answer(100, "red"),)
    assert found.repeated == 1


def test_frames_without_stamps_are_told_apart_by_their_order_if_all_were_answered():
    found = matched([frame(0, 0), frame(1, 0)], [answer(0, "red"), answer(0, "blue")])

    assert found.answers == (answer(0, "red"), answer(0, "blue"))
    assert found.ambiguous == 0


def test_nobody_guesses_which_of_the_frames_without_stamps_was_answered():
    found = matched([frame(0, 0), frame(1, 0), frame(2, 5)], [answer(0), answer(5)])

    assert found.answers == (None, None, answer(5))
    assert (found.ambiguous, found.strangers) == (2, 0)

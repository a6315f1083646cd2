"""Owns: how far the figures of answers can be believed. Oracle: simulated drives whose share of right answers is known.

Leaves to others: the blocks themselves (test_time_blocks), the figures (test_recorded).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cnn_perception.answers.answer import Answer, Reading
from cnn_perception.answers.matching import AskedFrame
from cnn_perception.answers.recorded import offline_accuracy
from cnn_perception.answers.stream_report import AnswerScores, report_stream
from cnn_perception.errors import DataError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.intervals import wilson
from cnn_perception.tasks.prediction import Prediction

ACCURACY = 0.85
PERIOD_S = 0.1


def right_for_a_while(random: np.random.Generator, count: int, lasting: float) -> np.ndarray:
    """Which of a drive's answers are right: a Gaussian chain that forgets in so many frames, cut."""
    keep = math.exp(-1 / lasting)
    values = random.normal(size=count)
    for index in range(1, count):
        values[index] = keep * values[index - 1] + math.sqrt(1 - keep**2) * values[index]
    return values < stats.norm.ppf(ACCURACY)


def scored(right: np.ndarray) -> AnswerScores:
    frames = [AskedFrame(index, index + 1, index * PERIOD_S, "a") for index in range(len(right))]
    answers = [
        Answer(index + 1, index * PERIOD_S, (("a" if is_right else "b", 0.9),)) for index, is_right in enumerate(right)
    ]
    return report_stream("/answers", frames, answers, Reading())[0].scores


def test_where_mistakes_last_the_interval_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(3)
    drives = [right_for_a_while(random, 1000, 10) for _ in range(100)]

    found = [scored(right).accuracy for right in drives]
    as_if_independent = [wilson(int(right.sum()), len(right)) for right in drives]

    assert sum(one.low <= ACCURACY <= one.high for one in found if one) >= 88
    assert sum(one.low <= ACCURACY <= one.high for one in as_if_independent) < 70


def test_frames_are_worth_fewer_independent_ones_where_mistakes_last():
    lasting = right_for_a_while(np.random.default_rng(4), 1000, 10)

    one_event = scored(lasting).sampling
    apart = scored(np.random.default_rng(5).permutation(lasting)).sampling

    assert one_event is not None
    assert apart is not None
    assert one_event.frames == apart.frames == 1000
    assert apart.independent_frames == pytest.approx(1000, rel=0.2)
    assert one_event.independent_frames < 300
    assert one_event.block_s == pytest.approx(1000 / one_event.blocks * PERIOD_S, rel=0.2)


def test_numbers_say_how_many_independent_frames_their_errors_are_worth():
    drift = np.repeat(np.random.default_rng(6).normal(size=50), 20)
    frames = [AskedFrame(index, index + 1, index * PERIOD_S, (0.0,)) for index in range(1000)]
    answers = [Answer(index + 1, index * PERIOD_S, (("steer", float(value)),)) for index, value in enumerate(drift)]

    found = report_stream("/steer", frames, answers, Reading(False, names=("steer",)))[0].scores

    assert found.sampling is not None
    assert found.sampling.independent_frames < 150
    assert found.errors[0].mae == pytest.approx(np.abs(drift).mean())


def test_the_models_own_answers_offline_have_the_same_kind_of_interval():
    right = right_for_a_while(np.random.default_rng(7), 1000, 10)
    names = ("a", "b")
    records = [
        FrameRecord(index, "", index + 1, index * PERIOD_S, "a").answered(prediction(names, bool(is_right)))
        for index, is_right in enumerate(right)
    ]

    found = offline_accuracy(records)
    plain = wilson(int(right.sum()), len(right))

    assert found is not None
    assert found.value == pytest.approx(right.mean())
    assert found.high - found.low > 1.5 * (plain.high - plain.low)
    assert offline_accuracy(records[:0]) is None


def prediction(names: tuple[str, ...], is_right: bool) -> Prediction:
    scores = np.array([0.9, 0.1] if is_right else [0.1, 0.9], np.float32)
    return Prediction(names, scores, int(not is_right), None, np.empty(0, np.float32))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_answer_that_is_no_number_is_refused_in_one_line(value):
    with pytest.raises(DataError, match=r"the stamp 7 ns says (nan|inf) of 'a'"):
        Answer(7, 0.0, (("a", value),))

"""Owns: what follows from numbers. Oracles: hand arithmetic, scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from answers import NOTHING, numbers
from scipy.stats import norm, sem
from tiny_model import regression_spec

from cnn_perception.errors import DataError
from cnn_perception.tasks import task_of
from cnn_perception.tasks.rules import Figure, FrameCounts

TASK = task_of("regression")
NAMES = ("speed", "angle")
SPEC = regression_spec({"speed": "m/s", "angle": ""})
FRAMES = FrameCounts(3, 3, 0, {})


def test_an_answer_is_its_numbers_in_every_wording():
    found = numbers(1.25, -0.5)

    assert TASK.text(found) == "1.25;-0.5"
    assert TASK.scored_text(found, most=1) == "speed 1.25 m/s, angle -0.5"
    assert [(row.name, row.figure, row.share) for row in TASK.rows(found, 1)] == [
        ("speed", "1.25 m/s", None),
        ("angle", "-0.5", None),
    ]
    assert TASK.model_values(SPEC) == {"numbers": "speed (m/s), angle"}


def test_two_answers_differ_by_an_amount_and_never_disagree():
    ours = numbers(1.25, -0.5)
    theirs = numbers(1.0, 4.0, names=("speed", "height"))

    assert TASK.differences(ours, theirs, ("speed",)) == {"speed": 0.25}
    assert TASK.disagreements(ours, theirs, ("speed",)) == []
    assert TASK.margin(ours) == 1.0


def test_numbers_are_averaged_and_not_held():
    given = np.array([False, False, False])

    assert TASK.averaged(numbers(1.25, -0.5)).tolist() == [1.25, -0.5]
    assert not TASK.answered(numbers(1.25, -0.5)).any()
    assert TASK.wanted(np.array([9.0, 9.0]), 0.0, given, NOTHING, 0.5).tolist() == given.tolist()
    assert TASK.held(numbers(1.25, -0.5), np.float32([1.0, 0.0]), given).values.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("text", "truth"), [("1.5;-2", (1.5, -2.0)), ("", None), ("none", None)])
def test_a_label_is_numbers_with_a_separator_between_them(text, truth):
    assert TASK.truth_of_text(text, NAMES, "file") == truth


@pytest.mark.parametrize("text", ["1", "1;2;3", "1;x", "1;nan"])
def test_a_label_that_is_not_the_models_numbers_is_refused(text):
    with pytest.raises(DataError, match=r"^file: '.*' is not the 2 numbers speed;angle"):
        TASK.truth_of_text(text, NAMES, "file")


def test_the_largest_error_of_a_number_comes_first_and_none_is_right_or_wrong():
    found = numbers(1.25, -0.5)

    assert TASK.deviation(found, (1.0, 0.5)) == TASK.badness(found, (1.0, 0.5)) == 1.0
    assert (TASK.deviation(found, None), TASK.badness(found, None)) == (None, 0.0)
    assert TASK.is_right(found, (1.25, -0.5)) is None


def test_cells_stand_below_their_columns():
    rows = [TASK.cells(numbers(1.25, -0.5), None, NAMES), TASK.cells(None, (0.1234567, 2.0), NAMES)]

    assert TASK.columns(NAMES) == ("true speed", "predicted speed", "true angle", "predicted angle")
    assert rows == [["", "1.25", "", "-0.5"], ["0.123457", "", "2", ""]]


def test_figures_are_those_of_scikit_learn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(3)
    truth = random.normal(size=(100, 2))
    found = (truth + random.normal(scale=0.3, size=(100, 2))).astype(np.float32)
    scored = [(tuple(row.tolist()), numbers(*answer)) for row, answer in zip(truth, found, strict=True)]

    scores = TASK.score(FRAMES, scored, SPEC, threshold=0.0)

    for index, number in enumerate(scores.numbers):
        true = truth[:, index]
        predicted = found[:, index].astype(np.float64)
        assert number.mae == pytest.approx(sklearn_metrics.mean_absolute_error(true, predicted))
        assert number.rmse == pytest.approx(sklearn_metrics.root_mean_squared_error(true, predicted))
        assert number.r2 == pytest.approx(sklearn_metrics.r2_score(true, predicted))
        assert number.mae_of_mean == pytest.approx(np.abs(true - true.mean()).mean())
    largest = max(number.mae for number in scores.numbers)
    assert scores.reaches(largest)
    assert not scores.reaches(largest - 1e-6)
    intervals = [number.mae_interval for number in scores.numbers]
    assert scores.figures(SPEC, 0.0) == [
        Figure("MAE of speed, m/s", scores.numbers[0].mae, is_share=False, interval=intervals[0]),
        Figure("MAE of angle", scores.numbers[1].mae, is_share=False, interval=intervals[1]),
    ]
    for interval, errors in zip(intervals, np.abs(found.astype(np.float64) - truth).T, strict=True):
        # the standard error says how wide it is; 200 draws know its ends to about a tenth
        expected = norm.interval(0.95, errors.mean(), sem(errors))
        assert interval == pytest.approx(expected, abs=0.15 * (expected[1] - expected[0]))


def test_what_was_never_scored_reaches_nothing_and_has_no_figures():
    found = TASK.score(FRAMES, [], SPEC, threshold=0.0)

    assert not found.reaches(1e9)
    assert (found.summary(), found.figures(SPEC, 0.0)) == ([], [])

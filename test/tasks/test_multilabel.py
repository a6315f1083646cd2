"""Owns: what follows from any number of classes an image. Oracles: hand arithmetic, scikit-learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from answers import NAMES, some_classes
from specs import SPEC

from cnn_perception.errors import DataError
from cnn_perception.tasks import task_of
from cnn_perception.tasks.rules import FrameCounts

TASK = task_of("multilabel")
LIMITS = (0.5, 0.25, 0.75)
MODEL = dataclasses.replace(
    SPEC, task="multilabel", class_names=NAMES, thresholds=LIMITS, unknown=None, statistics=None
)
FRAMES = FrameCounts(3, 3, 0, {})


def flags(*values: int) -> np.ndarray:
    return np.array(values, np.bool_)


def test_an_answer_is_the_classes_seen_in_every_wording():
    found = some_classes(0.625, 0.125, 0.75)

    assert TASK.text(found) == "ant;cat"
    assert TASK.scored_text(found, most=5) == "cat 0.75 + ant 0.62"
    assert [(row.name, row.share, row.is_answer) for row in TASK.rows(found, 5)] == [
        ("cat", 0.75, True),
        ("ant", 0.625, True),
    ]


def test_a_class_below_the_threshold_of_all_is_listed_and_no_answer():
    found = some_classes(0.625, 0.125, 0.75)

    assert [(row.name, row.is_answer) for row in TASK.rows(found, 5, 0.7)] == [("cat", True), ("ant", False)]
    assert [(row.name, row.is_answer) for row in TASK.rows(found, 2, 0.8)] == [
        ("below threshold", False),
        ("cat", False),
    ]
    assert [row.name for row in TASK.rows(some_classes(0.25, 0.125, 0.0), 5, 0.8)] == ["nothing"]


def test_an_image_without_any_class_is_an_answer_too():
    found = some_classes(0.25, 0.125, 0.0)

    assert (TASK.text(found), TASK.scored_text(found, most=5)) == (";", "nothing")
    assert [(row.name, row.is_answer) for row in TASK.rows(found, 5)] == [("nothing", False)]


def test_two_answers_disagree_about_each_class_that_only_one_has_seen():
    ours = some_classes(0.75, 0.75, 0.25)
    theirs = some_classes(0.75, 0.25, 0.75)

    assert TASK.disagreements(ours, theirs, NAMES) == [("bee", "not seen"), ("not seen", "cat")]
    assert TASK.disagreements(ours, theirs, ("ant", "cat")) == [("not seen", "cat")]  # a bee only one can know
    assert TASK.disagreements(ours, ours, NAMES) == []


@pytest.mark.parametrize(
    ("averages", "answers", "expected"),
    [
        # a band of 0.5 around 0.5, 0.25 and 0.75: rising 0.75, 0.625, 0.875, falling 0.25, 0.125, 0.375
        ((0.74, 0.62, 0.87), (0, 0, 0, 0), (0, 0, 0, 0)),
        ((0.75, 0.625, 0.875), (0, 0, 0, 0), (1, 1, 1, 0)),
        ((0.25, 0.125, 0.375), (1, 1, 1, 0), (1, 1, 1, 0)),
        ((0.24, 0.12, 0.37), (1, 1, 1, 0), (0, 0, 0, 0)),
    ],
)
def test_a_class_stays_as_it_is_within_its_band(averages, answers, expected):
    found = TASK.wanted(np.array(averages), 0.0, flags(*answers), np.float32(LIMITS), 0.5)

    assert found.tolist() == flags(*expected).tolist()


def test_held_classes_are_the_answer_best_first():
    found = TASK.held(some_classes(0.0, 0.0, 0.0), np.float32([0.25, 0.5, 0.75]), flags(1, 0, 1, 0))

    assert (found.held, TASK.text(found)) == ((2, 0), "ant;cat")


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("bee", {"bee"}),
        ("bee ; cat", {"bee", "cat"}),
        ("bee|cat", {"bee", "cat"}),
        (";", set()),
        ("", set()),
        ("none", None),
    ],
)
def test_a_label_is_classes_with_a_separator_between_them(text, truth):
    assert TASK.truth_of_text(text, NAMES, "file") == truth


def test_a_class_that_the_model_has_not_is_refused():
    with pytest.raises(DataError, match="file: the model has no class 'dog'"):
        TASK.truth_of_text("ant;dog", NAMES, "file")


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (("path", "classes", "ant", "bee", "cat"), ("classes",)),
        (("path", "class", "ant", "bee", "cat"), ("class",)),
        (("path", "ant", "bee", "cat"), NAMES),
        (("path", "ant", "bee"), ("class",)),  # and its absence is reported
    ],
)
def test_labels_stand_in_one_column_or_in_one_for_each_class(header, columns):
    assert TASK.label_columns(header, NAMES) == columns


def test_a_column_for_each_class_says_whether_it_is_there():
    assert TASK.truth_of_numbers(NAMES, (1.0, 0.0, 1.0)) == {"ant", "cat"}


def test_wrong_classes_come_first_by_their_distance_from_the_threshold():
    found = some_classes(0.75, 0.125, 0.375)

    assert TASK.badness(found, frozenset({"ant"})) == 1 - 0.125  # right; cat is the closest call
    assert TASK.badness(found, frozenset({"bee", "cat"})) == 1 + 0.25 + 0.375 + 0.125
    assert TASK.badness(found, None) == -0.125


def test_cells_stand_below_their_columns():
    found = some_classes(0.75, 0.125, 0.5)
    rows = [TASK.cells(found, frozenset(), NAMES), TASK.cells(None, None, NAMES)]

    assert TASK.columns(NAMES) == ("truth", "predicted", "score ant", "score bee", "score cat")
    assert rows == [[";", "ant;cat", "0.750000", "0.125000", "0.500000"], ["", "", "", "", ""]]


def test_figures_are_those_of_scikit_learn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(2)
    truth = random.random((200, 3)) < (0.5, 0.2, 0.7)
    scores = (0.3 * truth + 0.7 * random.random((200, 3))).astype(np.float32)
    known = [frozenset(np.array(NAMES)[row].tolist()) for row in truth]
    answers = [some_classes(*row, thresholds=LIMITS) for row in scores]

    found = TASK.score(FRAMES, list(zip(known, answers, strict=True)), MODEL, threshold=0.0)

    seen = scores >= np.float32(LIMITS)
    assert found.mean_average_precision == pytest.approx(sklearn_metrics.average_precision_score(truth, scores))
    assert found.macro_f1 == pytest.approx(sklearn_metrics.f1_score(truth, seen, average="macro"))
    assert found.exact == pytest.approx(sklearn_metrics.accuracy_score(truth, seen))
    rows = zip(*sklearn_metrics.precision_recall_fscore_support(truth, seen), strict=True)
    for one, expected in zip(found.classes, rows, strict=True):
        assert (one.precision, one.recall, one.f1, one.support) == pytest.approx(expected)
    assert found.reaches(found.mean_average_precision)
    assert not found.reaches(found.mean_average_precision + 1e-6)
    figures = [figure.value for figure in found.figures(MODEL, 0.0)]
    assert figures == [found.mean_average_precision, found.macro_f1, found.exact]


def test_what_was_never_scored_reaches_nothing_and_has_no_figures():
    found = TASK.score(FRAMES, [], MODEL, threshold=0.0)

    assert not found.reaches(0.0)
    assert (found.summary(), found.figures(MODEL, 0.0)) == ([], [])

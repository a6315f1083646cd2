"""Owns: what follows from one class an image. Oracles: hand arithmetic, scikit-learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from answers import NAMES, NOTHING, one_class
from specs import SPEC

from cnn_perception.errors import DataError
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.tasks import task_of
from cnn_perception.tasks.multiclass import KEPT_CLASSES
from cnn_perception.tasks.rules import Figure, FrameCounts

TASK = task_of("multiclass")
WITH_RULE = dataclasses.replace(SPEC, class_names=NAMES)
PLAIN = dataclasses.replace(WITH_RULE, unknown=None, statistics=None)
FRAMES = FrameCounts(3, 3, 0, {})


def flags(*values: int) -> np.ndarray:
    return np.array(values, np.bool_)


# ---- in words


def test_an_answer_is_its_class_in_every_wording():
    found = one_class(0.25, 0.625, 0.125)

    assert TASK.text(found) == "bee"
    assert TASK.scored_text(found, most=5) == "bee 0.62"
    assert [(row.name, row.share, row.is_answer) for row in TASK.rows(found, 2)] == [
        ("bee", 0.625, True),
        ("ant", 0.25, False),
    ]


def test_a_class_below_the_threshold_is_listed_and_no_answer():
    found = one_class(0.25, 0.625, 0.125)
    holding_ant = dataclasses.replace(found, held=(0,))

    assert [(row.name, row.is_answer) for row in TASK.rows(found, 2, 0.625)] == [("bee", True), ("ant", False)]
    assert [(row.name, row.share, row.is_answer) for row in TASK.rows(found, 3, 0.63)] == [
        ("below threshold", None, False),
        ("bee", 0.625, False),
        ("ant", 0.25, False),
    ]
    # the class that is held is not sure enough, and its challenger is not answered in its place
    assert [(row.name, row.is_answer) for row in TASK.rows(holding_ant, 3, 0.5)] == [
        ("below threshold", False),
        ("ant", False),
        ("bee", False),
    ]
    unknown = one_class(0.25, 0.625, 0.125, unknown=True)
    assert [(row.name, row.is_answer) for row in TASK.rows(unknown, 3, 0.9)] == [("unknown", True)]


def test_an_unknown_image_has_no_score_in_any_wording():
    found = one_class(0.25, 0.625, 0.125, unknown=True)

    assert (TASK.text(found), TASK.scored_text(found, most=5)) == ("unknown", "unknown")
    assert [(row.name, row.share) for row in TASK.rows(found, 3)] == [("unknown", None)]
    assert not TASK.answered(found).any()


def test_two_answers_disagree_where_their_classes_differ_and_an_unknown_one_is_a_class():
    bee = one_class(0.1, 0.8, 0.1)
    ant = one_class(0.9, 0.05, 0.05)
    unknown = one_class(0.1, 0.8, 0.1, unknown=True)

    assert TASK.disagreements(bee, one_class(0.2, 0.5, 0.3), NAMES) == []
    assert TASK.disagreements(bee, ant, NAMES) == [("bee", "ant")]
    assert TASK.disagreements(bee, unknown, NAMES) == [("bee", "unknown")]
    assert TASK.differences(bee, ant, NAMES) == {}


# ---- over time


@pytest.mark.parametrize(
    ("averages", "unknown", "answers", "expected"),
    [
        ((0.5, 0.4, 0.1), 0.0, (0, 1, 0, 0), (0, 1, 0, 0)),  # better by 0.1 only
        ((0.625, 0.25, 0.125), 0.0, (0, 1, 0, 0), (1, 0, 0, 0)),  # better by 0.375
        ((0.5, 0.25, 0.25), 0.0, (0, 1, 0, 0), (0, 1, 0, 0)),  # better by exactly the band
        ((0.625, 0.25, 0.125), 0.625, (0, 1, 0, 0), (1, 0, 0, 0)),  # unknown by 2 * 0.625 - 1 = 0.25 only
        ((0.625, 0.25, 0.125), 0.75, (0, 1, 0, 0), (0, 0, 0, 1)),  # unknown by 0.5
        ((0.625, 0.25, 0.125), 0.5, (0, 0, 0, 1), (0, 0, 0, 1)),
        ((0.625, 0.25, 0.125), 0.25, (0, 0, 0, 1), (1, 0, 0, 0)),
    ],
)
def test_another_class_must_be_better_than_the_one_held_by_the_band(averages, unknown, answers, expected):
    found = TASK.wanted(np.array(averages), unknown, flags(*answers), NOTHING, 0.25)

    assert found.tolist() == flags(*expected).tolist()


def test_what_is_held_is_the_answer_whatever_the_averages_say():
    found = TASK.held(one_class(0.1, 0.8, 0.1), np.float32([0.25, 0.625, 0.125]), flags(1, 0, 0, 0))

    assert TASK.text(found) == "ant"
    assert found.scores.tolist() == [0.25, 0.625, 0.125]
    assert TASK.text(TASK.held(found, found.scores, flags(0, 0, 0, 1))) == "unknown"


# ---- what is known


@pytest.mark.parametrize(("text", "truth"), [("bee", "bee"), ("", None), ("none", None)])
def test_a_label_is_a_class_or_says_that_nothing_is_known(text, truth):
    assert TASK.truth_of_text(text, NAMES, "file") == truth


def test_a_class_may_be_called_none_and_an_unknown_one_is_refused():
    assert TASK.truth_of_text("none", ("none", "some"), "file") == "none"
    with pytest.raises(DataError, match=r"^file: the model has no class 'dog'; its classes are: ant, bee, cat$"):
        TASK.truth_of_text("dog", NAMES, "file")


def test_none_of_these_is_a_truth_unless_a_class_is_called_so():
    assert TASK.truth_of_text(NONE_OF_THESE, NAMES, "file") == NONE_OF_THESE
    with pytest.raises(DataError, match=r"^file: the model calls a class 'none of these', .*rename the class"):
        TASK.truth_of_text(NONE_OF_THESE, ("ant", NONE_OF_THESE), "file")


# ---- answers beside what is known


def test_what_is_kept_ranks_the_known_class_as_the_whole_does():
    names = tuple("abcdefghij")
    whole = one_class(*np.random.default_rng(0).dirichlet(np.ones(10)), names=names)

    for truth in names:
        kept = TASK.kept(whole, truth)
        assert len(kept.class_names) <= KEPT_CLASSES + 1
        assert (TASK.text(kept), TASK.margin(kept)) == (TASK.text(whole), TASK.margin(whole))
        assert TASK.badness(kept, truth) == TASK.badness(whole, truth)
        assert TASK.cells(kept, truth, names) == TASK.cells(whole, truth, names)
        assert kept.embedding.size == 0


def test_confident_mistakes_come_first_then_close_calls_then_unlabelled_frames():
    sure = one_class(0.75, 0.125, 0.125)
    close = one_class(0.5, 0.375, 0.125)

    assert TASK.badness(sure, "bee") == 1.75
    assert TASK.badness(close, "bee") == 1.5
    assert TASK.badness(one_class(0.75, 0.125, 0.125, unknown=True), "ant") == 1.0
    assert TASK.badness(close, "ant") == 1 - 0.125
    assert TASK.badness(sure, "ant") == 1 - 0.625
    assert TASK.badness(close, None) == -0.125


def test_cells_stand_below_their_columns():
    found = one_class(0.25, 0.625, 0.125)
    rows = [TASK.cells(found, "cat", NAMES), TASK.cells(found, None, NAMES), TASK.cells(None, "cat", NAMES)]

    assert [dict(zip(TASK.columns(NAMES), row, strict=True)) for row in rows] == [
        {"truth": "cat", "predicted": "bee", "score": "0.625000", "margin": "0.375000", "truth_score": "0.125000"},
        {"truth": "", "predicted": "bee", "score": "0.625000", "margin": "0.375000", "truth_score": ""},
        {"truth": "cat", "predicted": "", "score": "", "margin": "", "truth_score": ""},
    ]


def test_figures_are_those_of_scikit_learn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(1)
    names = tuple("abcdefgh")
    scores = random.dirichlet(np.full(8, 0.3), 300).astype(np.float32)
    truth = np.array([random.choice(8, p=row / row.sum()) for row in scores.astype(np.float64)])
    answers = [one_class(*row, names=names) for row in scores]
    scored = [(names[k], TASK.kept(one, names[k])) for k, one in zip(truth, answers, strict=True)]

    found = TASK.score(FRAMES, scored, dataclasses.replace(PLAIN, class_names=names), threshold=0.6)

    best = scores.argmax(1)
    sure = scores.max(1) >= 0.6
    assert found.top1 == pytest.approx(sklearn_metrics.accuracy_score(truth, best))
    assert found.top5 == pytest.approx(sklearn_metrics.top_k_accuracy_score(truth, scores, k=5, labels=range(8)))
    assert found.balanced_accuracy == pytest.approx(sklearn_metrics.balanced_accuracy_score(truth, best))
    assert found.macro_f1 == pytest.approx(sklearn_metrics.f1_score(truth, best, average="macro"))
    assert found.confusion == tuple(map(tuple, sklearn_metrics.confusion_matrix(truth, best).tolist()))
    assert (found.coverage, found.unknown) == (pytest.approx(sure.mean()), 0.0)
    assert found.top1_above_threshold == pytest.approx((truth == best)[sure].mean())
    assert found.reaches(found.top1)
    assert not found.reaches(found.top1 + 1e-6)


def test_what_was_never_scored_reaches_nothing_and_has_no_figures():
    found = TASK.score(FRAMES, [], PLAIN, threshold=0.0)

    assert not found.reaches(0.0)
    assert (found.summary(), found.figures(PLAIN, 0.0)) == ([], [])


def test_the_figures_of_a_report_are_those_that_the_model_and_the_threshold_have():
    answers = [("ant", one_class(0.75, 0.125, 0.125)), ("bee", one_class(0.5, 0.25, 0.25, unknown=True))]
    found = TASK.score(FRAMES, answers, WITH_RULE, threshold=0.0)

    # the ends of Wilson's intervals: of 1 of 2, and of 1 of 1
    assert found.summary() == [
        "quality    top-1 50.00%, balanced 50.00%, unknown 50.00%, top-1 of the answered 100.00%",
        "95 %       top-1 50.0% (9.5 to 90.5%) with the unknown rule, 50.0% (9.5 to 90.5%) without; "
        "answered 50.0% (9.5 to 90.5%), of these right 100.0% (20.7 to 100.0%)",
    ]
    first, without, unknown, others, *_ = found.figures(WITH_RULE, 0.0)
    assert first == Figure("top-1 accuracy, unknown is wrong", 0.5, interval=pytest.approx((0.0945, 0.9055), abs=1e-4))
    assert (without.name, without.value) == ("top-1 accuracy without the unknown rule", 0.5)
    assert (unknown.name, unknown.value) == ("of frames called unknown", 0.5)
    assert unknown.interval == pytest.approx(first.interval)
    assert (others.name, others.value) == ("top-1 of the others", 1.0)
    assert [figure.name for figure in found.figures(PLAIN, 0.5)] == [
        "top-1 accuracy", "balanced accuracy", "macro F1", "of frames score 0.5 or more", "top-1 at score 0.5 or more"
    ]  # fmt: skip


def test_an_image_of_no_class_is_answered_rightly_by_unknown_alone():
    sure, unknown = one_class(0.75, 0.125, 0.125), one_class(0.75, 0.125, 0.125, unknown=True)

    assert [TASK.is_right(one, NONE_OF_THESE) for one in (sure, unknown)] == [False, True]
    assert [TASK.badness(one, NONE_OF_THESE) for one in (sure, unknown)] == [1.75, 0.0]
    assert TASK.kept(sure, NONE_OF_THESE).class_names == sure.class_names
    assert TASK.cells(sure, NONE_OF_THESE, NAMES) == [NONE_OF_THESE, "ant", "0.750000", "0.625000", ""]


def test_figures_with_images_of_no_class_are_those_of_scikit_learn_with_unknown_as_an_answer():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(4)
    truth = [*random.choice(NAMES, 120), *[NONE_OF_THESE] * 40]
    answers = [
        one_class(
            *random.dirichlet(np.ones(3)), unknown=bool(random.random() < (0.7 if name == NONE_OF_THESE else 0.1))
        )
        for name in truth
    ]
    said = ["unknown" if one.unknown else one.name for one in answers]
    right = ["unknown" if name == NONE_OF_THESE else name for name in truth]

    found = TASK.score(FRAMES, list(zip(truth, answers, strict=True)), WITH_RULE, threshold=0.0)

    labels = [*NAMES, "unknown"]
    assert found.top1 == pytest.approx(sklearn_metrics.accuracy_score(right, said))
    expected = sklearn_metrics.confusion_matrix(right, said, labels=labels).tolist()
    assert found.confusion == tuple(map(tuple, expected))
    recalls = sklearn_metrics.recall_score(right, said, labels=NAMES, average=None)
    assert found.balanced_accuracy == pytest.approx(recalls.mean())
    assert found.macro_f1 == pytest.approx(sklearn_metrics.f1_score(right, said, labels=NAMES, average="macro"))
    precisions = sklearn_metrics.precision_score(right, said, labels=NAMES, average=None)
    assert [row.precision for row in found.classes] == pytest.approx(precisions.tolist())
    assert found.headline.top1.value == found.top1
    best = np.mean([one.class_names[one.top] == name for one, name in zip(answers, truth, strict=True)])
    assert found.headline.top1_without_rule.value == pytest.approx(best)
    low, high = found.intervals["balanced_accuracy"]
    assert low < found.balanced_accuracy < high
    assert found.top5 == 1.0  # of three classes


def test_a_model_without_a_rule_is_always_wrong_about_images_of_no_class():
    scored = [("ant", one_class(0.75, 0.125, 0.125)), (NONE_OF_THESE, one_class(0.125, 0.75, 0.125))]

    found = TASK.score(FRAMES, scored, PLAIN, threshold=0.0)

    assert (found.top1, found.confusion) == (0.5, ((1, 0, 0), (0, 0, 0), (0, 0, 0), (0, 1, 0)))
    only = TASK.score(FRAMES, scored[1:], PLAIN, threshold=0.0)
    assert (only.top1, only.top5, only.balanced_accuracy) == (0.0, None, None)
    assert only.summary()
    assert only.figures(PLAIN, 0.0)


@pytest.mark.parametrize("percent", range(0, 101, 5))
def test_a_share_that_is_required_is_reached_by_exactly_so_many_right_answers_though_frames_were_lost(percent):
    scores = TASK.score(FRAMES, [("ant", one_class(0.8, 0.1, 0.1))] * 3, PLAIN, 0.0)
    for scored in range(max(percent, 1), 101):
        frames = FrameCounts(100, scored, 0, {"format": 100 - scored}, lost=100 - scored)
        of_them = [dataclasses.replace(scores, frames=frames, top1=right / scored) for right in (percent, percent - 1)]

        assert [one.reaches(float(f"0.{percent:02}" if percent < 100 else "1")) for one in of_them] == [True, False]

"""Metrics against hand arithmetic and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_perception import metrics

# truth 0 0 0 1 1 2, predicted 0 0 1 1 2 2, class 3 never occurs
TRUTH, PREDICTED = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]
CONFUSION = np.array([[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]])


def test_rows_of_the_confusion_matrix_are_the_truth():
    np.testing.assert_array_equal(metrics.confusion_matrix(TRUTH, PREDICTED, 4), CONFUSION)


def test_precision_recall_and_f1_are_those_of_hand_arithmetic():
    first, second, third, fourth = metrics.per_class(CONFUSION)

    assert (first.precision, first.recall, first.f1, first.support) == (
        1.0,
        pytest.approx(2 / 3),
        pytest.approx(0.8),
        3,
    )
    assert (second.precision, second.recall, second.support) == (0.5, 0.5, 2)
    assert (third.precision, third.recall, third.f1) == (0.5, 1.0, pytest.approx(2 / 3))
    assert (fourth.precision, fourth.recall, fourth.f1, fourth.support) == (0.0, 0.0, 0.0, 0)


def test_balanced_accuracy_and_macro_f1_leave_out_classes_that_never_occur():
    assert metrics.balanced_accuracy(CONFUSION) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics.macro_f1(CONFUSION) == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert metrics.accuracy(CONFUSION) == pytest.approx(4 / 6)


def test_nothing_measured_is_zero_and_not_nan():
    empty = metrics.confusion_matrix([], [], 3)

    assert empty.shape == (3, 3)
    assert (metrics.accuracy(empty), metrics.balanced_accuracy(empty), metrics.macro_f1(empty)) == (0.0, 0.0, 0.0)
    assert metrics.top_k_accuracy(np.zeros((0, 3)), [], 1) == 0.0
    assert metrics.latency([]) == metrics.Latency(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("truth", "predicted"), [([0, 1], [0]), ([0, 3], [0, 0]), ([0, 0], [0, -1])])
def test_indices_outside_the_classes_are_refused(truth, predicted):
    with pytest.raises(ValueError, match=r"class index|shape"):
        metrics.confusion_matrix(truth, predicted, 3)


def test_of_equal_scores_the_lower_index_is_ranked_first():
    scores = np.array([[0.4, 0.4, 0.2]])

    assert metrics.top_k_accuracy(scores, [0], 1) == 1.0
    assert metrics.top_k_accuracy(scores, [1], 1) == 0.0
    assert metrics.top_k_accuracy(scores, [1], 2) == 1.0


def test_latency_percentiles_interpolate_linearly():
    assert metrics.latency([1.0, 2.0, 3.0, 4.0]) == metrics.Latency(2.5, 2.5, pytest.approx(3.7), pytest.approx(3.97))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(3, 6))
def test_every_metric_equals_scikit_learn_on_random_answers(data, classes):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), min_size=1, max_size=40))
    truth, predicted = (np.array(values) for values in zip(*pairs, strict=True))
    seed = data.draw(st.integers(0, 2**32 - 1))
    scores = np.random.default_rng(seed).permuted(np.tile(np.arange(classes, dtype=float), (len(truth), 1)), axis=1)

    confusion = metrics.confusion_matrix(truth, predicted, classes)
    found = metrics.per_class(confusion)

    labels = range(classes)
    np.testing.assert_array_equal(confusion, sklearn_metrics.confusion_matrix(truth, predicted, labels=labels))
    expected = sklearn_metrics.precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
    np.testing.assert_allclose([[s.precision, s.recall, s.f1, s.support] for s in found], np.transpose(expected))
    assert metrics.balanced_accuracy(confusion) == pytest.approx(np.mean(expected[1][expected[3] > 0]))
    assert metrics.macro_f1(confusion) == pytest.approx(
        sklearn_metrics.f1_score(truth, predicted, average="macro", zero_division=0)
    )
    assert metrics.top_k_accuracy(scores, truth, 2) == pytest.approx(
        sklearn_metrics.top_k_accuracy_score(truth, scores, k=2, labels=labels)
    )

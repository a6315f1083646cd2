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


def test_average_precision_is_that_of_hand_arithmetic():
    scores = np.array([0.9, 0.8, 0.7, 0.6])

    # found at the ranks 1 and 3: (1/1 + 2/3) / 2
    assert metrics.average_precision(scores, np.array([True, False, True, False])) == pytest.approx(5 / 6)
    assert metrics.average_precision(scores, np.zeros(4, bool)) == 0.0
    assert metrics.average_precision(np.empty(0), np.empty(0, bool)) == 0.0


def test_calibration_is_that_of_hand_arithmetic():
    # confidences 0.6, 0.7 (one of two right: 0.5) and 1.0 (right): bins (0.5, 0.75] and (0.75, 1]
    scores = np.array([[0.6, 0.4], [0.3, 0.7], [1.0, 0.0]])

    found = metrics.ece(scores, [0, 0, 0], bins=4)

    assert found.ece == pytest.approx((2 * abs(0.65 - 0.5) + 0.0) / 3)
    assert [row.count for row in found.bins] == [0, 0, 2, 1]
    third = found.bins[2]
    assert (third.lower, third.upper, third.confidence, third.accuracy) == (0.5, 0.75, pytest.approx(0.65), 0.5)
    assert metrics.ece(np.empty((0, 2)), []).ece == 0.0


def test_a_score_on_an_edge_lies_in_the_bin_below_it():
    found = metrics.ece(np.array([[0.5, 0.5], [0.75, 0.25]]), [0, 0], bins=4)

    assert [row.count for row in found.bins] == [0, 1, 1, 0]


def test_without_both_kinds_of_samples_auroc_is_chance():
    assert metrics.auroc(np.array([1.0, 2.0]), np.array([True, True])) == 0.5
    assert metrics.auroc(np.array([2.0, 1.0, 2.0]), np.array([True, False, False])) == 0.75


def test_a_truth_that_never_varies_has_no_variance_to_explain():
    truth = np.array([[1.0, 1.0], [1.0, 1.0]])

    assert metrics.r2(truth, np.array([[1.0, 1.0], [1.0, 2.0]])).tolist() == [1.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 5))
def test_scores_ranks_and_numbers_agree_with_scikit_learn(seed, count, classes):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, (count, classes)) / 8  # few values: ties
    truth = rng.random((count, classes)) < 0.4
    truth[0] = True
    truth[1] = False
    wanted = rng.normal(size=(count, classes))
    found = rng.normal(size=(count, classes))

    expected = sklearn_metrics.average_precision_score(truth, scores, average="macro")
    assert metrics.mean_average_precision(scores, truth) == pytest.approx(expected)
    assert metrics.auroc(scores[:, 0], truth[:, 0]) == pytest.approx(
        sklearn_metrics.roc_auc_score(truth[:, 0], scores[:, 0])
    )
    for ours, theirs in ((metrics.mae, "mean_absolute_error"), (metrics.rmse, "root_mean_squared_error")):
        oracle = getattr(sklearn_metrics, theirs)
        np.testing.assert_allclose(ours(wanted, found), oracle(wanted, found, multioutput="raw_values"))
    expected = sklearn_metrics.r2_score(wanted, found, multioutput="raw_values")
    np.testing.assert_allclose(metrics.r2(wanted, found), expected)

    index = rng.integers(0, classes, count)
    bins = [row for row in metrics.ece(scores, index, bins=10).bins if row.count]
    hit = scores.argmax(axis=1) == index
    accuracies, confidences = calibration_curve(hit, scores.max(axis=1), n_bins=10)
    np.testing.assert_allclose([row.accuracy for row in bins], accuracies)
    np.testing.assert_allclose([row.confidence for row in bins], confidences)

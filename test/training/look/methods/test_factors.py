"""Owns: factors, their stability, and an output divided among them. Leaves to others: which features are factorised."""

from __future__ import annotations

import numpy as np
import pytest

from training.look.methods.factors import account, factorise, non_negative


def planted(rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Amounts (n, 3) of which most are 0, and three directions (3, 12) that share one channel."""
    rng = np.random.default_rng(0)
    amounts = rng.gamma(2.0, 1.0, (rows, 3)) * (rng.random((rows, 3)) < 0.4)
    directions = np.zeros((3, 12))
    for concept in range(3):
        directions[concept, 4 * concept : 4 * concept + 4] = [1.0, 2.0, 0.5, 1.5]
    directions[:, 3] += 0.3
    return amounts.astype(np.float32), (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(
        np.float32
    )


def test_planted_factors_are_found_whatever_the_start():
    amounts, directions = planted()

    found = factorise(amounts @ directions, 3)

    match = found.directions @ directions.T
    assert match.max(axis=1).min() > 0.98
    assert sorted(match.argmax(axis=1)) == [0, 1, 2]
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=1), 1, rtol=1e-5)
    correlation = np.corrcoef(found.amounts[:, match[:, 0].argmax()], amounts[:, 0])[0, 1]
    assert correlation > 0.98
    assert found.matches.min() > 0.9


def test_the_kept_share_is_that_of_the_sum_of_squares():
    rows = np.random.default_rng(1).random((40, 7)).astype(np.float32)

    found = factorise(rows, 2)

    left = rows - found.amounts @ found.directions
    assert found.kept == pytest.approx(1 - (left**2).sum() / (rows**2).sum(), abs=1e-5)
    assert 0.5 < found.kept < 1


def test_the_unit_of_the_features_changes_no_factor():
    amounts, directions = planted()

    usual, tiny = factorise(amounts @ directions, 3), factorise(np.float32(1e-7) * (amounts @ directions), 3)

    np.testing.assert_allclose(tiny.directions, usual.directions, atol=1e-3)
    np.testing.assert_allclose(tiny.amounts * 1e7, usual.amounts, atol=1e-2)


def test_factors_of_noise_depend_on_the_start():
    rows = np.random.default_rng(2).random((200, 30)).astype(np.float32)

    assert factorise(rows, 5).matches.min() < 0.9


def test_there_are_no_more_factors_than_the_matrix_has():
    rows = np.outer(np.arange(1.0, 6.0), [1.0, 2.0, 0.0]).astype(np.float32)

    found = factorise(rows, 5)

    assert 1 <= len(found.directions) <= 3
    np.testing.assert_allclose(found.amounts @ found.directions, rows, rtol=1e-2, atol=1e-2)


def test_an_output_that_is_linear_in_the_features_is_divided_exactly():
    # Worked by hand: two images of two cells, two channels, output = 3 * mean(channel 0) - 1 * mean(channel 1) + 5.
    amounts = np.array([[[2, 0], [0, 4]], [[6, 2], [0, 0]]], np.float32)
    directions = np.eye(2, dtype=np.float32)
    gradients = np.full((2, 2, 2), [1.5, -0.5], np.float32)
    outputs = np.array([3 - 2 + 5, 9 - 1 + 5], np.float32)

    found = account(amounts, directions, gradients, outputs, bias=5.0)

    np.testing.assert_allclose(found.contributions, [(3 + 9) / 2, (-2 - 1) / 2])
    assert (found.rest, found.bias, found.output, found.r2) == (0.0, 5.0, 9.5, 1.0)
    np.testing.assert_allclose(found.shares, [6 / 9.5, -1.5 / 9.5], rtol=1e-6)


def test_what_the_factors_leave_out_is_the_rest_and_lowers_r2():
    amounts = np.zeros((2, 1, 1), np.float32)
    outputs = np.array([1.0, 3.0], np.float32)

    found = account(amounts, np.ones((1, 1), np.float32), np.ones((2, 1, 1), np.float32), outputs, bias=1.0)

    assert found.contributions.sum() + found.rest + found.bias == found.output == 2.0
    assert found.r2 == pytest.approx(1 - (0 + 4) / (1 + 1))  # worse than the mean
    same = account(amounts, np.ones((1, 1), np.float32), np.ones((2, 1, 1), np.float32), outputs * 0, bias=0.0)
    assert np.isnan(same.r2)


def test_percentages_are_not_given_where_parts_cancel():
    amounts = np.array([[[10.0, 10.0]]], np.float32)
    gradients = np.array([[[1.0, -0.99]]], np.float32)

    found = account(amounts, np.eye(2, dtype=np.float32), gradients, np.array([0.1], np.float32), bias=0.0)

    assert found.shares is None


def test_signed_features_become_non_negative_ones_that_give_the_same_output():
    features = np.random.default_rng(3).normal(size=(5, 4))
    weights = np.arange(4.0)

    found = non_negative(features)

    assert found.shape == (5, 8)
    assert found.min() >= 0
    np.testing.assert_allclose(found @ np.concatenate([weights, -weights]), features @ weights, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(non_negative(np.abs(features)), np.abs(features).astype(np.float32))

"""Owns: nearest neighbours, what is far, what the neighbours' labels say. Leaves to others: whose neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from training.look.methods.nearest import FAR, far, nearest, votes


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_nearest_are_those_of_scikit_learn(metric):
    rng = np.random.default_rng(0)
    points, others = (rng.normal(size=(count, 7)).astype(np.float32) for count in (600, 50))  # more than one block

    found = nearest(points, others, 6, metric)

    oracle = NearestNeighbors(n_neighbors=6, metric=metric, algorithm="brute").fit(others.astype(np.float64))
    distances, rows = oracle.kneighbors(points.astype(np.float64))
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-4, atol=1e-5)


def test_a_point_is_not_its_own_neighbour_and_of_equally_near_ones_the_first_counts():
    points = np.array([[0.0], [1.0], [-1.0], [5.0]], np.float32)

    found = nearest(points, points, 2, "euclidean", np.arange(4))

    assert found.rows.tolist() == [[1, 2], [0, 2], [0, 1], [1, 0]]
    np.testing.assert_allclose(found.distances, [[1, 1], [1, 2], [1, 2], [4, 5]])


def test_a_point_at_zero_has_a_cosine():
    found = nearest(np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32), 3, "cosine")

    assert found.rows.tolist() == [[0, 1, 2]]
    assert found.distances.tolist() == [[1, 1, 1]]


def test_a_planted_outlier_is_far_and_no_other_point():
    points = np.random.default_rng(1).normal(size=(200, 16)).astype(np.float32)
    points[17] += 9

    scores = far(nearest(points, points, 10, "euclidean", np.arange(200)).distances[:, -1])

    assert scores.argmax() == 17
    assert scores[17] > 2 * FAR
    assert (scores > FAR).sum() == 1


def test_the_score_is_that_of_iglewicz_and_hoaglin():
    # median 3, distances from it 2 1 0 1 7, their median 1
    np.testing.assert_allclose(far(np.array([1, 2, 3, 4, 10], np.float32)), 0.6745 * np.array([-2, -1, 0, 1, 7]))
    assert far(np.array([1, 1, 1, 9], np.float32)).tolist() == [0, 0, 0, 0]


def test_a_planted_label_flip_is_outvoted_and_no_other_label():
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], 30)
    points = (10 * np.eye(3)[labels] + rng.normal(size=(90, 3))).astype(np.float32)
    labels[40] = 2

    found = votes(labels, nearest(points, points, 10, "euclidean", np.arange(90)).rows)

    assert np.flatnonzero(found.other_share > 0.5).tolist() == [40]
    assert (found.other[40], found.other_share[40], found.own[40]) == (1, pytest.approx(1), 0)
    assert found.own[0] == pytest.approx(1)


def test_votes_are_shares_of_the_neighbours():
    found = votes(np.array([0, 1, 1, 0]), np.array([[1, 2, 3]] * 4))

    np.testing.assert_allclose(found.own, [1 / 3, 2 / 3, 2 / 3, 1 / 3])
    np.testing.assert_allclose(found.other_share, [2 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert found.other.tolist() == [1, 0, 0, 1]

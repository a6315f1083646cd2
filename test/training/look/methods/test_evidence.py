"""Owns: removal curves, how similar two maps are, the pointing game. Leaves to others: of which map and network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cnn_perception.intervals import wilson
from training.look.methods.evidence import (
    TOLERANCE_PX,
    area,
    enlarged,
    pointing_game,
    points_at,
    rank_correlation,
    removed,
    shuffle,
    similarity,
)

RNG = np.random.default_rng(0)


def test_the_curves_of_a_linear_network_are_those_of_the_closed_form():
    # output = sum of w x over 12 pixels, x = 1, w = 1..12 shuffled: of m pixels left, the weakest, it is m (m + 1) / 2
    weights = RNG.permutation(np.arange(1.0, 13.0)).astype(np.float32).reshape(3, 4)
    image, ground = torch.ones(1, 3, 4), torch.zeros(1, 3, 4)
    left = np.arange(12, -1, -1)
    weakest = left * (left + 1) / 2
    strongest = 78 - weakest

    deletion = (removed(image, ground, weights, 12)[:, 0].numpy() * weights).sum((1, 2))
    insertion = (removed(ground, image, weights, 12)[:, 0].numpy() * weights).sum((1, 2))

    np.testing.assert_array_equal(deletion, weakest)
    np.testing.assert_array_equal(insertion, strongest)
    assert area(deletion / 78) == pytest.approx(np.trapezoid(weakest / 78, dx=1 / 12))
    assert area(deletion) + area(insertion) == pytest.approx(78)


def test_steps_replace_equal_parts_of_the_pixels_in_all_channels_and_the_first_of_equals_first():
    image, ground = torch.ones(3, 2, 5), torch.zeros(3, 2, 5)

    found = removed(image, ground, np.zeros((2, 5), np.float32), 4)

    assert [int(step[0].sum()) for step in found] == [10, 8, 5, 2, 0]
    assert torch.equal(found[:, 0], found[:, 2])
    assert found[2, 0].tolist() == [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]


def test_the_rank_correlation_is_that_of_scipy_with_ties():
    one, other = RNG.integers(0, 5, (7, 6)).astype(np.float32), RNG.normal(size=(7, 6)).astype(np.float32)

    assert rank_correlation(one, other) == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    assert rank_correlation(one, one) == pytest.approx(1)
    assert rank_correlation(other, -3 * other) == pytest.approx(-1)
    assert rank_correlation(one, np.ones_like(one)) == 0


def test_similarity_is_the_published_formula_on_the_maps_as_they_are_seen():
    one, other = (RNG.random((64, 64)).astype(np.float32) for _ in range(2))
    first, second = (cells.astype(np.float64) / cells.max() for cells in (one, other))
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    padded = [np.pad(cells, 5, mode="reflect") for cells in (first, second)]
    values = []
    for row in range(64):
        for column in range(64):
            a, b = (cells[row : row + 11, column : column + 11] for cells in padded)
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            both = (window * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
                / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
            )  # fmt: skip

    assert similarity(one, other) == pytest.approx(np.mean(values), abs=1e-5)
    assert similarity(one, 7 * one) == pytest.approx(1, abs=1e-5)
    assert similarity(one, one - 2 * one) < 0.1  # nothing of it is above 0


def test_a_shuffled_tensor_keeps_its_values_and_the_seed_decides_their_order():
    tensors = [torch.arange(24.0).reshape(2, 3, 4) for _ in range(2)]
    before = tensors[0].clone()

    for tensor in tensors:
        shuffle([tensor], torch.Generator().manual_seed(5))

    assert torch.equal(tensors[0], tensors[1])
    assert not torch.equal(tensors[0], before)
    assert torch.equal(tensors[0].flatten().sort().values, before.flatten())


@pytest.mark.parametrize(("distance", "hit"), [(0, True), (TOLERANCE_PX, True), (TOLERANCE_PX + 1, False)])
def test_a_map_points_at_an_object_within_the_tolerance(distance, hit):
    cells = np.zeros((60, 80), np.float32)
    cells[30, 20] = 1
    mask = np.zeros((60, 80), bool)
    mask[30, 20 + distance :] = True

    assert points_at(cells, mask) is hit


def test_the_pointing_game_gives_the_share_of_hits_with_its_interval():
    cells = np.zeros((4, 4), np.float32)
    cells[0, 0] = 1
    near, away = np.zeros((2, 64, 64), bool)
    near[:10, :10] = True
    away[40:, 40:] = True
    assert enlarged(cells, 64, 64).argmax() // 64 < 16

    assert pointing_game([cells] * 4, [near, away, near, near]) == wilson(3, 4)
    assert pointing_game([], []) is None
    assert not points_at(cells, np.zeros((64, 64), bool))

"""Owns: 95 % intervals. Leaves to others: the figures that have them (test_metrics, the tasks). Oracle: scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cnn_perception.intervals import Estimate, bootstrap, paired, paired_mean, student_quantile, wilson


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 20), (20, 20), (17, 20), (857, 1000), (3, 7)])
def test_the_interval_of_a_share_is_that_of_scipy(hits: int, count: int):
    expected = stats.binomtest(hits, count).proportion_ci(0.95, "wilson")

    found = wilson(hits, count)

    assert found.value == hits / count
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_interval_of_a_share_holds_the_truth_in_about_95_of_100_measurements():
    hits = np.random.default_rng(0).binomial(60, 0.85, 2000)

    found = [wilson(int(number), 60) for number in hits]

    assert np.mean([one.low <= 0.85 <= one.high for one in found]) == pytest.approx(0.95, abs=0.02)


def test_the_bootstrap_of_a_mean_is_as_wide_as_its_standard_error_says():
    values = np.random.default_rng(1).normal(3, 2, 400)

    low, high = bootstrap(lambda rows: float(values[rows].mean()), 400) or (0.0, 0.0)

    expected = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert (low, high) == pytest.approx(expected, abs=0.06)
    assert bootstrap(lambda rows: 1.0, 1) is None


def of(gained: int, lost: int, both: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    ours = np.array([True] * gained + [False] * lost + [True] * both + [False] * neither)
    theirs = np.array([False] * gained + [True] * lost + [True] * both + [False] * neither)
    return ours, theirs


@pytest.mark.parametrize("counts", [(12, 3, 80, 5), (3, 12, 80, 5), (0, 0, 9, 1), (1, 0, 4, 0), (400, 350, 900, 60)])
def test_the_chance_of_a_difference_is_mcnemars(counts: tuple[int, int, int, int]):
    gained, lost, *_ = counts

    found = paired(*of(*counts))

    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found.chance == pytest.approx(expected, rel=1e-6)
    assert (found.images, found.gained, found.lost) == (sum(counts), gained, lost)
    assert found.difference.value == pytest.approx((gained - lost) / sum(counts))
    assert found.difference.low <= found.difference.value <= found.difference.high


def test_the_interval_of_a_difference_is_walds_with_half_an_image_more_of_each_kind():
    found = paired(*of(12, 3, 80, 5)).difference

    b, c, n = 12.5, 3.5, 102.0  # Agresti and Min 2005, section 3
    reach = 1.96 * np.sqrt((b + c) / n - ((b - c) / n) ** 2) / np.sqrt(n)
    assert (found.low, found.high) == pytest.approx(((b - c) / n - reach, (b - c) / n + reach), abs=1e-4)


def test_the_interval_of_a_difference_holds_the_truth_in_about_95_of_100_measurements():
    random = np.random.default_rng(2)
    held = []
    for _ in range(1000):
        kinds = random.choice(4, 80, p=(0.15, 0.05, 0.7, 0.1))
        found = paired((kinds == 0) | (kinds == 2), (kinds == 1) | (kinds == 2)).difference
        held.append(found.low <= 0.1 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.025)


def test_a_mean_difference_of_one_image_has_no_width():
    assert paired_mean(np.array([0.5])) == Estimate(0.5, 0.5, 0.5)


def test_a_share_is_told_with_its_ends():
    assert Estimate(0.857, 0.8024, 0.8991).in_percent() == "85.7% (80.2 to 89.9%)"


@pytest.mark.parametrize("freedom", [1, 1.2, 1.5, 2, 2.7, 3, 5, 9, 29, 200, 5000, 1e6])
@pytest.mark.parametrize("comparisons", [1, 8, 50])
def test_students_quantile_is_that_of_scipy_also_between_whole_degrees_of_freedom(freedom: float, comparisons: int):
    tail = 0.025 / comparisons

    assert student_quantile(freedom, tail) == pytest.approx(stats.t.isf(tail, freedom), rel=0.01)

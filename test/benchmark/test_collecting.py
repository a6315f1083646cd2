"""Owns: what the benchmark of collecting says of its accuracies. Leaves to others: the choice itself (test_choice)."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs what training needs")

from benchmark.collecting import BUDGETS, Drive, measure, worth
from benchmark.labels import Labelled


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [(0.5, "0"), (0.6, "20"), (0.65, "25"), (0.7, "30"), (0.4, "fewer than none"), (0.8, "more than 30")],
)
def test_chosen_frames_are_worth_as_many_random_ones_as_lie_on_the_line_between_two_budgets(accuracy, words):
    assert worth(accuracy, [(0, 0.5), (20, 0.6), (30, 0.7)]) == words


def test_frames_that_show_what_the_few_pictures_lack_are_worth_more_than_those_that_do_not():
    """Two classes of which the pictures show one: frames of the other teach it, and more of the same do not."""
    one, other = np.eye(2, dtype=np.float32)
    few = Labelled(np.stack([one] * 3), np.zeros(3, np.int64))
    frames = Labelled(np.stack([one] * 190 + [other] * 10), np.array([0] * 190 + [1] * 10))
    held = Labelled(np.stack([one, other]), np.array([0, 1]))
    order = {budget: [199 - row for row in range(min(budget, 200))] for budget in BUDGETS}
    found = measure(few, Drive(frames, order), held, draws=3)

    assert all(chosen == 1.0 for chosen, _, _ in found.values())
    assert found[10][1] < 1.0

"""Owns: which candidates are chosen, by diversity and by doubt, and which of them look alike.

Oracles: distances computed by scipy, and streams whose kinds of pictures are known.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from training.collect.choice import (
    DIVERSE,
    EVERY,
    TYPICAL,
    choose,
    group_numbers,
    k_centre,
    look_alikes,
    most_doubted,
    typical,
)
from training.collect.description import edges_and_colours
from training.collect.sources.frame import Answer

KINDS = 10
COUNTS = (120, 80, 50, 20, 12, 8, 4, 3, 2, 1)
"""How often each kind of picture comes: half of all are of two kinds, and four kinds make three in a hundred."""
BUDGET = 20
NONE = np.zeros((0, 3), np.float32)


def stripes(kind: int, rng: np.random.Generator) -> np.ndarray:
    """A noisy picture of stripes; direction, width and colours are those of its kind."""
    rows, columns = np.mgrid[:48, :64]
    angle = np.pi * kind / KINDS
    phase = rows * np.sin(angle) + columns * np.cos(angle) + rng.uniform(0, 3)
    on = np.sin(phase * (0.2 + 0.05 * (kind % 4)))[..., None] > 0
    dark, bright = np.random.default_rng(100 + kind).integers(0, 256, (2, 3))
    noise = rng.normal(0, 5, (48, 64, 3))
    return (np.where(on, bright, dark) + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def stream() -> tuple[np.ndarray, np.ndarray]:
    """What 300 pictures are like, and the kind of each."""
    rng = np.random.default_rng(0)
    kinds = rng.permutation(np.repeat(np.arange(KINDS), COUNTS))
    return np.stack([edges_and_colours(stripes(kind, rng)) for kind in kinds]), kinds


def points(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_twenty_that_are_chosen_show_every_kind_of_an_unequal_stream_and_twenty_at_random_do_not(stream) -> None:
    vectors, kinds = stream
    chosen = choose(vectors, [None] * len(vectors), vectors[:0], BUDGET, 0.5)
    random = [np.random.default_rng(seed).choice(len(kinds), BUDGET, replace=False) for seed in range(20)]

    assert len(chosen) == BUDGET
    assert Counter(one.reason for one in chosen) == {TYPICAL: 10, DIVERSE: 10}
    assert {kinds[one.index] for one in chosen} == set(range(KINDS))
    assert max(len(set(kinds[rows])) for rows in random) < KINDS


def test_what_the_data_set_shows_already_is_not_chosen_again_before_what_it_lacks(stream) -> None:
    vectors, kinds = stream
    known = kinds < 7
    chosen = k_centre(vectors, 3, vectors[known])

    assert {int(kinds[index]) for index in chosen} == {7, 8, 9}


def test_each_centre_is_the_farthest_from_all_before_it() -> None:
    vectors = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32)
    covered = np.random.default_rng(2).normal(size=(4, 5)).astype(np.float32)
    chosen = k_centre(vectors, 12, covered)
    for step, index in enumerate(chosen):
        before = np.concatenate([covered, vectors[chosen[:step]]])
        assert cdist(vectors, before).min(axis=1).argmax() == index


def test_first_centre_without_any_before_is_the_nearest_to_the_mean() -> None:
    assert k_centre(points((0, 0), (10, 0), (4, 0)), 1, NONE[:, :2]) == [2]


def test_copies_of_what_is_chosen_are_not_chosen() -> None:
    assert k_centre(points((0, 0), (0, 0), (1, 0), (1, 0)), 4, NONE[:, :2]) == [0, 2]
    assert k_centre(points((1, 0)), 4, points((1, 0))) == []


def test_typical_pictures_are_the_middles_of_the_largest_groups_without_a_label() -> None:
    rng = np.random.default_rng(0)
    middles = points((0, 0), (10, 0), (0, 10), (30, 30))
    group = np.repeat(np.arange(4), (30, 20, 10, 1))
    vectors = (middles[group] + rng.normal(0, 0.5, (61, 2))).astype(np.float32)

    def nearest_to_the_middle(which: int) -> int:
        rows = np.flatnonzero(group == which)
        return int(rows[cdist(vectors[rows], [vectors[rows].mean(axis=0)]).argmin()])

    assert typical(vectors, 4, NONE[:, :2]) == sorted(map(nearest_to_the_middle, range(4)))
    # The largest group has a label, so that three are left, of which the larger ones come first.
    assert typical(vectors, 3, middles[:1]) == sorted(map(nearest_to_the_middle, (1, 2, 3)))
    assert typical(vectors[:1].repeat(5, axis=0), 3, NONE[:, :2]) == [0]
    assert typical(vectors, 0, NONE[:, :2]) == typical(vectors[:0], 3, NONE[:, :2]) == []


def doubtful(doubts: np.ndarray, cause: str = "margin") -> list[Answer]:
    return [Answer("ant", float(doubt), cause, "") for doubt in doubts]


def test_planted_doubtful_frames_are_chosen_and_say_why(stream) -> None:
    vectors, _ = stream
    doubts = np.random.default_rng(3).uniform(0.0, 0.5, len(vectors))
    planted = [5, 6, 120, 200, 299]
    doubts[planted] = 0.9
    answers = doubtful(doubts)
    answers[200] = Answer("none of these", 1.0, "unknown", "")
    answers[299] = Answer("ant", 1.0, "disagreement", "")
    chosen = {one.index: one.reason for one in choose(vectors, answers, vectors[:0], 10, 0.5)}

    assert len(chosen) == 10
    assert {index: chosen[index] for index in planted} == {
        5: "margin", 6: "margin", 120: "margin", 200: "unknown", 299: "disagreement",
    }  # fmt: skip
    assert sum(reason in (TYPICAL, DIVERSE) for reason in chosen.values()) == 5


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.24, 2), (0.25, 2), (1.0, 10)])
def test_share_of_the_budget_is_for_doubt(stream, share: float, expected: int) -> None:
    vectors, _ = stream
    answers = doubtful(np.linspace(0.01, 1.0, len(vectors)))
    chosen = choose(vectors, answers, vectors[:0], 10, share)

    assert sum(one.reason == "margin" for one in chosen) == expected


def test_without_doubt_the_whole_budget_goes_to_what_pictures_look_like(stream) -> None:
    vectors, _ = stream
    chosen = choose(vectors, doubtful(np.zeros(len(vectors))), vectors[:0], 10, 0.5)

    assert Counter(one.reason for one in chosen) == {TYPICAL: 5, DIVERSE: 5}


def test_of_equal_doubts_the_most_diverse_are_taken() -> None:
    vectors = points((0, 0), (0.1, 0), (0.2, 0), (5, 0), (9, 0))
    doubts = np.array([1.0, 1.0, 1.0, 1.0, 0.2])

    assert most_doubted(vectors, doubts, NONE[:, :2], 2) == [2, 3]  # the nearest to their mean, the farthest from it
    assert most_doubted(vectors, doubts, points((5, 0)), 1) == [0]


def test_without_a_budget_all_are_taken() -> None:
    chosen = choose(points((0, 0), (1, 0)), [None, None], NONE[:, :2], None, 0.5)

    assert [(one.index, one.reason) for one in chosen] == [(0, EVERY), (1, EVERY)]


def test_look_alikes_of_a_stream_are_of_one_kind(stream) -> None:
    vectors, kinds = stream
    groups = look_alikes(vectors, [""] * len(vectors))

    assert len(set(groups)) <= 3 * KINDS
    assert all(len(set(kinds[groups == group])) == 1 for group in set(groups))


def test_look_alikes_with_other_guesses_are_apart_and_what_stands_alone_has_no_number() -> None:
    vectors = points((0, 0), (0.1, 0), (0, 0.1), (5, 5), (9, 0), (9, 0.1))

    assert group_numbers(vectors, ["a", "a", "b", "a", "a", "a"], 7) == ["7", "7", "", "", "8", "8"]
    assert group_numbers(points((1, 0)), ["a"], 1) == [""]

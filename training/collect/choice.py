"""Which frames are worth a label: those that differ most from all others, and those that a model doubts most.

Source: Sener and Savarese 2018, Active Learning for Convolutional Neural Networks: A Core-Set Approach (k-centre).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.collect.sources.frame import Answer

Rows = npt.NDArray[np.float32]
"""(n, D), a row a picture."""
DIVERSE = "diverse"
"""Reason of a frame that differs from all that were chosen before it."""
EVERY = "every"
"""Reason of a frame that was taken because all are."""
_PAIRS = 2_000
"""Pairs of pictures, drawn at random, that say how far apart pictures are."""
_NEAR = 0.6
"""Of the median distance of two pictures: within it of the first of a group a picture looks like it. On 400 digits all
groups are then of one class, and 80 % of the images are in one."""


@dataclass(frozen=True)
class Choice:
    """A frame that was chosen: its index among the candidates, and why."""

    index: int
    reason: str


def choose(
    vectors: Rows, answers: Sequence[Answer | None], covered: Rows, budget: int | None, doubt_share: float
) -> list[Choice]:
    """Returns which of n candidates are to be labelled, in their order.

    Args:
        vectors: (n, D) what they are like.
        answers: What a model says of each, if there is one.
        covered: (m, D) of the images that are in the data set already.
        budget: How many are wanted; None takes all.
        doubt_share: Share of the budget for those in most doubt, in [0, 1]; the others are the most diverse.
    """
    if budget is None:
        return [Choice(index, EVERY) for index in range(len(vectors))]
    doubts = np.array([0.0 if answer is None else answer.doubt for answer in answers])
    doubted = most_doubted(vectors, doubts, covered, round(doubt_share * budget))
    rest = np.setdiff1d(np.arange(len(vectors)), doubted)
    further = k_centre(vectors[rest], budget - len(doubted), np.concatenate([covered, vectors[doubted]]))
    reasons: dict[int, str] = dict.fromkeys(rest[further].tolist(), DIVERSE)
    for index in doubted:
        answer = answers[index]
        assert answer is not None  # without one there is no doubt
        reasons[index] = answer.cause
    return [Choice(index, reasons[index]) for index in sorted(reasons)]


def most_doubted(vectors: Rows, doubts: npt.NDArray[np.float64], covered: Rows, count: int) -> list[int]:
    """Returns the indices of the candidates in most doubt; of those in equal doubt the most diverse.

    Args:
        vectors: (n, D) what they are like.
        doubts: (n,) in [0, 1]; a candidate with 0 is in none.
        covered: (m, D) of what is labelled already.
        count: How many are wanted at most.
    """
    count = min(count, int(np.count_nonzero(doubts)))
    if not count:
        return []
    least = np.sort(doubts)[-count]
    surely = np.flatnonzero(doubts > least)
    equal = np.flatnonzero(doubts == least)
    among = k_centre(vectors[equal], count - len(surely), np.concatenate([covered, vectors[surely]]))
    chosen = np.concatenate([surely, equal[among]])
    if len(chosen) < count:  # the others are copies of these
        chosen = np.concatenate([chosen, np.setdiff1d(equal, chosen)[: count - len(chosen)]])
    return sorted(chosen.tolist())


def k_centre(vectors: Rows, count: int, covered: Rows) -> list[int]:
    """Returns rows, one after the other the farthest from all before it; the first is the nearest to the mean.

    Args:
        vectors: (n, D) to choose from.
        count: How many are wanted; less are found where all others are copies of these.
        covered: (m, D) that count as chosen before.
    """
    if count <= 0 or not len(vectors):
        return []
    chosen = []
    if len(covered):
        nearest = np.full(len(vectors), np.inf)
        for row in covered:
            np.minimum(nearest, _squares(vectors, row), out=nearest)
    else:
        chosen.append(int(_squares(vectors, vectors.mean(axis=0)).argmin()))
        nearest = _squares(vectors, vectors[chosen[0]])
    while len(chosen) < count:
        farthest = int(nearest.argmax())
        if not nearest[farthest] > 0.0:
            break
        chosen.append(farthest)
        np.minimum(nearest, _squares(vectors, vectors[farthest]), out=nearest)
    return chosen


def look_alikes(vectors: Rows, guesses: Sequence[str]) -> npt.NDArray[np.int64]:
    """Returns the group of each of n pictures, (n,), from 0 in the order of their first ones.

    A picture joins the group whose first one is nearest, if that is near and has the same guess.

    Args:
        vectors: (n, D) what they are like.
        guesses: What a model says of each; empty texts without one.
    """
    groups = np.zeros(len(vectors), np.int64)
    near = (_NEAR * _typical_distance(vectors)) ** 2
    kinds = np.unique(np.array(guesses, dtype=object).astype(str), return_inverse=True)[1] if len(guesses) else groups
    firsts: list[int] = []
    for index, vector in enumerate(vectors):
        if firsts:
            distances = np.where(kinds[firsts] == kinds[index], _squares(vectors[firsts], vector), np.inf)
            best = int(distances.argmin())
            if distances[best] <= near:
                groups[index] = best
                continue
        groups[index] = len(firsts)
        firsts.append(index)
    return groups


def group_numbers(vectors: Rows, guesses: Sequence[str], first: int) -> list[str]:
    """Returns the number of each picture's group of look-alikes as text; none for one that stands alone.

    Args:
        vectors: As for `look_alikes`.
        guesses: Likewise.
        first: The number of the first group.
    """
    groups = look_alikes(vectors, guesses).tolist()
    sizes = Counter(groups)
    shared = [group for group, size in sorted(sizes.items()) if size > 1]
    numbers = {group: str(first + rank) for rank, group in enumerate(shared)}
    return [numbers.get(group, "") for group in groups]


def _typical_distance(vectors: Rows) -> float:
    """Returns the median distance of two pictures; 0 of less than two."""
    if len(vectors) < 2:
        return 0.0
    drawn = np.random.default_rng(0).integers(0, len(vectors), (_PAIRS, 2))
    pairs = drawn[drawn[:, 0] != drawn[:, 1]]
    return float(np.median(np.linalg.norm(vectors[pairs[:, 0]] - vectors[pairs[:, 1]], axis=1)))


def _squares(vectors: Rows, one: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns the squared distance of each row to a vector, (n,)."""
    return np.asarray(np.square(vectors - one).sum(axis=1), np.float64)

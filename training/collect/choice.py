"""Which frames are worth a label: those that stand for many, those unlike all others, those that a model doubts.

With few labels a classifier learns most from typical pictures, and little from odd ones; with k-centre alone 10 of 245
ants and bees taught less than 10 drawn at random (`python -m benchmark.labels`). What is rare is found by k-centre.
Sources: Hacohen, Dekel and Weinshall 2022, Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets
(one typical picture of each group that has no label); Sener and Savarese 2018, Active Learning for Convolutional Neural
Networks: A Core-Set Approach (k-centre).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.collect.sources.frame import Answer

Rows = npt.NDArray[np.float32]
"""(n, D), a row a picture."""
TYPICAL = "typical"
"""Reason of a frame that stands for a group of others of which none has a label."""
DIVERSE = "diverse"
"""Reason of a frame that differs from all that were chosen before it."""
EVERY = "every"
"""Reason of a frame that was taken because all are."""
_TYPICAL_SHARE = 0.5
"""Of the frames that are chosen by their looks. With all of them, digits of which some are rare lose 8 points of
accuracy at 20 and 40 labels; with none, digits that are equally frequent lose 8 at 10 and 20."""
_MOST_COVERED = 1_000
"""Labelled images for which groups are made, drawn at random from more."""
_DIMENSIONS = 64
"""Of the numbers that groups are made by: their main directions, since the rest is noise and takes time."""
_FAST_FROM = 5_000
"""Pictures from which groups are made by small batches of them."""
_PAIRS = 2_000
"""Pairs of pictures, drawn at random, that say how far apart pictures are."""
_BLOCK = 256
"""Pictures of the data set that all candidates are compared with at a time."""
_SAME = 1e-6
"""Squared distance up to which two pictures are copies: rounding leaves as much of the length 1."""
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
    doubts = np.array([(answer.doubt if answer else None) or 0.0 for answer in answers])
    doubted = most_doubted(vectors, doubts, covered, round(doubt_share * budget))
    rest = np.setdiff1d(np.arange(len(vectors)), doubted)
    known = np.concatenate([covered, vectors[doubted]])
    wanted = budget - len(doubted)
    standing = rest[typical(vectors[rest], round(_TYPICAL_SHARE * wanted), known)]
    rest = np.setdiff1d(rest, standing)
    further = k_centre(vectors[rest], wanted - len(standing), np.concatenate([known, vectors[standing]]))
    reasons: dict[int, str] = dict.fromkeys(rest[further].tolist(), DIVERSE)
    reasons |= dict.fromkeys(standing.tolist(), TYPICAL)
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


def typical(vectors: Rows, count: int, covered: Rows) -> list[int]:
    """Returns rows that stand for the largest groups without a label: of each the nearest to its middle.

    Args:
        vectors: (n, D) to choose from.
        count: How many are wanted; less are found where there are less different ones.
        covered: (m, D) that have a label, or will have one.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans  # takes a second, and is not always needed

    count = min(count, len(vectors))
    if count <= 0:
        return []
    if len(covered) > _MOST_COVERED:
        covered = covered[np.random.default_rng(0).choice(len(covered), _MOST_COVERED, replace=False)]
    everything = _main_directions(np.concatenate([vectors, covered]))
    different = len(np.unique(everything, axis=0))
    method = KMeans if len(everything) < _FAST_FROM else MiniBatchKMeans
    groups = method(min(count + len(covered), different), n_init=1, random_state=0).fit(everything)
    apart = np.square(everything - groups.cluster_centers_[groups.labels_]).sum(axis=1)
    own, others = np.split(groups.labels_, [len(vectors)])
    sizes = Counter(own.tolist())
    without = sorted(sizes.keys() - set(others.tolist()), key=lambda group: (-sizes[group], group))
    members = [np.flatnonzero(own == group) for group in without[:count]]
    return sorted(int(rows[apart[rows].argmin()]) for rows in members)


def _main_directions(vectors: Rows) -> Rows:
    """Returns rows of at most `_DIMENSIONS` numbers that lie to each other as (n, D) vectors do, nearly."""
    from sklearn.decomposition import PCA

    size = min(_DIMENSIONS, *vectors.shape)
    if size == vectors.shape[1]:
        return vectors
    return np.asarray(PCA(size, svd_solver="randomized", random_state=0).fit_transform(vectors), np.float32)


def k_centre(vectors: Rows, count: int, covered: Rows) -> list[int]:
    """Returns rows, one after the other the farthest from all before it; the first is the nearest to the mean.

    Args:
        vectors: (n, D) to choose from.
        count: How many are wanted; less are found where all others are copies of these.
        covered: (m, D) that count as chosen before.
    """
    if count <= 0 or not len(vectors):
        return []
    distances = _Distances(vectors)
    chosen = []
    if len(covered):
        nearest = distances.to_nearest(covered)
    else:
        chosen.append(int(distances.to(vectors.mean(axis=0)).argmin()))
        nearest = distances.to(vectors[chosen[0]])
    while len(chosen) < count:
        farthest = int(nearest.argmax())
        if nearest[farthest] <= _SAME:
            break
        chosen.append(farthest)
        np.minimum(nearest, distances.to(vectors[farthest]), out=nearest)
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
    of_guess: dict[str, list[int]] = {}
    count = 0
    for index, guess in enumerate(guesses):
        firsts = of_guess.setdefault(guess, [])
        distances = _Distances(vectors[firsts]).to(vectors[index])
        if firsts and distances.min() <= near:
            groups[index] = groups[firsts[int(distances.argmin())]]
            continue
        firsts.append(index)
        groups[index] = count
        count += 1
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


class _Distances:
    """Squared distances of (n, D) rows, float32, each in [0, inf)."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._lengths = np.einsum("nd,nd->n", rows, rows)

    def to(self, one: Rows) -> Rows:
        """Returns those to a vector (D,), (n,)."""
        return np.asarray(np.maximum(self._lengths + one @ one - 2.0 * (self._rows @ one), 0.0), np.float32)

    def to_nearest(self, others: Rows) -> Rows:
        """Returns those to the nearest of (m, D) others, (n,)."""
        nearest = np.full(len(self._rows), np.inf, np.float32)
        for start in range(0, len(others), _BLOCK):
            block = others[start : start + _BLOCK]
            found = self._lengths[:, None] + np.einsum("md,md->m", block, block) - 2.0 * (self._rows @ block.T)
            np.minimum(nearest, np.maximum(found, 0.0).min(axis=1), out=nearest)
        return nearest

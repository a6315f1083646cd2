"""Nearest neighbours by brute force, what lies far from all others, and labels that the neighbours contradict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Metric = Literal["euclidean", "cosine"]

FAR = 3.5
"""Modified z-score from which a value is called far from the others. Source: Iglewicz and Hoaglin 1993, How to Detect
and Handle Outliers."""
_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Nearest:
    """The k nearest of M points to each of n.

    Attributes:
        rows: (n, k) which they are, the nearest first; of equally near ones the first.
        distances: (n, k) to them; by cosine, 1 minus it.
    """

    rows: Rows
    distances: Numbers


def nearest(points: Numbers, others: Numbers, count: int, metric: Metric, left_out: Rows | None = None) -> Nearest:
    """Finds the nearest of some points.

    Args:
        points: (n, D).
        others: (M, D), more than `count`.
        count: How many are looked for, k.
        metric: What near means; a point at 0 has the cosine 0 with any.
        left_out: (n,) row of `others` that does not count for each point, such as itself; -1 for none.
    """
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(points), _BLOCK)]
    skipped = np.full(len(points), -1) if left_out is None else left_out
    found = [_nearest(points[block], others, count, metric, skipped[block]) for block in blocks]
    return Nearest(np.concatenate([rows for rows, _ in found]), np.concatenate([distances for _, distances in found]))


def _nearest(points: Numbers, others: Numbers, count: int, metric: Metric, skipped: Rows) -> tuple[Rows, Numbers]:
    distances = _distances(points.astype(np.float64), others.astype(np.float64), metric)
    counted = np.flatnonzero(skipped >= 0)
    distances[counted, skipped[counted]] = np.inf
    rows = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return rows, np.take_along_axis(distances, rows, axis=1).astype(np.float32)


def _distances(
    points: npt.NDArray[np.float64], others: npt.NDArray[np.float64], metric: Metric
) -> npt.NDArray[np.float64]:
    if metric == "cosine":
        return 1 - _unit(points) @ _unit(others).T
    squares = (points**2).sum(1)[:, None] + (others**2).sum(1) - 2 * points @ others.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def _unit(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.where(lengths > 0, lengths, 1))


def far(distances: Numbers) -> Numbers:
    """Returns the modified z-score (n,) of distances (n,), of those of others: from `FAR` on one is an outlier.

    The median and the median distance from it stand for mean and deviation, which outliers would spoil. Points of which
    more than half are equally near have none.
    """
    away = distances - np.median(distances)
    usual = float(np.median(np.abs(away)))
    return np.asarray(0.6745 * away / usual if usual > 0 else np.zeros_like(distances))


@dataclass(frozen=True, eq=False)
class Votes:
    """What the neighbours of n points say of their labels.

    Attributes:
        own: (n,) share of the neighbours with the point's own label.
        other: (n,) the most frequent label among the others.
        other_share: (n,) its share.
    """

    own: Numbers
    other: Rows
    other_share: Numbers


def votes(labels: Rows, neighbours: Rows) -> Votes:
    """Counts labels (n,) among the neighbours (n, k) of each point; there are at least two labels."""
    count = int(labels.max()) + 1
    shares = np.zeros((len(labels), max(count, 2)), np.float32)
    np.add.at(shares, (np.arange(len(labels))[:, None], labels[neighbours]), 1 / neighbours.shape[1])
    own = np.take_along_axis(shares, labels[:, None], axis=1)[:, 0]
    np.put_along_axis(shares, labels[:, None], -1.0, axis=1)
    return Votes(own, shares.argmax(axis=1), shares.max(axis=1))

"""Copies of one picture that are labelled otherwise: to the pixel, to the eye, mirrored, or to the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from training.data import duplicates
from training.data.duplicates import Pairs
from training.data.records import Listing
from training.label_errors.measures import Measured
from training.label_errors.record import Finding
from training.tasks.by_name import task_of

SAME = "the same pixels as"
ALIKE = "a near duplicate of"
MIRRORED = "the mirror image of"
NEAREST = "to the network a copy of"
CLOSE = 0.2
"""Of the median distance to the nearest image: two that are each other's nearest, and so close, are one picture."""
_NEAR = 0.95
"""Doubt that a near duplicate raises; it may show another moment."""


def find(measured: Sequence[Measured], features: npt.NDArray[np.floating[Any]]) -> dict[str, Pairs]:
    """Returns the pairs of images that are one picture, by how; none twice.

    Args:
        measured: The n images.
        features: (n, D).
    """
    thumbnails = [one.thumbnail for one in measured]
    found = {
        SAME: duplicates.exact([one.pixels for one in measured]),
        ALIKE: duplicates.near(thumbnails),
        MIRRORED: duplicates.near(thumbnails, mirrored=True),
        NEAREST: _nearest(features),
    }
    seen = set[tuple[int, int]]()
    result = {}
    for how, pairs in found.items():
        new = [pair for pair in dict.fromkeys(map(tuple, pairs.tolist())) if pair not in seen]
        seen.update(new)
        result[how] = np.array(new, np.int64).reshape(-1, 2)
    return result


def _nearest(features: npt.NDArray[np.floating[Any]]) -> Pairs:
    """Pairs that are each other's nearest, and much closer than images usually are."""
    if len(features) < 3:
        return np.empty((0, 2), np.int64)
    distances, rows = NearestNeighbors(n_neighbors=1).fit(features).kneighbors()
    nearest, distance = rows[:, 0], distances[:, 0]
    itself = np.arange(len(features))
    mutual = (nearest[nearest] == itself) & (itself < nearest) & (distance < CLOSE * np.median(distance))
    return np.stack([itself[mutual], nearest[mutual]], axis=1)


def with_other_labels(listing: Listing, pairs: Mapping[str, Pairs]) -> list[Finding]:
    """Returns a finding for each image of a pair whose labels differ, where labels of copies should not."""
    if not task_of(listing.task).copies_agree:
        return []
    found: dict[int, Finding] = {}
    for how, rows in pairs.items():
        for first, second in rows.tolist():
            for one, other in ((first, second), (second, first)):
                if one not in found and _differ(listing, one, other):
                    found[one] = _finding(listing, one, other, how)
    return list(found.values())


def _differ(listing: Listing, one: int, other: int) -> bool:
    first, second = listing.samples[one], listing.samples[other]
    return (first.label, first.values) != (second.label, second.values)


def _finding(listing: Listing, row: int, other: int, how: str) -> Finding:
    sample = listing.samples[other]
    words = listing.words(sample)
    text = f"{how} {sample.path.name}, which is {f'labelled {words!r}' if words else 'of no class'}"
    return Finding(row, "copy", words, 1.0 if how == SAME else _NEAR, text, sample.path)

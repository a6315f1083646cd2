"""Copies of one picture that are labelled otherwise: to the pixel, to the eye, mirrored, or to the network."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    """Returns a finding for each image whose copies mostly have another label, where copies should agree.

    Of two that contradict each other both are found. What is a copy of a copy counts only where the pixels are the
    same: the frames of a recording may be alike one after the other, and change their label on the way.
    """
    if not task_of(listing.task).copies_agree:
        return []
    there: dict[int, set[int]] = {}
    found: dict[int, Finding] = {}
    for how, rows in pairs.items():
        for one, other in _all_pairs(rows) if how == SAME else rows.tolist():
            there.setdefault(one, set()).add(other)
            there.setdefault(other, set()).add(one)
        for row in np.unique(rows).tolist():
            other = _outvoting(listing, row, sorted(there[row]))
            if row not in found and other is not None:
                found[row] = _finding(listing, row, other, how)
    return list(found.values())


def _all_pairs(pairs: Pairs) -> Iterator[tuple[int, int]]:
    """Yields every two that are the same, of which `duplicates.exact` names each with the first."""
    groups: dict[int, list[int]] = {}
    for first, other in pairs.tolist():
        groups.setdefault(first, [first]).append(other)
    for group in groups.values():
        yield from itertools.combinations(group, 2)


def _outvoting(listing: Listing, row: int, others: Sequence[int]) -> int | None:
    """Returns a copy of an image with the label that most of them have, unless more than half agree with the image."""
    labels = {other: (listing.samples[other].label, listing.samples[other].values) for other in (row, *others)}
    counts = Counter(labels.values())
    differing = [other for other in others if labels[other] != labels[row]]
    if not differing or 2 * counts[labels[row]] > len(labels):
        return None
    return max(differing, key=lambda other: counts[labels[other]])


def _finding(listing: Listing, row: int, other: int, how: str) -> Finding:
    sample = listing.samples[other]
    words = listing.words(sample)
    text = f"{how} {sample.path.name}, which is {f'labelled {words!r}' if words else 'of no class'}"
    return Finding(row, "copy", words, 1.0 if how == SAME else _NEAR, text, sample.path)

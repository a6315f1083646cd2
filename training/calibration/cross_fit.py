"""Measures what was fitted on images that it was not fitted to: each fold of them by a fit to the others.

Source: Chernozhukov et al. 2018, Double/Debiased Machine Learning, section 1, where the name comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from training.calibration.quantile import lower_quantile
from training.tasks.probabilities import Doubles

FOLDS = 5
LEAST_IMAGES = 20
"""Images below which a fit to four fifths of them says little of a fit to all."""

Folds = npt.NDArray[np.int64]


def folds(labels: npt.NDArray[np.integer[Any]], groups: Sequence[str] = ()) -> Folds | None:
    """Returns the fold of each image, (n,); None where there are too few images, or too few groups, to be divided.

    Args:
        labels: (n,) classes, of which each fold gets its share.
        groups: (n,) what each image was recorded with, which stays together; empty texts for groups of their own.
    """
    count = len(labels)
    random = np.random.default_rng(0)
    if count < LEAST_IMAGES:
        return None
    if any(groups):
        names = [group or str(row) for row, group in enumerate(groups)]
        _, index = np.unique(names, return_inverse=True)
        found = random.permutation(index.max() + 1)[index] % FOLDS
        return found if len(np.unique(found)) > 1 else None
    rows = random.permutation(count)
    result = np.empty(count, np.int64)
    result[rows[np.argsort(labels[rows], kind="stable")]] = np.arange(count) % FOLDS
    return result


def each(parts: Folds | None, count: int, fit: Callable[[npt.NDArray[np.int64]], float]) -> Doubles:
    """Returns for each of n images what was fitted to the other folds, (n,); without folds what was fitted to all.

    Args:
        parts: The fold of each image.
        count: n.
        fit: Fits a number to some of the images, by their rows.
    """
    if parts is None:
        return np.full(count, fit(np.arange(count)))
    result = np.empty(count)
    for fold in np.unique(parts):
        result[parts == fold] = fit(np.flatnonzero(parts != fold))
    return result


def called_unknown(scores: Doubles, share: float, parts: Folds | None) -> npt.NDArray[np.bool_]:
    """Returns which of n known images a rule calls unknown, (n,), whose threshold was fitted to others.

    Args:
        scores: (n,) of the rule; what is below the threshold is unknown.
        share: How many may be, in (0, 1).
        parts: The fold of each image.
    """
    return np.asarray(scores < each(parts, len(scores), lambda rows: lower_quantile(scores[rows], share)))


def in_words(parts: Folds | None, count: int) -> str:
    """Returns how a figure was measured."""
    if parts is not None:
        return f"cross-fitting: each fold of {count} validation images by a fit to the others"
    return f"the {count} validation images that it was fitted to, so that it is too good: too few, or of one group"

"""Numbers in their units, and standardised by the training images; the values of other tasks stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Scaling = Sequence[tuple[float, float]]
"""(mean, standard deviation) of each number over the training images; empty for a task without numbers."""


def standardised(values: npt.NDArray[np.floating[Any]], scaling: Scaling) -> npt.NDArray[np.floating[Any]]:
    """Returns numbers (n, K) in units as standard deviations from the training images' mean, in the same type."""
    if not scaling:
        return values
    mean, deviation = np.array(scaling, values.dtype).T
    return np.asarray((values - mean) / deviation)


def in_units(values: npt.NDArray[np.floating[Any]], scaling: Scaling) -> npt.NDArray[np.float64]:
    """Returns standardised numbers (n, K) in their units."""
    exact = values.astype(np.float64)
    if not scaling:
        return exact
    mean, deviation = np.array(scaling, np.float64).T
    return np.asarray(exact * deviation + mean)

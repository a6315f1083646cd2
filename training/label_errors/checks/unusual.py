"""Images that differ from the others, whatever their label: far from all in features, blurred, dark, overexposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from training.calibration.embeddings import normalised
from training.label_errors.measures import Measured
from training.label_errors.record import Finding, Kind
from training.tasks.probabilities import Doubles

FAR = 3.5
"""Modified z-score from which a value is far from the others. Source: Iglewicz and Hoaglin 1993, How to Detect and
Handle Outliers."""
NEIGHBOURS = 10
FEWEST = 20
"""Images below which nothing is called unusual."""
_NOTHING_BRIGHT = 40
_HARDLY_BRIGHT = 90
_NOTHING_DARK = 215
_BURNT = 0.4
"""Share of white pixels from which a picture that is far brighter than the others is overexposed."""
_LEAST_SPREAD = 0.02
"""Of a logarithm or a ratio, below which values are taken to be equal."""


def modified_z(values: Doubles) -> Doubles:
    """Returns by how many robust standard deviations each value (n,) is above the median."""
    away = values - np.median(values)
    usual = max(float(np.median(np.abs(away))), _LEAST_SPREAD)
    return np.asarray(0.6745 * away / usual)


def distance_ratios(features: npt.NDArray[np.floating[Any]]) -> Doubles:
    """Returns how far each of n images is from its neighbours, over what is usual, (n,).

    Args:
        features: (n, D) as a network gives them; their lengths do not count.

    Source: Sun et al. 2022, Out-of-Distribution Detection with Deep Nearest Neighbors: distances of features of length
        1, here their mean over the neighbours.
    """
    count = min(NEIGHBOURS, len(features) - 1)
    distances, _ = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(normalised(features)).kneighbors()
    mean = distances.mean(axis=1)
    usual = float(np.median(mean))
    return np.asarray(mean / usual if usual > 0 else np.ones(len(mean)))


def outliers(features: npt.NDArray[np.floating[Any]]) -> list[Finding]:
    """Finds the images that are far from all others, in the features (n, D) that a network gives."""
    if len(features) < FEWEST:
        return []
    ratios = distance_ratios(features)
    z = modified_z(ratios)
    return [
        _finding(row, "outlier", z[row], f"{ratios[row]:.2f} times as far from the images nearest to it as is usual")
        for row in np.flatnonzero(z > FAR).tolist()
    ]


def poor_pictures(measured: Sequence[Measured]) -> list[Finding]:
    """Finds the images that are blurred, dark or overexposed."""
    if len(measured) < FEWEST:
        return []
    blur = -modified_z(np.array([one.numbers["sharpness"] for one in measured]))
    light = modified_z(np.log(np.array([one.numbers["brightness"] for one in measured]) + 1))
    found = []
    for row, one in enumerate(measured):
        brightness = f"brightness {one.numbers['brightness']:.0f} of 255"
        if one.dark_end < _NOTHING_BRIGHT or (light[row] < -FAR and one.dark_end < _HARDLY_BRIGHT):
            text = f"{brightness}, 95 % of the pixels are below {one.dark_end:.0f}"
            found.append(_finding(row, "dark", max(-light[row], FAR), text))
        elif one.bright_end > _NOTHING_DARK or (light[row] > FAR and one.white >= _BURNT):
            text = f"{brightness}, {one.white:.0%} of the pixels are white"
            found.append(_finding(row, "bright", max(light[row], FAR), text))
        elif blur[row] > FAR:
            text = f"far less sharp than the others (modified z-score {-blur[row]:.1f})"
            found.append(_finding(row, "blurred", blur[row], text))
    return found


def _finding(row: int, kind: Kind, z: float, text: str) -> Finding:
    """A finding of which the doubt is half of how unusual it is: from FAR on 0, towards 0.5."""
    return Finding(row, kind, "", round(0.5 * (1 - FAR / max(float(z), FAR)), 4), text)

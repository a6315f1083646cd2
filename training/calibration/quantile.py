"""The threshold below which a share of some scores lies."""

from __future__ import annotations

import math

import numpy as np

from training.tasks.probabilities import Doubles


def lower_quantile(scores: Doubles, share: float) -> float:
    """Returns a threshold with at most a share of the scores below it, in the middle of the gap where it lies."""
    ordered = np.sort(scores)
    below = math.floor(share * len(ordered) + 1e-9)
    return float(ordered[max(below - 1, 0) : below + 1].mean()) if below else float(ordered[0])

"""Logits -> probabilities, in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_LEAST = 1e-30
"""What a probability of 0 counts as in a logarithm."""


def softmax(logits: Doubles) -> Doubles:
    """Returns (n, K) scores that add up to 1 in each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(logits: Doubles) -> Doubles:
    """Returns a score in [0, 1] for each logit."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def log(probabilities: Doubles) -> Doubles:
    """Returns the natural logarithms, of 0 that of 1e-30."""
    return np.asarray(np.log(np.maximum(probabilities, _LEAST)))

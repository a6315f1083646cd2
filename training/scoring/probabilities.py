"""Logits -> probabilities, in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import Task

Doubles = npt.NDArray[np.float64]


def softmax(logits: Doubles) -> Doubles:
    """Returns (n, K) scores that add up to 1 in each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(logits: Doubles) -> Doubles:
    """Returns a score in [0, 1] for each logit."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def probabilities(logits: FloatArray, heat: float, task: Task) -> Doubles:
    """Returns (n, K) scores of logits over a temperature, as the robot computes them; numbers as they are."""
    if task == "regression":
        return logits.astype(np.float64)
    scaled = logits.astype(np.float64) / heat
    return softmax(scaled) if task == "multiclass" else sigmoid(scaled)

"""The raw outputs of a network for one image: logits, activation map, embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outputs:
    """The raw outputs of a network for one image.

    Attributes:
        logits: (K,) float32.
        activation: (rows, columns) float32 map of the largest logit, see `spec.ActivationSpec`; None without one.
        embedding: (D,) float32, the last hidden layer.
    """

    logits: FloatArray
    activation: FloatArray | None
    embedding: FloatArray

"""What is computed of a picture before anything is learned: its pixels, its edges or its colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnn_perception.model.spec import InputSpec
from training.baselines.hog import Floats, hog

if TYPE_CHECKING:
    from training.baselines.pictures import Pixels

CELL = 16
"""Pixels of a cell of HOG: 8 x 8 cells on the longer side of `_DETAIL`, 1764 features of a square picture."""
LEVELS = 8
"""Of each colour channel: 512 colours."""
_DETAIL = 128
_COARSE = 32


@dataclass(frozen=True)
class Features:
    """A way to describe a picture.

    Attributes:
        name: What it is called in the table.
        side: Pixels of the longer side of the picture.
        multiple: Of which both sides are whole ones.
        compute: Pictures (n, 3, rows, columns) in [0, 1] -> (n, D).
    """

    name: str
    side: int
    multiple: int
    compute: Callable[[Pixels], Floats]

    def spec(self, network: InputSpec) -> InputSpec:
        """Returns how the picture is made of an image: the part that the network sees, smaller."""
        from training.baselines.pictures import small  # imports torch, which features do not need

        return small(network, self.side, self.multiple)


def colour_histogram(pixels: Pixels) -> Floats:
    """Returns how much of a picture each of 512 colours has, as roots, so that a row has the length 1: (n, 512).

    Source: Swain and Ballard 1991, Color Indexing (the histogram); Chapelle, Haffner and Vapnik 1999, Support Vector
        Machines for Histogram-Based Image Classification (a power of it, so that large areas do not decide alone).
    """
    levels = np.clip((pixels * LEVELS).astype(np.int64), 0, LEVELS - 1)
    red, green, blue = levels.reshape(len(pixels), 3, -1).transpose(1, 0, 2)
    colours = (red * LEVELS + green) * LEVELS + blue
    index = np.arange(len(pixels))[:, None] * LEVELS**3 + colours
    counts = np.bincount(index.ravel(), minlength=len(pixels) * LEVELS**3).reshape(len(pixels), -1)
    return np.asarray(np.sqrt(counts / colours.shape[1]), np.float32)


def _flat(pixels: Pixels) -> Floats:
    return pixels.reshape(len(pixels), -1)


PIXELS = Features("pixels", _COARSE, 1, _flat)
HOG = Features("HOG", _DETAIL, CELL, lambda pixels: hog(pixels, CELL))
COLOURS = Features("colour histogram", _DETAIL, CELL, colour_histogram)

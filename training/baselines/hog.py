"""Histograms of oriented gradients: where the edges of a picture are, and how they are turned.

OpenCV 5 has no `HOGDescriptor` any more, so it is computed here, as scikit-image's `feature.hog` does.

Source: Dalal and Triggs 2005, Histograms of Oriented Gradients for Human Detection, with their best settings: gradients
    [-1, 0, 1] of the strongest colour channel, 9 orientations without sign, blocks of 2 x 2 cells, L2-Hys at 0.2.
    Without their interpolation between cells.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS = 9
BLOCK = 2
_CLIP = 0.2
_EPSILON = 1e-5

Floats = npt.NDArray[np.float32]


def hog(pixels: Floats, cell: int) -> Floats:
    """Returns the descriptors of pictures.

    Args:
        pixels: (n, channels, rows, columns) in [0, 1]; rows and columns are whole multiples of `cell`, at least two.
        cell: Pixels of a cell's side.

    Returns:
        (n, D) with D = (rows / cell - 1) x (columns / cell - 1) x 4 x 9, in [0, 1].
    """
    cells = _cells(*_gradients(pixels), cell)
    rows, columns = cells.shape[1] - BLOCK + 1, cells.shape[2] - BLOCK + 1
    corners = [cells[:, top : top + rows, left : left + columns] for top in range(BLOCK) for left in range(BLOCK)]
    blocks = np.concatenate(corners, axis=-1)
    blocks = _normalised(np.minimum(_normalised(blocks), _CLIP))
    return blocks.reshape(len(pixels), -1)


def _gradients(pixels: Floats) -> tuple[Floats, Floats]:
    """Strength, and orientation in degrees in [0, 180), of each pixel's gradient: (n, rows, columns) both."""
    down = np.zeros_like(pixels)
    across = np.zeros_like(pixels)
    down[:, :, 1:-1] = pixels[:, :, 2:] - pixels[:, :, :-2]
    across[:, :, :, 1:-1] = pixels[:, :, :, 2:] - pixels[:, :, :, :-2]
    strength = np.hypot(down, across)
    strongest = strength.argmax(axis=1)[:, None]
    down, across, strength = (np.take_along_axis(each, strongest, axis=1)[:, 0] for each in (down, across, strength))
    return strength, np.rad2deg(np.arctan2(down, across)) % 180


def _cells(strength: Floats, degrees: Floats, cell: int) -> Floats:
    """How strong the gradients of each orientation are in each cell, (n, rows of cells, columns of cells, BINS)."""
    count, rows, columns = strength.shape
    down, across = rows // cell, columns // cell
    orientation = np.minimum((degrees * (BINS / 180)).astype(np.int64), BINS - 1)  # just below 180 is rounded to it
    place = np.arange(rows)[:, None] // cell * across + np.arange(columns) // cell
    index = (np.arange(count)[:, None, None] * (down * across) + place) * BINS + orientation
    sums = np.bincount(index.ravel(), strength.ravel(), count * down * across * BINS)
    return (sums / cell**2).astype(np.float32).reshape(count, down, across, BINS)


def _normalised(blocks: Floats) -> Floats:
    return np.asarray(blocks / np.sqrt(np.square(blocks).sum(axis=-1, keepdims=True) + _EPSILON**2), np.float32)

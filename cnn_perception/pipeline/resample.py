"""Antialiased resize of part of an image, as two multiplications by band matrices.

The filters are Pillow's, and so those that torchvision's weights were evaluated with; a new pixel is a weighted mean of
the old ones around it, down the columns and across the rows. Written as matrix products it takes less than half of
Pillow's time and does not depend on Pillow's version. numpy must have a fast BLAS for that: its wheels bring OpenBLAS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import Interpolation

Floats = npt.NDArray[np.float32]

_MOST_AT_ONCE = 2**23
"""Numbers of an image that are cast to floats at once: up to some 1920x1080 that is two to three times as fast as in
bands, of 3840x2160 half as fast."""
_BLOCK = 8
"""New lines that are made by one product: with more of them, more of what is multiplied is zero."""


def _triangle(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Source: Keys 1981, Cubic convolution interpolation for digital image processing, with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


_FILTERS: dict[Interpolation, tuple[Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
}
"""Weight by distance from the new pixel's centre, and the distance from which on it is zero; in new pixels, or, where
an image is enlarged, in old ones."""


@dataclass(frozen=True)
class Side:
    """How one side of an image is resized.

    Attributes:
        source: [first, last] of the source's pixels that is kept; may lie between pixels.
        steps: Into how many new ones.
        size: How many pixels the source has.
    """

    source: tuple[float, float]
    steps: int
    size: int


@dataclass(frozen=True)
class _Band:
    """Weights, (new, old) float32, by which the new lines from `to` are made of the old ones from `start`."""

    to: int
    start: int
    weights: Floats


@dataclass(frozen=True)
class _Plan:
    """The source's lines that are read, and the bands, which count from the first of them."""

    read: slice
    steps: int
    bands: tuple[_Band, ...]

    def __call__(self, lines: Floats) -> Floats:
        """(old, n) -> (new, n) float32, laid out in memory as `lines` is."""
        result: Floats = np.empty_like(lines, shape=(self.steps, lines.shape[1]))
        for band in self.bands:
            new, old = band.weights.shape
            np.matmul(band.weights, lines[band.start : band.start + old], out=result[band.to : band.to + new])
        return result

    def in_bands(self, rows: npt.NDArray[np.uint8]) -> Floats:
        """(old, n, 3) uint8 -> (new, n * 3) float32, as a call with the same as floats.

        They are cast a band at a time, into the same memory: those of a whole 4K image fit into no cache.
        """
        count = rows.shape[1] * 3
        result: Floats = np.empty((self.steps, count), np.float32)
        cast: Floats = np.empty((max(band.weights.shape[1] for band in self.bands), *rows.shape[1:]), np.float32)
        for band in self.bands:
            new, old = band.weights.shape
            part = cast[:old]
            part[:] = rows[band.start : band.start + old]
            np.matmul(band.weights, part.reshape(old, count), out=result[band.to : band.to + new])
        return result

    def across(self, image: Floats) -> Floats:
        """(rows, 3, old) -> (rows, 3, new) float32."""
        lines = image.reshape(-1, image.shape[2])
        result: Floats = self(lines.T).T
        return result.reshape(*image.shape[:2], self.steps)


def resample(image: RgbImage, down: Side, across: Side, interpolation: Interpolation) -> Floats:
    """Resizes the part of an image that `down` and `across` keep.

    Args:
        image: (H, W, 3) uint8.
        down: Which rows, and into how many.
        across: Which columns, likewise.
        interpolation: The filter.

    Returns:
        (down.steps, 3, across.steps) float32 in [0, 255]; by `bicubic` rounded, as Pillow does.
    """
    rows = _plan(down, interpolation)
    columns = _plan(across, interpolation)
    read = image[rows.read, columns.read]
    if interpolation == "bilinear":
        # Means of means stay within the range, so either side can be the first; this way there is less to rearrange.
        if read.size > _MOST_AT_ONCE:
            lines = rows.in_bands(read).reshape(down.steps, -1, 3)
        else:
            lines = rows(read.astype(np.float32).reshape(len(read), -1)).reshape(down.steps, -1, 3)
        return columns.across(np.ascontiguousarray(lines.transpose(0, 2, 1)))
    # A cubic overshoots at edges. Pillow goes across first, and rounds and cuts off after either side.
    lines = columns.across(np.ascontiguousarray(read.transpose(0, 2, 1), np.float32))
    lines = rows(_cut_off(lines).reshape(len(read), -1))
    return _cut_off(lines).reshape(down.steps, 3, across.steps)


def _cut_off(lines: Floats) -> Floats:
    np.rint(lines, out=lines)
    return np.clip(lines, 0.0, 255.0, out=lines)


@lru_cache(maxsize=64)  # a robot's cameras have few sizes; a folder of photographs has many
def _plan(side: Side, interpolation: Interpolation) -> _Plan:
    first, last = side.source
    step = (last - first) / side.steps
    stretch = max(step, 1.0)  # where an image shrinks, the filter widens with the step: that is the antialiasing
    weigh, reach = _FILTERS[interpolation]
    centres = first + (np.arange(side.steps) + 0.5) * step
    # the old pixels whose centres lie within reach, as many for each new one; near the edges some are out of reach
    count = min(side.size, int(2 * reach * stretch) + 1)
    starts = np.clip(np.ceil(centres - reach * stretch - 0.5).astype(int), 0, side.size - count)
    old = starts[:, None] + np.arange(count)
    weights = weigh((old + 0.5 - centres[:, None]) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    bands = []
    for to in range(0, side.steps, _BLOCK):
        block = slice(to, to + _BLOCK)
        columns = old[block] - starts[to]
        band = np.zeros((len(columns), columns[-1, -1] + 1), np.float32)
        np.put_along_axis(band, columns, weights[block], axis=1)
        bands.append(_Band(to, int(starts[to] - starts[0]), band))
    return _Plan(slice(int(starts[0]), int(starts[-1]) + count), side.steps, tuple(bands))

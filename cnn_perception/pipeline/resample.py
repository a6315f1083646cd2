"""Antialiased resize of part of an image, as two multiplications by band matrices.

The filters are Pillow's, and so those that torchvision's weights were evaluated with; a new pixel is a weighted mean of
the old ones around it, down the columns and across the rows. Written as matrix products it takes less than half of
Pillow's time and does not depend on Pillow's version. numpy must have a fast BLAS for that: its wheels bring OpenBLAS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import Interpolation

Floats = npt.NDArray[np.float32]
NumberT = TypeVar("NumberT", np.uint8, np.float32)

_BLOCK = 8
"""New lines that are made by one product: with more of them, more of what is multiplied is zero."""
_BANDS = 14
"""Products of rows after which these are finished: what lies between the steps then fits into a core's cache, which
saves a quarter of the time."""


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

    def __call__(self, lines: npt.NDArray[np.uint8] | Floats, bands: slice = slice(None)) -> Floats:
        """(..., old, n) -> (..., new, n) float32: the new lines of these bands, all of them by default.

        Bytes are cast a band at a time, into the same memory: the floats of a whole image fit into no cache.
        """
        wanted = self.bands[bands]
        first = wanted[0].to
        *more, _, count = lines.shape
        result: Floats = np.empty((*more, wanted[-1].to + len(wanted[-1].weights) - first, count), np.float32)
        floats: Floats = np.empty((*more, max(band.weights.shape[1] for band in wanted), count), np.float32)
        for band in wanted:
            new, old = band.weights.shape
            part = lines[..., band.start : band.start + old, :]
            if part.dtype != np.float32:
                floats[..., :old, :] = part
                part = floats[..., :old, :]
            np.matmul(band.weights, part, out=result[..., band.to - first : band.to - first + new, :])
        return result


def resample(image: RgbImage, down: Side, across: Side, interpolation: Interpolation) -> Iterator[Floats]:
    """Resizes the part of an image that `down` and `across` keep.

    A product makes new lines of lines, so the image is turned between the two. Its channels are turned along as if they
    were pixels, and so end up as planes.

    Args:
        image: (H, W, 3) uint8.
        down: Which rows, and into how many.
        across: Which columns, likewise.
        interpolation: The filter.

    Yields:
        (3, n, across.steps) float32 in [0, 255], the next n of down.steps rows; by `bicubic` rounded, as Pillow does.
    """
    rows = _plan(down, interpolation)
    columns = _plan(across, interpolation)
    read = image[rows.read, columns.read]
    height, width = read.shape[:2]
    pixels = read.reshape(height, width * 3)
    if interpolation == "bilinear":
        # Means of means stay within the range, so either side can be the first; this way there is less to turn.
        for first in range(0, len(rows.bands), _BANDS):
            lines = _turned(rows(pixels, slice(first, first + _BANDS)))
            planes = _turned(columns(lines.reshape(width, -1)))
            yield planes.reshape(3, -1, across.steps)
        return
    # A cubic overshoots at edges. Pillow goes across first, and rounds and cuts off after either side.
    lines = _cut_off(columns(_turned(pixels).reshape(width, 3 * height)))
    yield _cut_off(rows(_turned(lines).reshape(3, height, across.steps)))


def _turned(lines: npt.NDArray[NumberT]) -> npt.NDArray[NumberT]:
    """(n, m) -> (m, n), copied, for which numpy takes up to three times as long."""
    turned: npt.NDArray[NumberT] = cv2.transpose(lines)  # type: ignore[assignment]  # of the type that it is given
    return turned


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

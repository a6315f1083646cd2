"""The part of an image that a box shows: upright, clipped to the image, in whole pixels.

A box that is turned is turned back, so that the network sees the object as the detector does; what then lies outside
the image has the model's mean colour, which says nothing. Neither way is anything resized: that is left to the one
preprocessing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.image.messages import RgbImage
from cnn_perception.regions.box import Box

NOT_FINITE, EMPTY, TOO_SMALL = "box_not_finite", "box_empty", "box_too_small"
OUTSIDE, TURNED = "box_outside", "box_turned"
"""Why a box cannot be answered, as it is counted."""
_Numbers = npt.NDArray[np.float64]
LEAST_SIDE = 2.0
"""Pixels of a box's shorter side: a network has nothing to recognise in less, and of a box in shares of the image, all
of whose numbers are 0 to 1, no side is as long."""
MOST_PADDING = 4.0
"""A box with so much on each side is nine times as wide: beyond that, the image itself is what is asked of."""
_UPRIGHT = 1e-6
"""Radians below which a turn moves no pixel."""
_LARGEST_TURNED = 32766
"""Columns or rows of an image that OpenCV can turn."""
_FARTHEST = 2.0**40
"""Pixels from the image up to which the edges of a turned box are known to a fraction of one: a float has 53 bits."""


@dataclass(frozen=True)
class CropSettings:
    """How much around a box is shown to the network.

    Attributes:
        padding: What is added on each side, as a share of the box's width and height.
        square: Whether the shorter side is made as long as the longer one, before the padding.

    Raises:
        ConfigError: If the padding is out of range.
    """

    padding: float = 0.0
    square: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.padding <= MOST_PADDING:
            raise ConfigError(f"padding is {self.padding}; choose 0 to {MOST_PADDING:g}, a share of the box's sides")


def refused(box: Box) -> FrameError | None:
    """Returns why a box can be used in no image, whatever its size; None where it can.

    Its reason is `NOT_FINITE`, `EMPTY` (a side of 0 pixels or less) or `TOO_SMALL` (a side below `LEAST_SIDE`).
    """
    if not all(map(math.isfinite, (box.x, box.y, box.width, box.height, box.theta))):
        return FrameError(NOT_FINITE, "a box has NaN or Inf in it")
    size = f"a box is {box.width:g} x {box.height:g} pixels"
    if not (box.width > 0.0 and box.height > 0.0):
        return FrameError(EMPTY, size)
    if min(box.width, box.height) < LEAST_SIDE:
        text = (
            f"{size}; boxes are in pixels of the image, not in shares of it, and at least {LEAST_SIDE:g} pixels a side"
        )
        return FrameError(TOO_SMALL, text)
    return None


def crop(image: RgbImage, box: Box, settings: CropSettings, fill: tuple[int, int, int]) -> RgbImage:
    """Returns what a box shows.

    Args:
        image: (H, W, 3) uint8.
        box: Of this image.
        settings: How much around it is shown.
        fill: R, G and B of what is shown of no pixel of the image, where the box is turned.

    Returns:
        (h, w, 3) uint8, C-contiguous, at least 1x1.

    Raises:
        FrameError: As `refused` says, `OUTSIDE` (all of it), or `TURNED`.
    """
    if refusal := refused(box):
        raise refusal
    longest = max(box.width, box.height)
    width, height = (longest, longest) if settings.square else (box.width, box.height)
    grown = 1.0 + 2.0 * settings.padding
    if abs(math.remainder(box.theta, 2.0 * math.pi)) < _UPRIGHT:
        return _cut(image, box, width * grown, height * grown)
    return _turned_back(image, box, width * grown, height * grown, fill)


def _cut(image: RgbImage, box: Box, width: float, height: float) -> RgbImage:
    rows = _pixels(box.y - height / 2, box.y + height / 2, image.shape[0])
    columns = _pixels(box.x - width / 2, box.x + width / 2, image.shape[1])
    if rows is None or columns is None:
        raise _outside(box, image)
    return RgbImage(np.ascontiguousarray(image[rows, columns]))


def _pixels(low: float, high: float, count: int) -> slice | None:
    """Returns the whole pixels between two edges, at least one; None where both are outside on one side."""
    low, high = max(low, 0.0), min(high, float(count))
    if low >= high:
        return None
    # Half a pixel is rounded up at either edge, so that a box between pixels keeps its width.
    first = min(math.floor(low + 0.5), count - 1)
    return slice(first, max(math.floor(high + 0.5), first + 1))


def _turned_back(image: RgbImage, box: Box, width: float, height: float, fill: tuple[int, int, int]) -> RgbImage:
    if max(image.shape[:2]) > _LARGEST_TURNED:
        raise FrameError(TURNED, f"a box is turned in an image of more than {_LARGEST_TURNED} pixels a side")
    if max(abs(box.x), abs(box.y)) > _FARTHEST:
        raise _outside(box, image)
    # The box's own axes in the image, whose y points down: a turn is counterclockwise as one sees it.
    cosine, sine = math.cos(box.theta), math.sin(box.theta)
    axes = np.array([(cosine, -sine), (sine, cosine)])
    corners = np.array([(x, y) for x in (0, image.shape[1]) for y in (0, image.shape[0])]) - (box.x, box.y)
    reach = np.array((width, height)) / 2.0
    low = np.maximum(-reach, (corners @ axes.T).min(axis=0))
    high = np.minimum(reach, (corners @ axes.T).max(axis=0))
    if not (low < high).all() or not _meets(image, box, axes, low, high):
        raise _outside(box, image)
    columns, rows = (max(1, round(side)) for side in (high - low).tolist())
    step = (high - low) / (columns, rows)
    first = axes.T @ (low + step / 2.0) + (box.x - 0.5, box.y - 0.5)  # OpenCV counts from the first pixel's centre
    matrix = np.column_stack([axes.T * step, first])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    turned = cv2.warpAffine(
        image, matrix, (columns, rows), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )
    return RgbImage(np.asarray(turned, np.uint8))


def _meets(image: RgbImage, box: Box, axes: _Numbers, low: _Numbers, high: _Numbers) -> bool:
    """Returns whether a turned box, clipped along its own axes, meets the image along the image's axes, too."""
    corners = np.array([(u, v) for u in (low[0], high[0]) for v in (low[1], high[1])]) @ axes + (box.x, box.y)
    size = np.array((image.shape[1], image.shape[0]))
    return bool((corners.max(axis=0) > 0.0).all() and (corners.min(axis=0) < size).all())


def _outside(box: Box, image: RgbImage) -> FrameError:
    height, width = image.shape[:2]
    text = f"a box about ({box.x:g}, {box.y:g}) shows nothing of its image of {width}x{height}"
    return FrameError(OUTSIDE, f"{text}; its pixels must be those of the topic of images")

"""Small pictures of the page: at one size, framed, beside each other, shaded by a map."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.image.messages import RgbImage
from training.look.methods.fields import Box

Numbers = npt.NDArray[np.float32]
Color = tuple[int, int, int]

RIGHT: Color = (40, 160, 70)
WRONG: Color = (205, 45, 45)
GREY: Color = (150, 150, 150)
_BOX: Color = (255, 64, 0)
_PAPER = 255
_DIMMED = 0.4
_OPACITY = 0.65


def square(picture: RgbImage, side: int) -> RgbImage:
    """Returns the middle of a picture as a square of `side` pixels."""
    height, width = picture.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    middle = RgbImage(picture[top : top + edge, left : left + edge])
    return resized(middle, side, side)


def crop(picture: RgbImage, row: float, column: float, side: int) -> tuple[slice, slice]:
    """Returns the rows and columns of a square around a place, moved into the picture where it would leave it."""
    height, width = picture.shape[:2]
    return _around(row, min(side, height), height), _around(column, min(side, width), width)


def _around(middle: float, length: int, whole: int) -> slice:
    first = int(np.clip(round(middle - (length - 1) / 2), 0, whole - length))
    return slice(first, first + length)


def resized(picture: RgbImage, height: int, width: int) -> RgbImage:
    """Returns a picture at another size."""
    method = cv2.INTER_AREA if picture.shape[0] >= height else cv2.INTER_CUBIC
    drawn = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=method)
    return RgbImage(np.asarray(drawn, np.uint8))


def in_squares(picture: RgbImage, side: int) -> RgbImage:
    """Returns a picture whose longer side has about `side` pixels, each pixel a square of whole size."""
    factor = max(side // max(picture.shape[:2]), 1)
    return RgbImage(picture.repeat(factor, 0).repeat(factor, 1))


def cropped(picture: RgbImage, box: Box) -> RgbImage:
    """Returns the part of a picture in a box."""
    return RgbImage(picture[box.top : box.bottom, box.left : box.right])


def with_box(picture: RgbImage, box: Box) -> RgbImage:
    """Returns a picture with a box drawn on its edge pixels."""
    drawn = np.ascontiguousarray(picture).copy()
    thickness = max(round(max(picture.shape[:2]) / 112), 1)
    cv2.rectangle(drawn, (box.left, box.top), (box.right - 1, box.bottom - 1), _BOX, thickness)
    return RgbImage(drawn)


def map_picture(values: Numbers, largest: float, height: int, width: int) -> RgbImage:
    """Draws a map (h, w) at a size, each cell a rectangle: black is 0 and below, the brightest is `largest`."""
    shares = np.clip(values / np.float32(max(largest, 1e-12)), 0, 1)
    colors = cv2.applyColorMap((shares * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)
    drawn = cv2.resize(colors, (width, height), interpolation=cv2.INTER_NEAREST)
    return RgbImage(np.asarray(cv2.cvtColor(drawn, cv2.COLOR_BGR2RGB), np.uint8))


def framed(picture: RgbImage, color: Color, width: int = 4) -> RgbImage:
    """Returns a picture with a frame over its border."""
    drawn = picture.copy()
    for border in (drawn[:width], drawn[-width:], drawn[:, :width], drawn[:, -width:]):
        border[:] = color
    return RgbImage(drawn)


def lit(picture: RgbImage, strength: Numbers) -> RgbImage:
    """Returns a picture (H, W, 3) that is darker where a map (H, W) from 0 to 1 is weak."""
    light = np.float32(_DIMMED) + np.float32(1 - _DIMMED) * np.sqrt(strength.clip(0, 1))
    return RgbImage(np.asarray((picture * light[..., None]).round(), np.uint8))


def grid(pictures: Sequence[RgbImage], columns: int, gap: int = 3) -> RgbImage:
    """Returns pictures of one size in rows, on white."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), _PAPER, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return RgbImage(sheet)


def heat(picture: RgbImage, strength: Numbers) -> RgbImage:
    """Returns a picture (H, W, 3) under the colours of a map (H, W) from 0, clear, to 1, red."""
    clipped = strength.clip(0, 1)
    ramp = (clipped * 228).astype(np.uint8)  # without the dark red end, as in the node's overlay
    colors = cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    weight = (np.float32(_OPACITY) * clipped)[..., None]
    return RgbImage(np.asarray((picture * (1 - weight) + colors * weight).round(), np.uint8))

"""Contact sheets: several small pictures in one, with boxes and heat maps drawn on them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.image.messages import RgbImage
from training.look.methods.fields import Box

_GAP = 2
_WHITE = 255
_BOX_COLOUR = (255, 64, 0)


def sheet(pictures: Sequence[RgbImage], columns: int) -> RgbImage:
    """Lays pictures of one size in rows of `columns`, with white lines between."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    whole = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), _WHITE, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * (height + _GAP), place % columns * (width + _GAP)
        whole[top : top + height, left : left + width] = picture
    return RgbImage(whole)


def enlarged(picture: RgbImage, side: int) -> RgbImage:
    """Returns a picture whose longer side has about `side` pixels, each pixel a square of whole size."""
    factor = max(side // max(picture.shape[:2]), 1)
    return RgbImage(picture.repeat(factor, 0).repeat(factor, 1))


def resized(picture: RgbImage, height: int, width: int) -> RgbImage:
    """Returns a picture at another size."""
    shrinks = height < picture.shape[0]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    drawn = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=way)
    return RgbImage(np.asarray(drawn, np.uint8))


def cropped(picture: RgbImage, box: Box) -> RgbImage:
    """Returns the part of a picture in a box."""
    return RgbImage(picture[box.top : box.bottom, box.left : box.right])


def with_box(picture: RgbImage, box: Box) -> RgbImage:
    """Returns a picture with a box drawn on its edge pixels."""
    drawn = np.ascontiguousarray(picture).copy()
    thickness = max(round(max(picture.shape[:2]) / 112), 1)
    cv2.rectangle(drawn, (box.left, box.top), (box.right - 1, box.bottom - 1), _BOX_COLOUR, thickness)
    return RgbImage(drawn)


def heat(values: npt.NDArray[np.floating], largest: float, height: int, width: int) -> RgbImage:
    """Draws a map (h, w) at a size, each cell a rectangle: black is 0 and below, the brightest is `largest`."""
    shares = np.clip(np.asarray(values, np.float32) / max(largest, 1e-12), 0, 1)
    colours = cv2.applyColorMap((shares * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)
    drawn = cv2.resize(colours, (width, height), interpolation=cv2.INTER_NEAREST)
    return RgbImage(np.asarray(cv2.cvtColor(drawn, cv2.COLOR_BGR2RGB), np.uint8))

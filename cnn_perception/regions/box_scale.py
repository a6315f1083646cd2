"""Whether the boxes of a camera may be in pixels of a smaller image than theirs, such as the input of the detector.

Such boxes show something, which the model names with a sure score; that they all lie in one corner is what tells them.
"""

from __future__ import annotations

import math

from cnn_perception.regions.box import Box

SIDES = (100, 300, 320, 416, 512, 608, 640, 960, 1000, 1280)
"""Sides in pixels of the squares that boxes in other units fill: inputs of detectors, the longer side where they are no
squares, and ranges of coordinates that are no pixels, per cent and per mille. Sources: 300 and 512, Liu et al. 2016,
SSD; 320, 416 and 608, Redmon and Farhadi 2018, YOLOv3; 640 and 1280, Ultralytics YOLOv5 and its P6 models; 960, NVIDIA
TAO's PeopleNet (960x544); 1000, Bai et al. 2023, Qwen-VL."""
LEAST_BOXES = 1000
"""Of fewer nothing is suspected: at ten images a second, of what one thing does in less than two minutes.

Were boxes independent and anywhere in the image, 9 would do: one of 1280x720 has a box within 640x640 by a chance of at
most 640 * 640 / (1280 * 720) = 0.44, and all of 9 by 0.44 ** 9 = 0.0007. But the boxes of one thing follow one another,
and together are worth only as many as the times that it could have gone elsewhere, which no box says: many detectors
give no ids. If a thing needs 10 s to cross the square, 1000 boxes at ten a second are 10 crossings, with a false alarm
by 0.44 ** 10 = 0.0003, and 100 boxes are one, by 0.44. The farthest extent of the boxes, which is what is looked at, is
a function of the same crossings, and no statistic of places makes more of them. Where an image has many boxes the
warning comes sooner, and is worth less where these stand still: it says `perhaps`.
"""
_BEYOND = 0.02
"""By which share of its side a detector's box reaches beyond the input that it was found in: many do not clip them."""
_LEAST_SPREAD = 0.5
"""The share of a square's side over which the centres of all boxes spread, along one of its sides at least: a thing
that stays in the corner of an image, however large, tells nothing when it is seen many times."""


class BoxScale:
    """The smallest of the usual squares at the upper left corner that all boxes of a camera lie in; for one thread."""

    def __init__(self) -> None:
        """Begins without a box."""
        self._size = (0, 0)
        self._forget()

    def _forget(self) -> None:
        self._farthest = 0.0
        self._left = self._top = math.inf  # of the centres
        self._right = self._bottom = -math.inf
        self._side: int | None = 0
        self._count = 0

    def add(self, box: Box, height: int, width: int) -> None:
        """Takes a box that shows something of its image, of so many rows and columns; another size begins anew."""
        if (height, width) != self._size:
            self._size = (height, width)
            self._forget()
        xs, ys = zip(*box.corners, strict=True)
        self._farthest = max(self._farthest, *xs, *ys)
        self._left, self._right = min(self._left, box.x), max(self._right, box.x)
        self._top, self._bottom = min(self._top, box.y), max(self._bottom, box.y)
        side = next((one for one in SIDES if self._farthest <= one * (1.0 + _BEYOND)), None)
        if side != self._side:  # the box lies outside of the square that all before it are in
            self._side = side
            if self._count >= LEAST_BOXES:  # which was all that there was to say for that square
                self._count = 0
        self._count += 1

    @property
    def suspicion(self) -> str:
        """That all boxes lie in one of the squares though the image is larger, and what it may mean; else empty."""
        height, width = self._size
        if self._count < LEAST_BOXES or self._side is None or min(height, width) <= self._side:
            return ""
        if max(self._right - self._left, self._bottom - self._top) < _LEAST_SPREAD * self._side:
            return ""
        square = f"{self._side}x{self._side}"
        return (
            f"all boxes so far lie in the upper left {square} pixels of images of {width}x{height}: perhaps they "
            "are in pixels of the detector's input or of a resized image; boxes must be in pixels of these images"
        )

"""Draws label maps over their images."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt

from cnn_perception.image.messages import RgbImage

_OPACITY = 0.6
_GOLDEN = 0.381966
"""By this share of the circle neighbouring hues are apart, so that a few are as different as many allow."""


def colour_of(place: int) -> tuple[int, int, int]:
    """Returns the colour, (r, g, b) in 0 to 255, of the class at a place."""
    red, green, blue = colorsys.hsv_to_rgb(place * _GOLDEN % 1.0, 0.85, 0.95 if place % 2 else 0.75)
    return round(red * 255), round(green * 255), round(blue * 255)


def coloured(image: RgbImage, places: npt.NDArray[np.int64], count: int) -> RgbImage:
    """Returns an image with its pixels in the colours of their classes.

    Args:
        image: (H, W, 3) uint8; not changed.
        places: (H, W) places of classes. Pixels of others keep their own colours.
        count: How many places have a colour.

    Returns:
        (H, W, 3) uint8.
    """
    is_named = (places >= 0) & (places < count)
    colours = np.array([colour_of(place) for place in range(count)], np.float32)
    drawn = image.copy()
    mixed = (1 - _OPACITY) * image[is_named] + _OPACITY * colours[places[is_named]]
    drawn[is_named] = mixed.round().astype(np.uint8)
    return RgbImage(drawn)

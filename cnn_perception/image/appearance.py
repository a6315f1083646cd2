"""How a picture looks as a whole: dark or bright, sharp or blurred."""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from cnn_perception.image.decoded import RgbImage

_WIDTH = 160
"""In pixels, to which pictures are reduced, so that noise counts little and those of all cameras can be compared."""


@dataclass(frozen=True)
class Appearance:
    """How a picture looks.

    Attributes:
        brightness: Mean of its grey values, in [0, 1].
        sharpness: Variance of the Laplacian of its grey values of 0 to 255, reduced to 160 pixels of width: low where
            it is blurred, or shows nothing. Source: Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield
            microscopy.
    """

    brightness: float
    sharpness: float


def appearance(image: RgbImage) -> Appearance:
    """Returns how an (H, W, 3) uint8 image looks."""
    height, width = image.shape[:2]
    small = (min(width, _WIDTH), max(1, round(height * min(width, _WIDTH) / width)))
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), small, interpolation=cv2.INTER_AREA)
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    return Appearance(float(grey.mean()) / 255.0, float(edges.var()))

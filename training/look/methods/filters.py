"""What the filters of a first layer prefer: an orientation, a wavelength, a colour."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnn_perception.image.messages import RgbImage

Filter = npt.NDArray[np.float64]
_FFT_SIZE = 64
"""Filters are padded to this many pixels, so that angles of their spectrum are told apart to about 2 degrees."""
_BLOB_SHARE = 0.5
"""A filter whose response to an even surface has this share of what an optimal picture would give is a blob."""
_GREY_SHARE = 0.3
"""A filter whose colour leaves the grey axis by less than this share is grey."""
_OPPONENTS = ("red against cyan", "yellow against blue", "green against magenta")


@dataclass(frozen=True)
class Preference:
    """What a filter responds to most.

    Attributes:
        orientation_deg: Direction of the edges or stripes, 0 for horizontal ones, counter-clockwise, in [0, 180); None
            for a blob, which has none.
        wavelength_px: Distance of the stripes that suit it best; None for a blob.
        colour: `grey`, or a pair of opponent colours.
    """

    orientation_deg: float | None
    wavelength_px: float | None
    colour: str

    @property
    def kind(self) -> str:
        """In words, for tables."""
        shape = "blobs" if self.orientation_deg is None else "edges and stripes"
        return f"{'grey' if self.colour == 'grey' else 'coloured'} {shape}"


def preference(weights: Filter) -> Preference:
    """Returns what a filter prefers.

    The filter (colours x pixels) is split into its best product of one colour and one pattern by the singular value
    decomposition; orientation and wavelength are those of the largest peak of the pattern's spectrum.

    Args:
        weights: (3, h, w) for colours in [0, 1], or (1, h, w) for grey.
    """
    colours, height, width = weights.shape
    left, sizes, right = np.linalg.svd(weights.reshape(colours, height * width), full_matrices=False)
    pattern = right[0].reshape(height, width)
    even = abs(pattern.sum()) / np.abs(pattern).sum() if sizes[0] else 1.0
    colour = _colour(left[:, 0])
    if min(height, width) < 2 or even > _BLOB_SHARE:
        return Preference(None, None, colour)
    power = np.abs(np.fft.fft2(pattern - pattern.mean(), (_FFT_SIZE, _FFT_SIZE)))
    down, across = np.unravel_index(int(power.argmax()), power.shape)
    frequencies = np.fft.fftfreq(_FFT_SIZE)
    vertical, horizontal = float(frequencies[down]), float(frequencies[across])
    # stripes run across the direction in which the pattern changes; rows count downwards, angles go up
    angle = math.degrees(math.atan2(-vertical, horizontal)) + 90
    return Preference(angle % 180, 1 / math.hypot(vertical, horizontal), colour)


def _colour(direction: Filter) -> str:
    """Names the axis of a colour direction (3,): its sign does not matter, for the pattern has one, too."""
    chroma = direction - direction.mean()
    if np.linalg.norm(chroma) < _GREY_SHARE * np.linalg.norm(direction):
        return "grey"
    red, green, blue = chroma
    hue = math.degrees(math.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue))  # of the hexagon of hues
    return _OPPONENTS[round(hue / 60) % 3]


def as_picture(weights: Filter) -> RgbImage:
    """Draws a filter, (3, h, w) or (1, h, w), as (h, w, 3) uint8: grey is no weight, the largest is black or white."""
    scaled = np.broadcast_to(weights, (3, *weights.shape[1:])) / max(float(np.abs(weights).max()), 1e-12)
    return RgbImage(((scaled + 1) * 127.5).round().astype(np.uint8).transpose(1, 2, 0))

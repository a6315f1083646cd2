"""What the decoding of a message or a file gives: a picture, and what was met on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

import numpy as np
import numpy.typing as npt

RgbImage = NewType("RgbImage", npt.NDArray[np.uint8])
"""(height, width, 3) uint8, C-contiguous, R first; may be a read-only view of the message it came in."""


@dataclass(frozen=True)
class ImageOddity:
    """What is odd about a picture that can be used all the same.

    Attributes:
        kind: Stable key by which it is counted.
        text: The same in words, with what to do about it.
        harmless: Whether the pixels are right for certain, or right ones look the same, so that it is counted, but no
            cause for alarm.
    """

    kind: str
    text: str
    harmless: bool = False


@dataclass(frozen=True)
class Seen:
    """What was met while a picture was decoded.

    Attributes:
        oddities: What is odd about it.
        brightest: The largest of some of its numbers of 16 bits; None where it has none, or it is known how many of
            their bits are used.
        turned: Whether the pixels were turned or mirrored as EXIF says, so that no calibration of the camera fits.
    """

    oddities: tuple[ImageOddity, ...] = ()
    brightest: int | None = None
    turned: bool = False


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture, and what was met while it was decoded."""

    image: RgbImage
    seen: Seen = Seen()

"""The pictures of a table as the page shows them: decoded as training decodes them, and never sent as they are."""

from __future__ import annotations

from pathlib import Path
from threading import Semaphore
from typing import NamedTuple

import cv2
import numpy as np

from cnn_perception.errors import FrameError
from cnn_perception.image.decoded import RgbImage
from cnn_perception.image.file_formats import HEAD_BYTES, is_picture
from cnn_perception.image.jpeg_encoding import encode_jpeg, encode_png
from cnn_perception.image.messages import decode_file_bytes

LONGEST_SIDES = {"small": 240, "screen": 1600, "full": 6000}
"""Pixels of the longer side of a picture, at most, by the name of its size."""
_JPEG_QUALITY = 88
_EXACT_SIDE = 256
"""Up to this side a picture is sent as it is: it is enlarged, and shows what JPEG does to it."""
_AT_ONCE = Semaphore(2)
"""How many pictures are decoded at the same time; each may need a gigabyte."""


class ShownPicture(NamedTuple):
    """A picture for a browser: its file's content and media type."""

    content: bytes
    media_type: str


def shown(path: Path, size: str) -> ShownPicture:
    """Returns a picture for the page.

    Args:
        path: Of a file that a table names; whatever it holds, only pixels leave this function.
        size: Of `LONGEST_SIDES`.

    Raises:
        FrameError: If it is no picture that can be read; says why.
    """
    content = _content(path)
    with _AT_ONCE:
        image = _fitting(decode_file_bytes(content), LONGEST_SIDES[size])
        if max(image.shape[:2]) <= _EXACT_SIDE:
            return ShownPicture(encode_png(image), "image/png")
        return ShownPicture(encode_jpeg(image, _JPEG_QUALITY), "image/jpeg")


def _content(path: Path) -> bytes:
    """Returns what is in a file, of which not more is read than its beginning where it is no picture."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if not is_picture(head):
                raise FrameError("format", "the file is no picture" if head else "the file is empty")
            return head + file.read()
    except OSError as error:
        raise FrameError("unreadable", f"the file cannot be read ({error.strerror})") from None


def _fitting(image: RgbImage, longest: int) -> RgbImage:
    """Returns a picture (H, W, 3) that is no larger than so many pixels a side."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return RgbImage(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))

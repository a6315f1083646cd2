"""Pictures as data URLs, so that a page needs no other file."""

from __future__ import annotations

import base64

from cnn_perception.image.jpeg_encoding import encode_jpeg
from cnn_perception.image.messages import RgbImage

_JPEG_QUALITY = 82


def of_image(image: RgbImage) -> str:
    """Returns an (H, W, 3) uint8 image as JPEG."""
    return _data_url("image/jpeg", encode_jpeg(image, _JPEG_QUALITY))


def of_png(data: bytes) -> str:
    """Returns what a PNG file holds."""
    return _data_url("image/png", data)


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"

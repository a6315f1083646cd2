"""Encodes pictures as files: JPEG for viewers and pages, PNG for what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import cv2

from cnn_perception.errors import FrameError
from cnn_perception.image.decoded import RgbImage

_LARGEST_JPEG_SIDE, _LARGEST_PNG_SIDE = 65_500, 1_000_000
"""What libjpeg (JPEG_MAX_DIMENSION) and libpng (PNG_USER_WIDTH_MAX) write; OpenCV answers more in several ways."""
VIEWER_QUALITY = 90
"""Of pictures that are looked at while they are sent or played."""
JPEG_FORMAT = "rgb8; jpeg compressed bgr8"
"""How image_transport calls a JPEG of an rgb8 image in a sensor_msgs/CompressedImage."""
_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


def encode_jpeg(image: RgbImage, quality: int) -> bytes:
    """Returns an (H, W, 3) uint8 picture as the bytes of a JPEG file.

    Args:
        image: The pixels.
        quality: 0 to 100, the higher the larger and the closer to the picture.

    Raises:
        FrameError: If JPEG has no such size.
    """
    return _encoded(image, ".jpg", _LARGEST_JPEG_SIDE, (cv2.IMWRITE_JPEG_QUALITY, quality))


def encode_png(image: RgbImage) -> bytes:
    """Returns an (H, W, 3) uint8 picture as the bytes of a PNG file, soon rather than small.

    Raises:
        FrameError: If it is larger than PNG files are.
    """
    return _encoded(image, ".png", _LARGEST_PNG_SIDE, _FAST_PNG)


def _encoded(image: RgbImage, suffix: str, largest_side: int, settings: Sequence[int]) -> bytes:
    height, width = image.shape[:2]
    if max(height, width) > largest_side:
        raise FrameError("size", f"{width}x{height} pixels are more than a {suffix} file holds, {largest_side} a side")
    _, encoded = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    return encoded.tobytes()

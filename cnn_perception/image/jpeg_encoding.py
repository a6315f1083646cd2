"""Encodes pictures as JPEG: what the nodes publish for viewers and what pages show."""

from __future__ import annotations

import cv2

from cnn_perception.image.decoded import RgbImage


def encode_jpeg(image: RgbImage, quality: int) -> bytes:
    """Returns an (H, W, 3) uint8 picture as the bytes of a JPEG file.

    Args:
        image: The pixels.
        quality: 0 to 100, the higher the larger and the closer to the picture.
    """
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()

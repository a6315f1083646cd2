"""The encodings of sensor_msgs/Image: what their bytes mean, and their one conversion to RGB.

Every value of sensor_msgs/image_encodings.hpp is either in `_LAYOUTS` and converted, or in `_REFUSED` with what
to publish instead. Decisions that are not forced by the encoding's name:

- Alpha is dropped. Drivers and simulators leave it 0 or undefined, so compositing would blank good frames.
- 16 bits become 8 by round(v / 257), which maps 0..65535 onto 0..255; `is_bigendian` is honoured.
- 32FC1 and 64FC1 are intensities in [0, 1]. A frame with NaN, infinity or any other value is refused: it is a
  depth image, or broken.
- YUV is BT.601 in limited range (16..235), as cv_bridge and OpenCV convert it.
- Rows may be padded (`step`); bytes after the last row are ignored; a buffer that is too short is refused.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.errors import FrameError

MAX_PIXELS = 2**26
"""Largest image accepted, in pixels (8192 x 8192, 192 MiB as RGB). Beyond any camera, and below the size at which
Pillow suspects a decompression bomb (Image.MAX_IMAGE_PIXELS)."""

Pixels = npt.NDArray[Any]


class RawImage(Protocol):
    """The fields of a sensor_msgs/Image that say what its pixels are."""

    @property
    def data(self) -> bytes | memoryview: ...
    @property
    def encoding(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def is_bigendian(self) -> bool: ...


def decode_raw(image: RawImage) -> npt.NDArray[np.uint8]:
    """Converts uncompressed pixels to RGB.

    Args:
        image: The fields of a sensor_msgs/Image. `step` is the distance of two rows in bytes (of the luma plane for
            nv12, nv21 and nv24, which follow it with the chroma at the same distance, twice that for nv24).

    Returns:
        (height, width, 3) uint8, C-contiguous, R first. A read-only view of `data` where that is possible (rgb8
        without padding), a new array otherwise.

    Raises:
        FrameError: By `reason`: `encoding` (not convertible, or unknown), `size` (zero, over `MAX_PIXELS`, odd
            where chroma is subsampled, too small for Bayer), `step` (below a row), `truncated`, `not_finite`, `range`.
    """
    layout = _LAYOUTS.get(image.encoding)
    if layout is None:
        if image.encoding in _REFUSED:
            raise FrameError("encoding", f"encoding {image.encoding!r} is refused: {_REFUSED[image.encoding]}")
        return _decode_with_cv_bridge(image)
    height, width, step = image.height, image.width, image.step
    rows = _check_geometry(image, layout)
    lines = np.frombuffer(image.data, np.uint8, count=rows * step).reshape(rows, step)
    if layout.planar is not None:
        return layout.planar(lines, width)
    pixels = lines[:, : width * layout.pixel_bytes].view(layout.dtype[image.is_bigendian])
    if layout.channels > 1:
        pixels = pixels.reshape(height, width, layout.channels)
    if layout.pixel_kind == "f":
        pixels = _intensity_to_uint8(pixels)
    elif layout.pixel_kind == "u2":
        pixels = np.require(pixels, np.uint16, "CA")
    rgb = pixels if layout.cv_code is None else cv2.cvtColor(pixels, layout.cv_code)
    return np.ascontiguousarray(uint16_to_uint8(rgb) if rgb.dtype == np.uint16 else rgb)


def check_size(height: int, width: int) -> None:
    """Refuses an image by its header, before anything of its size is allocated.

    Args:
        height: Rows.
        width: Columns.

    Raises:
        FrameError: `size`, if a side is below 1 or the area above `MAX_PIXELS`.
    """
    if height < 1 or width < 1:
        raise FrameError("size", f"the image is {width}x{height} pixels; both sides must be at least 1")
    if height * width > MAX_PIXELS:
        raise FrameError("size", f"the image is {width}x{height} pixels; at most {MAX_PIXELS} in all are accepted")


def uint16_to_uint8(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Scales 0..65535 to 0..255, rounded: 65535 / 255 = 257, so v becomes round(v / 257)."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _intensity_to_uint8(pixels: Pixels) -> npt.NDArray[np.uint8]:
    # NaN and infinities survive min and max, so two passes decide both questions.
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise FrameError("not_finite", "the image has NaN or infinite pixels; publish finite intensities in [0, 1]")
    if low < 0.0 or high > 1.0:
        raise FrameError(
            "range", f"pixels are from {low:.4g} to {high:.4g}; float images must be intensities in [0, 1]"
        )
    return np.rint(pixels * pixels.dtype.type(255)).astype(np.uint8)


@dataclass(frozen=True)
class _Layout:
    """How the bytes of an encoding lie and become RGB.

    Attributes:
        pixel_kind: numpy kind and size of one channel: `u1`, `u2`, or `f` with `pixel_bytes` 4 or 8.
        channels: Values a pixel that are interleaved in a row (2 for packed YUV 4:2:2); 1 for planes.
        cv_code: OpenCV's conversion to RGB; None where the channels are RGB already.
        planar: Converts (rows, step) bytes of several planes, given the width.
        row_ratio: Buffer rows per image row, as numerator and denominator.
        divisible: Width and height must be multiples of these.
        min_side: Smallest side that can be converted.
    """

    pixel_kind: str
    channels: int
    cv_code: int | None = None
    planar: Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.uint8]] | None = None
    row_ratio: tuple[int, int] = (1, 1)
    divisible: tuple[int, int] = (1, 1)
    min_side: int = 1
    channel_bytes: int = 1

    @property
    def pixel_bytes(self) -> int:
        return self.channels * self.channel_bytes

"""Converts the uncompressed pixels of a sensor_msgs/Image, in any of its encodings, to RGB.

Every value of sensor_msgs/image_encodings.hpp is either in `_LAYOUTS`, and converted, or in `_REFUSED`, with what to
publish instead. Decisions that the name of an encoding does not make:

- Alpha is dropped. Drivers and simulators leave it 0 or undefined, so compositing would blank good frames.
- 16 bits become 8 by round(v / 257), which maps 0..65535 onto 0..255; `is_bigendian` is honoured.
- 32FC1 and 64FC1 are intensities in [0, 1]. A frame with NaN, infinity or a value outside is refused: it is a depth
  image, or broken.
- YUV is BT.601 in limited range (16..235), as OpenCV and cv_bridge convert it.
- Rows may be padded (`step`); bytes after the last row are ignored; a buffer that is too short is refused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NewType

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.errors import FrameError, one_line

MAX_PIXELS = 2**26
"""Largest image accepted, in pixels: 8192 x 8192, 192 MiB as RGB. Beyond any robot's camera, and below the size at
which Pillow warns of a decompression bomb (PIL.Image.MAX_IMAGE_PIXELS)."""

RgbImage = NewType("RgbImage", npt.NDArray[np.uint8])
"""(height, width, 3) uint8, C-contiguous, R first; may be a read-only view of the message it came in."""

_Pixels = npt.NDArray[Any]
_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class EncodedImage:
    """The pixels of a sensor_msgs/Image, without ROS.

    Attributes:
        data: The rows, one after the other; shared with the message.
        encoding: A value of sensor_msgs/image_encodings.hpp.
        height: Rows.
        width: Columns.
        step: Bytes from one row to the next; for nv12, nv21 and nv24 of the luma plane, which the chroma follows
            with the same step (nv24: twice that).
        is_bigendian: Byte order of channels wider than a byte.
    """

    data: bytes | memoryview
    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: bool

    @classmethod
    def from_message(cls, message: Any) -> EncodedImage:  # noqa: ANN401 - rclpy's and rosbags' messages share no base
        """Takes the fields of a sensor_msgs/Image.

        Args:
            message: Any object with its fields; `data` is bytes, array.array or a numpy array, and is not copied.

        Returns:
            The image, unchecked: decoding checks it.
        """
        return cls(
            data=memoryview(message.data),
            encoding=message.encoding,
            height=message.height,
            width=message.width,
            step=message.step,
            is_bigendian=bool(message.is_bigendian),
        )


def decode_raw(image: EncodedImage) -> RgbImage:
    """Converts uncompressed pixels to RGB.

    Args:
        image: What a message brought.

    Returns:
        The pixels: for rgb8 without padding a view of `image.data`, otherwise a new array.

    Raises:
        FrameError: By `reason`: `encoding` (unknown, or not convertible), `size` (zero, above `MAX_PIXELS`, odd where
            chroma is subsampled, too small for Bayer), `step` (less than a row), `truncated`, `not_finite`, `range`.
    """
    layout = _LAYOUTS.get(image.encoding)
    if layout is None:
        return _decode_unlisted(image)
    _check_geometry(image, layout)
    height, width, step = image.height, image.width, image.step
    rows = layout.rows(height)
    lines = np.frombuffer(image.data, np.uint8, count=rows * step).reshape(rows, step)
    if layout.from_planes is not None:
        return RgbImage(layout.from_planes(lines, width))
    dtype = np.dtype((">" if image.is_bigendian else "<") + layout.channel)
    pixels: _Pixels = lines[:, : width * layout.pixel_bytes].view(dtype)
    if layout.channels > 1:
        pixels = pixels.reshape(height, width, layout.channels)
    return RgbImage(_to_rgb(pixels, layout.cv_code))


def check_size(height: int, width: int) -> None:
    """Refuses an image by its header, before anything of its size is allocated.

    Args:
        height: Rows.
        width: Columns.

    Raises:
        FrameError: `size`, if a side is below 1 or the area above `MAX_PIXELS`.
    """
    if height < 1 or width < 1:
        raise FrameError("size", f"the image is {width}x{height} pixels; publish at least 1x1")
    if height * width > MAX_PIXELS:
        raise FrameError("size", f"the image is {width}x{height} pixels; publish at most {MAX_PIXELS} in all")


def to_uint8(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Scales 0..65535 to 0..255 by round(v / 257), since 65535 / 255 = 257; the shape stays."""
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=1 / 257), np.uint8).reshape(pixels.shape)


def _to_rgb(pixels: _Pixels, cv_code: int | None) -> _Bytes:
    if pixels.dtype.kind == "f":
        pixels = _intensity_to_uint8(pixels)
    elif pixels.itemsize == 2:
        pixels = np.require(pixels, np.uint16, ["C", "A"])  # native byte order, for OpenCV
    rgb: _Pixels = pixels if cv_code is None else cv2.cvtColor(pixels, cv_code)
    return np.ascontiguousarray(to_uint8(rgb) if rgb.itemsize == 2 else rgb)


def _intensity_to_uint8(pixels: _Pixels) -> npt.NDArray[np.uint8]:
    low, high = float(pixels.min()), float(pixels.max())  # both are NaN if any pixel is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise FrameError("not_finite", "the float image has NaN or infinite pixels; publish intensities in [0, 1]")
    if low < 0 or high > 1:
        raise FrameError(
            "range", f"the float image has values from {low:.4g} to {high:.4g}; publish intensities in [0, 1]"
        )
    scaled: _Bytes = np.rint(pixels * 255).astype(np.uint8)
    return scaled


def _rgb_from_nv12(lines: _Bytes, width: int) -> _Bytes:
    return np.asarray(cv2.cvtColor(lines[:, :width], cv2.COLOR_YUV2RGB_NV12), np.uint8)


def _rgb_from_nv21(lines: _Bytes, width: int) -> _Bytes:
    return np.asarray(cv2.cvtColor(lines[:, :width], cv2.COLOR_YUV2RGB_NV21), np.uint8)


def _rgb_from_nv24(lines: _Bytes, width: int) -> _Bytes:
    # OpenCV has no NV24. Every pixel doubled to the pair U Y V Y of a UYVY image has the same colour in both halves.
    height = lines.shape[0] // 3
    step = lines.shape[1]
    uyvy = np.empty((height, width, 4), np.uint8)
    uyvy[..., 0::2] = lines[height:].reshape(height, 2 * step)[:, : 2 * width].reshape(height, width, 2)
    uyvy[..., 1::2] = lines[:height, :width, np.newaxis]
    doubled = cv2.cvtColor(uyvy.reshape(height, 2 * width, 2), cv2.COLOR_YUV2RGB_UYVY)
    return np.ascontiguousarray(doubled[:, ::2], np.uint8)


@dataclass(frozen=True)
class _Layout:
    """How the bytes of an encoding are laid out, and how they become RGB.

    Attributes:
        channel: numpy type of one channel, without byte order.
        channels: Channels interleaved in a row; packed YUV 4:2:2 has two (luma, and either chroma).
        cv_code: OpenCV's conversion to RGB; None where it is RGB.
        from_planes: In place of `cv_code`, the conversion of (rows, step) bytes of several planes and a width.
        half_rows: Rows of `step` bytes in the buffer for two rows of the image.
        divisible: The sides (height, width) must be multiples of it.
        smallest: The sides must be at least this.
    """

    channel: str
    channels: int
    cv_code: int | None = None
    from_planes: Callable[[_Bytes, int], _Bytes] | None = None
    half_rows: int = 2
    divisible: tuple[int, int] = (1, 1)
    smallest: int = 1

    @property
    def pixel_bytes(self) -> int:
        return self.channels * int(self.channel[1])

    def rows(self, height: int) -> int:
        """Rows of `step` bytes in the buffer of an image of that height."""
        return height * self.half_rows // 2


def _check_geometry(image: EncodedImage, layout: _Layout) -> None:
    height = image.height
    width = image.width
    step = image.step
    what = f"the {image.encoding} image of {width}x{height} pixels"
    check_size(height, width)
    if height % layout.divisible[0] or width % layout.divisible[1]:
        raise FrameError("size", f"{what} has an odd side, but its chroma is subsampled; publish even sides or rgb8")
    if min(height, width) < layout.smallest:
        raise FrameError("size", f"{what} is too small to interpolate its mosaic; publish rgb8")
    if step < width * layout.pixel_bytes:
        raise FrameError(
            "step", f"{what} has step {step}, a row has {width * layout.pixel_bytes} bytes; mend the driver"
        )
    _check_length(image, layout.rows(height))


def _check_length(image: EncodedImage, rows: int) -> None:
    found = memoryview(image.data).nbytes
    needed = rows * image.step
    if found < needed:
        raise FrameError(
            "truncated", f"the image has {found} bytes; {rows} rows of {image.step} need {needed}; mend the driver"
        )


def _decode_unlisted(image: EncodedImage) -> RgbImage:
    """Decodes an encoding newer than `_LAYOUTS` by cv_bridge where that is installed, or refuses it by name."""
    name = repr(image.encoding if len(image.encoding) <= 40 else image.encoding[:40] + "...")
    if image.encoding in _REFUSED:
        raise FrameError("encoding", f"encoding {name} is refused: {_REFUSED[image.encoding]}")
    bridge = _cv_bridge()
    if bridge is None or not image.encoding:
        raise FrameError("encoding", f"encoding {name} is unknown; publish rgb8, bgr8 or mono8")
    check_size(image.height, image.width)
    _check_length(image, image.height)
    try:
        rgb = bridge.CvBridge().imgmsg_to_cv2(image, "rgb8")  # it needs the fields of a message, no more
    except (bridge.CvBridgeError, KeyError, TypeError, ValueError, cv2.error) as error:
        raise FrameError(
            "encoding",
            f"encoding {name} is unknown to cv_bridge too ({one_line(error, 80)}); publish rgb8",
        ) from None
    if not isinstance(rgb, np.ndarray) or rgb.shape != (image.height, image.width, 3) or rgb.dtype != np.uint8:
        raise FrameError("encoding", f"cv_bridge makes no RGB image of encoding {name}; publish rgb8, bgr8 or mono8")
    return RgbImage(np.ascontiguousarray(rgb))


@functools.cache
def _cv_bridge() -> Any | None:  # noqa: ANN401 - a module without types
    try:
        import cv_bridge
    except (ImportError, AttributeError):  # AttributeError: compiled for numpy 1, loaded by numpy 2
        return None
    return cv_bridge


_UYVY = _Layout("u1", 2, cv2.COLOR_YUV2RGB_UYVY, divisible=(1, 2))
_YUYV = _Layout("u1", 2, cv2.COLOR_YUV2RGB_YUY2, divisible=(1, 2))


def _bayer(channel: str, cv_code: int) -> _Layout:
    return _Layout(channel, 1, cv_code, smallest=3)  # OpenCV answers black below 3 x 3


_LAYOUTS = {
    "rgb8": _Layout("u1", 3),
    "rgba8": _Layout("u1", 4, cv2.COLOR_RGBA2RGB),
    "rgb16": _Layout("u2", 3),
    "rgba16": _Layout("u2", 4, cv2.COLOR_RGBA2RGB),
    "bgr8": _Layout("u1", 3, cv2.COLOR_BGR2RGB),
    "bgra8": _Layout("u1", 4, cv2.COLOR_BGRA2RGB),
    "bgr16": _Layout("u2", 3, cv2.COLOR_BGR2RGB),
    "bgra16": _Layout("u2", 4, cv2.COLOR_BGRA2RGB),
    "mono8": _Layout("u1", 1, cv2.COLOR_GRAY2RGB),
    "mono16": _Layout("u2", 1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Layout("u1", 1, cv2.COLOR_GRAY2RGB),
    "16UC1": _Layout("u2", 1, cv2.COLOR_GRAY2RGB),
    "32FC1": _Layout("f4", 1, cv2.COLOR_GRAY2RGB),
    "64FC1": _Layout("f8", 1, cv2.COLOR_GRAY2RGB),
    # ROS names a mosaic by its first four pixels, OpenCV by the four that start at (1, 1).
    "bayer_rggb8": _bayer("u1", cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _bayer("u1", cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _bayer("u1", cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _bayer("u1", cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": _bayer("u2", cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": _bayer("u2", cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": _bayer("u2", cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": _bayer("u2", cv2.COLOR_BayerGB2RGB),
    "uyvy": _UYVY,
    "yuv422": _UYVY,
    "yuyv": _YUYV,
    "yuv422_yuy2": _YUYV,
    "nv12": _Layout("u1", 1, from_planes=_rgb_from_nv12, half_rows=3, divisible=(2, 2)),
    "nv21": _Layout("u1", 1, from_planes=_rgb_from_nv21, half_rows=3, divisible=(2, 2)),
    "nv24": _Layout("u1", 1, from_planes=_rgb_from_nv24, half_rows=6),
}

_NO_COLOUR_ORDER = "it does not say the order of its colours; publish rgb8, bgr8 or their kin"
_NO_COLOUR = "two channels are no picture; publish mono8 or rgb8"
_SIGNED = "signed numbers have no black and white; publish mono8 or mono16"


def _refused_encodings() -> dict[str, str]:
    """Returns why each encoding that names a depth and a number of channels, such as 8UC3, is refused."""
    refused = {}
    for depth in ("8U", "16U", "32F", "64F"):
        refused[f"{depth}C2"] = _NO_COLOUR
        refused[f"{depth}C3"] = _NO_COLOUR_ORDER
        refused[f"{depth}C4"] = _NO_COLOUR_ORDER
    for depth in ("8S", "16S", "32S"):
        for channels in (1, 2, 3, 4):
            refused[f"{depth}C{channels}"] = _SIGNED
    return refused


_REFUSED = _refused_encodings()

"""Converts the uncompressed pixels of a sensor_msgs/Image, in any of its encodings, to RGB.

Every value of sensor_msgs/image_encodings.hpp is either in `_LAYOUTS` or `PLANAR_LAYOUTS`, and converted, or in
`_REFUSED`, with what to publish instead. Decisions that the name of an encoding does not make:

- Alpha is dropped. Drivers and simulators leave it 0 or undefined, so compositing would blank good frames.
- 16 bits become 8 by round(v / 257), which maps 0..65535 onto 0..255; `is_bigendian` is honoured. Where only some of
  the bits are used, in `mono12` or by `significant_bits`, the largest number of so many bits is white.
- 32FC1 and 64FC1 are intensities in [0, 1]. A frame with NaN, infinity or a value outside is refused: it is a depth
  image, or broken.
- YUV is BT.601 in limited range (16..235), as OpenCV and cv_bridge convert it.
- Rows may be padded (`step`); bytes after the last row are ignored, but not where planes follow one another, and told
  where they may be padding that `step` leaves out; a buffer that is too short is refused. Rows whose `step` and bytes,
  or bytes alone, are those of another encoding are told, see `other_encoding`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.errors import ConfigError, FrameError, one_line
from cnn_perception.image.decoded import Decoded, ImageOddity, RgbImage, Seen
from cnn_perception.image.other_encoding import (
    OF_PIXEL_BYTES,
    are_bytes_swapped,
    are_distances,
    are_sides_exchanged,
    is_luma_chroma,
    is_mosaic,
    other_pixel_bytes,
)
from cnn_perception.image.planar import PLANAR_LAYOUTS

MAX_PIXELS = 2**26
"""Largest image accepted, in pixels: 8192 x 8192, 192 MiB as RGB. Beyond any robot's camera, and below the size at
which Pillow warns of a decompression bomb (PIL.Image.MAX_IMAGE_PIXELS)."""

_SAMPLES = 64
"""Of a side, at least so many rows or columns are looked at."""
_Pixels = npt.NDArray[Any]
_Bytes = npt.NDArray[np.uint8]


FEWEST_BITS, MOST_BITS = 8, 16
"""Of a channel of two bytes."""


@dataclass(frozen=True)
class Overrides:
    """What is known better of a camera's images than its messages say.

    Attributes:
        encoding: What the pixels are, in place of the message's; empty for what the message says. Of an image file, of
            which its bytes tell the rest: the order of its colours, or the mosaic that a grey one is.
        significant_bits: How many bits of numbers of 16 bits are used, from the lowest; 0 for what the encoding says.

    Raises:
        ConfigError: If there is no such encoding, or the bits are out of range.
    """

    encoding: str = ""
    significant_bits: int = 0

    def __post_init__(self) -> None:
        if self.encoding and self.encoding not in ENCODINGS:
            raise ConfigError(f"encoding is {self.encoding[:40]!r}; choose '' or one of {', '.join(ENCODINGS)}")
        if self.significant_bits and not FEWEST_BITS <= self.significant_bits <= MOST_BITS:
            raise ConfigError(
                f"significant_bits is {self.significant_bits}; choose 0 for all, or {FEWEST_BITS} to {MOST_BITS}"
            )


AS_SENT = Overrides()
"""What the messages say is believed."""


@dataclass(frozen=True)
class EncodedImage:
    """The pixels of a sensor_msgs/Image, without ROS.

    Attributes:
        data: The rows, one after the other; shared with the message.
        encoding: A value of sensor_msgs/image_encodings.hpp.
        height: Rows.
        width: Columns.
        step: Bytes from one row to the next; see `planar` for images of several planes.
        is_bigendian: Byte order of channels wider than a byte.
        significant_bits: How many bits of channels of two bytes are used; 0 for what the encoding says.
        is_known_better: Whether the encoding is not the message's, but what is known better.
    """

    data: bytes | memoryview
    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: bool
    significant_bits: int = 0
    is_known_better: bool = False

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

    def overridden(self, overrides: Overrides) -> EncodedImage:
        """Returns the image with what is known better of it."""
        return dataclasses.replace(
            self,
            encoding=overrides.encoding or self.encoding,
            significant_bits=overrides.significant_bits,
            is_known_better=bool(overrides.encoding),
        )


def decode_raw(image: EncodedImage) -> Decoded:
    """Converts uncompressed pixels to RGB.

    Args:
        image: What a message brought.

    Returns:
        The pixels: for rgb8 without padding a view of `image.data`, otherwise a new array.

    Raises:
        FrameError: By `reason`: `encoding` (unknown, or not convertible), `size` (zero, above `MAX_PIXELS`, odd where
            chroma is subsampled, too small for Bayer), `step` (less than a row), `truncated`, `padding` (planes that
            may lie anywhere), `not_finite`, `range`.
    """
    layout = _LAYOUTS.get(image.encoding)
    oddities: tuple[ImageOddity, ...] = ()
    if image.significant_bits and (layout is None or layout.channel != "u2"):
        oddities = (unused_bits(image.significant_bits, f"an image of encoding {image.encoding[:40]}"),)
    if image.encoding in PLANAR_LAYOUTS:
        return Decoded(_decode_planar(image), Seen((*oddities, *_of_other_encoding(image, (1,)))))
    found = Decoded(_decode_unlisted(image)) if layout is None else _decode_rows(image, layout)
    other = () if layout is None else _of_other_encoding(image, layout.periods)
    oddities = (*found.seen.oddities, *oddities, *_padded_rows(image), *other)
    return dataclasses.replace(found, seen=dataclasses.replace(found.seen, oddities=oddities))


def _decode_planar(image: EncodedImage) -> RgbImage:
    planar = PLANAR_LAYOUTS[image.encoding]
    _check_sides(image, planar.divisible)
    lines = planar.lines(memoryview(image.data), image.height, image.width, image.step)
    return RgbImage(planar.to_rgb(lines, image.width))


def _decode_rows(image: EncodedImage, layout: _Layout) -> Decoded:
    height, width, step = image.height, image.width, image.step
    _check_geometry(image, layout)
    lines = np.frombuffer(image.data, np.uint8, count=height * step).reshape(height, step)
    dtype = np.dtype((">" if image.is_bigendian else "<") + layout.channel)
    pixels: _Pixels = lines[:, : width * layout.pixel_bytes].view(dtype)
    if layout.channels > 1:
        pixels = pixels.reshape(height, width, layout.channels)
    other = _bytes_of_other_encoding(image, layout, pixels)
    if layout.channel != "u2":
        return Decoded(RgbImage(_to_rgb(pixels, layout.cv_code)), Seen(other))
    bits = image.significant_bits or layout.bits
    seen = seen_in(pixels, bits)
    seen = dataclasses.replace(seen, oddities=(*seen.oddities, *other))
    return Decoded(RgbImage(_to_rgb(pixels, layout.cv_code, bits)), seen)


def seen_in(numbers: _Pixels, bits: int) -> Seen:
    """Returns what some of a picture's numbers of 16 bits tell of the bits that are used.

    Args:
        numbers: (H, W) or (H, W, C).
        bits: How many were taken to be used; 0 where nothing says so.
    """
    # Odd distances, so that every colour of a mosaic is among them.
    down, across = (max(1, side // _SAMPLES) | 1 for side in numbers.shape[:2])
    sampled = numbers[::down, ::across]
    brightest = int((sampled[..., :3] if sampled.ndim == 3 else sampled).max())  # without alpha
    if not bits:
        return Seen(brightest=brightest)
    if brightest < 1 << bits:
        return Seen()
    text = f"a number of {brightest} is more than {bits} bits hold and shown white; mend significant_bits or the driver"
    return Seen((ImageOddity("significant_bits", text),))


def unused_bits(bits: int, what: str) -> ImageOddity:
    """Returns that something has no numbers of 16 bits, of which somebody has said how many bits are used."""
    text = f"{bits} significant bits are said of {what}, which has no numbers of 16 bits; leave significant_bits at 0"
    return ImageOddity("significant_bits_unused", text)


def unnamed_content(grey: _Pixels, what: str) -> tuple[ImageOddity, ...]:
    """Returns that something that is called grey looks like something else, see `other_encoding`.

    Args:
        grey: (H, W), of 8 or 16 bits.
        what: What the picture is called.
    """
    if is_mosaic(grey):
        text = (
            f"the pixels of {what} alternate as those of a mosaic do: its colours are lost then; mend the driver, or "
            "say which one it is by the parameter encoding, such as bayer_rggb8, or mono8 if it is none (evaluate_bag: "
            "--encoding)"
        )
        return (ImageOddity("bytes_of_other_encoding", text),)
    if grey.dtype.itemsize == 2 and are_distances(grey):
        text = (
            f"the numbers of {what} are 0 in holes and nowhere near 0, as distances are, which are no picture: "
            "subscribe to the colour image, or say mono16 by the parameter encoding if it is one (evaluate_bag: "
            "--encoding)"
        )
        return (ImageOddity("distances", text),)
    return ()


def bits_of(encoding: str) -> int:
    """Returns how many of 16 bits are used, by the name of an encoding; 0 where it does not say."""
    layout = _LAYOUTS.get(encoding)
    return 0 if layout is None else layout.bits


def has_two_bytes(encoding: str) -> bool:
    """Returns whether the numbers of an encoding, by its name, have 16 bits, of which not all need be used."""
    layout = _LAYOUTS.get(encoding)
    return layout is not None and layout.channel == "u2"


def _padded_rows(image: EncodedImage) -> tuple[ImageOddity, ...]:
    """Returns that the bytes after the rows may be padding in them, by which each row would begin later than `step`."""
    more = memoryview(image.data).nbytes - image.height * image.step
    each, rest = divmod(more, image.height)
    if not each or rest or image.height == 1:
        return ()
    text = (
        f"{more} bytes are left behind the rows of {_named(image)}, {each} a row: if rows are padded, the picture is "
        f"sheared and step must be {image.step + each}, not {image.step}; mend the driver"
    )
    return (ImageOddity("rows_padded", text),)


def _of_other_encoding(image: EncodedImage, periods: Sequence[int]) -> tuple[ImageOddity, ...]:
    """Returns that the rows are those of another encoding than the one whose patterns have these bytes."""
    found = other_pixel_bytes(image.data, (image.height, image.width), image.step, periods)
    if not found:
        return ()
    text = (
        f"the rows of {_named(image)} have step {image.step}, that of {found} bytes a pixel ({OF_PIXEL_BYTES[found]}), "
        "and their bytes look so, too: the picture is garbled then; mend the driver, or say what it is by the "
        "parameter encoding (evaluate_bag: --encoding)"
    )
    return (ImageOddity("step_of_other_encoding", text),)


def _bytes_of_other_encoding(image: EncodedImage, layout: _Layout, pixels: _Pixels) -> tuple[ImageOddity, ...]:
    """Returns that rows of the right length hold what looks like another encoding than the one that is named."""
    named = _named(image)
    text = ""
    is_dense = image.step == image.width * layout.pixel_bytes
    if is_dense and layout.channel in ("u1", "u2") and are_sides_exchanged(pixels):
        text = (
            f"the rows of {named} look as if they had {image.height} pixels: width and height are exchanged, and the "
            "picture is sheared then; mend the driver"
        )
        return (ImageOddity("sides_exchanged", text),)
    if layout in (_UYVY, _YUYV):
        other = "yuv422_yuy2" if layout is _UYVY else "uyvy"
        luma, chroma = (pixels[..., 1], pixels[..., 0]) if layout is _UYVY else (pixels[..., 0], pixels[..., 1])
        if is_luma_chroma(luma, chroma):
            text = (
                f"the bytes of {named} look like those of {other}: the colours are garbled then; mend the driver, or "
                f"set the parameter encoding to {other} (evaluate_bag: --encoding)"
            )
    elif layout.channel == "u2" and are_bytes_swapped(pixels if pixels.ndim == 2 else pixels[..., 0]):
        text = (
            f"the numbers of {named} look as if their bytes were in the other order than is_bigendian says "
            f"({image.is_bigendian}): the picture is noise then; mend the driver"
        )
    elif _is_grey(layout) and not image.is_known_better:
        return unnamed_content(pixels, named)
    return (ImageOddity("bytes_of_other_encoding", text),) if text else ()


def _is_grey(layout: _Layout) -> bool:
    return layout.cv_code == _GREY and layout.channel in ("u1", "u2")


def check_size(height: int, width: int, most_pixels: int = 0) -> None:
    """Refuses an image by its header, before anything of its size is allocated.

    Args:
        height: Rows.
        width: Columns.
        most_pixels: How many are accepted; 0 for `MAX_PIXELS`.

    Raises:
        FrameError: `size`, if a side is below 1 or the area too large.
    """
    if height < 1 or width < 1:
        raise FrameError("size", f"the image is {width}x{height} pixels; at least 1x1 are needed")
    most = most_pixels or MAX_PIXELS
    if height * width > most:
        raise FrameError("size", f"the image is {width}x{height} pixels; at most {most} in all are accepted")


def to_uint8(pixels: npt.NDArray[np.uint16], bits: int = 0) -> npt.NDArray[np.uint8]:
    """Scales the numbers of so many bits (0 for 16) to 0..255; larger ones become 255; the shape stays.

    Of 16 bits that is round(v / 257), since 65535 / 255 = 257.
    """
    white = (1 << (bits or 16)) - 1
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=255 / white), np.uint8).reshape(pixels.shape)


def _to_rgb(pixels: _Pixels, cv_code: int | None, bits: int = 0) -> _Bytes:
    if pixels.dtype.kind == "f":
        pixels = _intensity_to_uint8(pixels)
    elif pixels.itemsize == 2:
        pixels = np.require(pixels, np.uint16, ["C", "A"])  # native byte order, for OpenCV
    rgb: _Pixels = pixels if cv_code is None else cv2.cvtColor(pixels, cv_code)
    return np.ascontiguousarray(to_uint8(rgb, bits) if rgb.itemsize == 2 else rgb)


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


@dataclass(frozen=True)
class _Layout:
    """How the bytes of an encoding are laid out, and how they become RGB.

    Attributes:
        channel: numpy type of one channel, without byte order.
        channels: Channels interleaved in a row; packed YUV 4:2:2 has two (luma, and either chroma).
        cv_code: OpenCV's conversion to RGB; None where it is RGB.
        bits: How many bits of a channel of two bytes are used; 0 where the name does not say.
        divisible: The sides (height, width) must be multiples of it.
        smallest: The sides must be at least this.
    """

    channel: str
    channels: int
    cv_code: int | None = None
    bits: int = 0
    divisible: tuple[int, int] = (1, 1)
    smallest: int = 1

    @property
    def pixel_bytes(self) -> int:
        return self.channels * int(self.channel[1])

    @property
    def periods(self) -> tuple[int, ...]:
        """After how many bytes the next pixel comes, and the first colour of a mosaic or the same chroma again."""
        is_alternating = self.divisible[1] > 1 or self.smallest > 1
        return (self.pixel_bytes, 2 * self.pixel_bytes) if is_alternating else (self.pixel_bytes,)


def _check_sides(image: EncodedImage, divisible: tuple[int, int], smallest: int = 1) -> None:
    height, width = image.height, image.width
    check_size(height, width)
    if height % divisible[0] or width % divisible[1]:
        raise FrameError(
            "size", f"{_named(image)} has an odd side, but its chroma is subsampled; publish even sides or rgb8"
        )
    if min(height, width) < smallest:
        raise FrameError("size", f"{_named(image)} is too small to interpolate its mosaic; publish rgb8")


def _check_geometry(image: EncodedImage, layout: _Layout) -> None:
    _check_sides(image, layout.divisible, layout.smallest)
    row = image.width * layout.pixel_bytes
    if image.step < row:
        raise FrameError("step", f"{_named(image)} has step {image.step}, a row has {row} bytes; mend the driver")
    _check_length(image, image.height)


def _named(image: EncodedImage) -> str:
    return f"the {image.encoding} image of {image.width}x{image.height} pixels"


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
        raise FrameError(
            "encoding",
            f"encoding {name} is unknown; publish rgb8, bgr8 or mono8, or say which it is by the parameter encoding "
            "(evaluate_bag: --encoding)",
        )
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


_GREY = cv2.COLOR_GRAY2RGB
_MOSAICS = {  # ROS names a mosaic by its first four pixels, OpenCV by the four that start at (1, 1)
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}


def _sensor_layouts(bits: int) -> dict[str, _Layout]:
    """Returns grey and the mosaics of so many bits; image_encodings.hpp has those of 8 and 16, drivers more."""
    channel = "u1" if bits == 8 else "u2"
    used = bits if 8 < bits < 16 else 0
    layouts = {f"mono{bits}": _Layout(channel, 1, _GREY, used)}
    for name, cv_code in _MOSAICS.items():
        layouts[f"bayer_{name}{bits}"] = _Layout(channel, 1, cv_code, used, smallest=3)  # below, OpenCV answers black
    return layouts


_LAYOUTS = {
    "rgb8": _Layout("u1", 3),
    "rgba8": _Layout("u1", 4, cv2.COLOR_RGBA2RGB),
    "rgb16": _Layout("u2", 3),
    "rgba16": _Layout("u2", 4, cv2.COLOR_RGBA2RGB),
    "bgr8": _Layout("u1", 3, cv2.COLOR_BGR2RGB),
    "bgra8": _Layout("u1", 4, cv2.COLOR_BGRA2RGB),
    "bgr16": _Layout("u2", 3, cv2.COLOR_BGR2RGB),
    "bgra16": _Layout("u2", 4, cv2.COLOR_BGRA2RGB),
    "8UC1": _Layout("u1", 1, _GREY),
    "16UC1": _Layout("u2", 1, _GREY),
    "32FC1": _Layout("f4", 1, _GREY),
    "64FC1": _Layout("f8", 1, _GREY),
    **_sensor_layouts(8),
    **_sensor_layouts(10),
    **_sensor_layouts(12),
    **_sensor_layouts(14),
    **_sensor_layouts(16),
    "uyvy": _UYVY,
    "yuv422": _UYVY,
    "yuyv": _YUYV,
    "yuv422_yuy2": _YUYV,
}
ENCODINGS = (*_LAYOUTS, *PLANAR_LAYOUTS)
"""Every encoding that is converted."""

_NO_COLOUR_ORDER = (
    "it does not say the order of its colours; publish rgb8, bgr8 or their kin, or say which by the parameter encoding "
    "(evaluate_bag: --encoding)"
)
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

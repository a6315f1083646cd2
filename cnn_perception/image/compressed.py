"""Decodes image files in memory: what CompressedImage messages, data sets and folders hold.

The content decides, never a name or a `format` field. Decisions:

- JPEGs are decoded by libjpeg-turbo with every warning an error (simplejpeg's strict mode). OpenCV and Pillow ignore
  the warnings and return a picture that is grey or shifted below the damage. JPEG has no checksum, so damage that
  leaves a valid stream has no warning and stays unseen. PNG has checksums, which are verified; WebP, GIF, BMP and
  TIFF have none for their pixels.
- EXIF orientation is always applied, as viewers do.
- Alpha is composited over white: the page on which a viewer shows a cut-out picture.
- 16-bit pictures are scaled as 16-bit camera images are. ICC profiles are ignored.
- Of an animation or a multi-page file the first picture is taken.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from cnn_perception.errors import FrameError
from cnn_perception.image.limits import check_exif, check_pixels, check_structure
from cnn_perception.image.raw import MAX_PIXELS, EncodedImage, RgbImage, decode_raw, to_uint8

_Pixels = npt.NDArray[Any]

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"RIFF", "WEBP"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)

_UPRIGHT: dict[int, Callable[[_Pixels], _Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""What undoes an EXIF orientation. Source: Exif 2.32, tag 0x0112 Orientation; 1 is upright."""


@dataclass(frozen=True)
class EncodedFile:
    """The content of an image file: what a sensor_msgs/CompressedImage carries, without ROS.

    Attributes:
        data: The bytes of a JPEG, PNG, WebP, BMP, TIFF or GIF.
        format: What image_transport says of it: `rgb8; jpeg compressed bgr8`, `16UC1; png compressed `, or `jpeg`.
    """

    data: bytes | memoryview
    format: str

    @classmethod
    def from_message(cls, message: Any) -> EncodedFile:  # noqa: ANN401 - rclpy's and rosbags' messages share no base
        """Takes the fields of a sensor_msgs/CompressedImage.

        Args:
            message: Any object with its fields; `data` is bytes, array.array or a numpy array, and is not copied.

        Returns:
            The file, unchecked: decoding checks it.
        """
        return cls(data=memoryview(message.data), format=message.format)


def decode_file(file: EncodedFile) -> RgbImage:
    """Decodes the picture of a CompressedImage.

    The `format` matters for two things only, since image_transport stores true colours whatever it says there: depth
    is refused, and a Bayer mosaic, which image_transport compresses as if it were a grey picture, is interpolated.

    Args:
        file: What a message brought.

    Returns:
        The pixels.

    Raises:
        FrameError: As `decode_file_bytes`; `format` also for compressedDepth messages.
    """
    if "compressedDepth" in file.format:
        raise FrameError("format", "compressedDepth messages hold distances, no picture; subscribe to the colour image")
    rgb = decode_file_bytes(file.data)
    encoding = file.format.partition(";")[0].strip()
    if not encoding.startswith("bayer_"):
        return rgb
    height, width, _ = rgb.shape
    mosaic = encoding.replace("16", "8")  # the grey picture has been scaled already
    return decode_raw(EncodedImage(rgb[..., 0].tobytes(), mosaic, height, width, width, is_bigendian=False))


def decode_file_bytes(data: bytes | memoryview) -> RgbImage:
    """Decodes an image file, whether it comes from a CompressedImage, a data set or a folder.

    Args:
        data: The bytes of a JPEG, PNG, WebP, BMP, TIFF or GIF.

    Returns:
        The first picture in it, upright, alpha composited over white.

    Raises:
        FrameError: By `reason`: `empty`, `format` (none of those files), `size` (above `raw.MAX_PIXELS` or what
            `limits` allows, by its headers), `corrupt` (truncated or damaged), `depth` (32-bit pixels, whose white is
            undefined).
    """
    content = bytes(data)
    if not content:
        raise FrameError("empty", "the image has 0 bytes; check the camera or the file")
    file_format = _file_format(content)
    if file_format is None:
        raise FrameError(
            "format", f"the image starts with {content[:12]!r}: no JPEG, PNG, WebP, BMP, TIFF or GIF; convert it"
        )
    try:
        check_structure(content, file_format)
        if file_format == "JPEG":
            pixels, orientation = _decode_jpeg(content)
        else:
            pixels, orientation = _decode_with_pillow(content, file_format)
    except Image.DecompressionBombError:
        raise FrameError(
            "size", f"the {file_format}'s header claims a huge image; at most {MAX_PIXELS} pixels are accepted"
        ) from None
    except FrameError:
        raise
    except Exception as error:  # of a decoder: Pillow's plugins raise IndexError, AssertionError, SyntaxError, ...
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise FrameError(
            "corrupt", f"the {file_format} cannot be decoded ({reason:.100}); replace it, or mend the camera's link"
        ) from None
    upright = _UPRIGHT[orientation](pixels) if orientation in _UPRIGHT else pixels
    return RgbImage(np.ascontiguousarray(upright))


def _file_format(content: bytes) -> str | None:
    for magic, file_format in _MAGIC:
        if content.startswith(magic):
            return file_format
    return None


def _decode_jpeg(content: bytes) -> tuple[_Pixels, int]:
    """Returns the pixels of a JPEG, and its EXIF orientation."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(content)
    check_pixels(height, width, len(content))
    pixels = simplejpeg.decode_jpeg(content, "RGB")  # CMYK and YCCK too, as inverted ink: Adobe's convention
    if b"Exif\0\0" not in content:
        return pixels, 1
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
        return pixels, _orientation(image)


def _decode_with_pillow(content: bytes, file_format: str) -> tuple[_Pixels, int]:
    if file_format == "PNG":
        with Image.open(io.BytesIO(content), formats=[file_format]) as image:
            image.verify()  # the checksums, which decoding skips; the image cannot be used afterwards
    with Image.open(io.BytesIO(content), formats=[file_format]) as image:
        check_pixels(image.height, image.width, len(content))
        image.load()  # before the orientation is read: TIFFs are turned here, and their tag dropped
        orientation = _orientation(image)
        picture = _from_deep_png(content) if file_format == "PNG" and content[24] == 16 else image
        return _flatten(picture), orientation


def _orientation(image: Image.Image) -> int:
    check_exif(image.info.get("exif", b""))
    return int(image.getexif().get(0x0112, 1))


def _from_deep_png(content: bytes) -> Image.Image:
    """Decodes a 16-bit PNG by OpenCV: Pillow cuts 16-bit colours to their high byte and saturates 16-bit greys."""
    pixels_16 = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels_16 is None:
        raise ValueError("undecodable 16-bit PNG")
    pixels = to_uint8(np.asarray(pixels_16, np.uint16))
    if pixels.ndim == 2:
        return Image.fromarray(pixels)
    return Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB))


def _flatten(image: Image.Image) -> _Pixels:
    """Returns (H, W, 3) uint8 RGB, transparent pixels over white."""
    if image.mode in ("I", "F"):
        raise FrameError(
            "depth",
            f"the image has 32-bit pixels (mode {image.mode}), whose white is undefined; save it with 8 or 16 bits",
        )
    if image.mode.startswith("I;16"):
        image = Image.fromarray(to_uint8(np.asarray(image)))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))

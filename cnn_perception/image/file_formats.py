"""Tells by its first bytes what kind of image file or video something is, and refuses by name what is not read."""

from __future__ import annotations

import io
import re

from PIL import Image

from cnn_perception.errors import FrameError
from cnn_perception.image.jpeg import is_jpeg
from cnn_perception.image.limits import check_structure

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"RIFF", "WEBP"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_START_CODES = (b"\0\0\0\1", b"\0\0\1")
"""With which packets of H.264 and H.265 begin."""
PARAMETER_SETS = re.compile(
    rb"\x00\x00\x00?\x01"
    rb"(?:[\x27\x47\x67].{3,200}?\x00\x00\x00?\x01[\x28\x48\x68]|\x40\x01.{3,200}?\x00\x00\x00?\x01\x42\x01)",
    re.DOTALL,
)
"""How a stream of H.264 or H.265 begins: with two of its sets of parameters."""
_UNREAD = (
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
)
"""Where the first bytes of formats are that are not read."""
VIDEO = ("h264", "h265", "hevc", "avc", "av1", "vp8", "vp9", "mpeg", "theora", "ffmpeg")
"""By which formats and encodings name streams of video, whose packets are no pictures."""


def file_format(content: bytes) -> str | None:
    """Returns the name of an image file's format by its first bytes; None for other content."""
    for magic, name in _MAGIC:
        if content.startswith(magic):
            return name
    return None


def has_structure(content: bytes, kind: str, size: tuple[int, int]) -> bool:
    """Returns whether content of a kind's first bytes is such a file, of a picture of this (width, height)."""
    if kind == "JPEG":
        return is_jpeg(content)
    try:
        check_structure(content, kind)
        with Image.open(io.BytesIO(content), formats=[kind]) as image:
            return kind == "PNG" or image.size == size  # a PNG's header has a checksum
    except Exception:  # Pillow's plugins raise anything
        return False


def refuse_unread(content: bytes) -> None:
    """Refuses the files of formats that are not read.

    Raises:
        FrameError: `format`, by its name.
    """
    for place, magic, name in _UNREAD:
        if content.startswith(magic, place):
            raise FrameError("format", f"the image is a {name} file, which is not read; publish it as JPEG or PNG")


def refuse_video(name: str, content: bytes = b"") -> None:
    """Refuses packets of video.

    Args:
        name: What a message says that it is.
        content: Its first bytes, where they may tell.

    Raises:
        FrameError: `format`, with the way out.
    """
    if any(word in name.lower() for word in VIDEO) or content.startswith(_START_CODES):
        raise FrameError(
            "format",
            f"the image is a packet of video ({name[:40]!r}), which is no picture without those before; decode it "
            "first: ros2 run image_transport republish",
        )

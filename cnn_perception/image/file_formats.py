"""Tells by its first bytes what kind of image file or video something is, and refuses by name what is not read."""

from __future__ import annotations

import functools
import importlib
import io
import re
import struct
from pathlib import PurePath

from PIL import Image, UnidentifiedImageError

from cnn_perception.errors import FrameError
from cnn_perception.image.jpeg import is_jpeg
from cnn_perception.image.limits import check_structure
from cnn_perception.mistaken_files import what_instead

HEAD_BYTES = 64
"""So many first bytes tell what kind of file something is."""
_MAGIC = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"RIFF(?:....(?:WEBP|$)|.{0,3}$)", re.DOTALL), "WEBP"),
    (re.compile(rb"GIF8"), "GIF"),
    (re.compile(rb"BM(?!.{12}[^\x0c\x28\x34\x38\x40\x6c\x7c]|.{13}[^\0])", re.DOTALL), "BMP"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"P[1-6]\s+(?:#|\d)"), "PPM"),
)
"""How the files of each format that is read begin. Others begin alike: RIFF is a film or a sound, too, and words may
begin with BM, which the size of a BMP's header in its bytes 14 to 17 tells from them."""
_START_CODE = re.compile(rb"\x00\x00\x00?\x01[^\x00]")
"""With which packets of H.264 and H.265 begin; an icon of Windows begins with 0 0 1 0."""
PARAMETER_SETS = re.compile(
    rb"\x00\x00\x00?\x01"
    rb"(?:[\x27\x47\x67].{3,200}?\x00\x00\x00?\x01[\x28\x48\x68]|\x40\x01.{3,200}?\x00\x00\x00?\x01\x42\x01)",
    re.DOTALL,
)
"""How a stream of H.264 or H.265 begins: with two of its sets of parameters."""
_UNREAD = (
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"8BPS", "Photoshop"),
    (0, b"gimp xcf", "GIMP"),
    (0, b"v/1\1", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (8, b"CR\2\0", "camera raw"),
    (4, b"ftypcrx", "camera raw"),
    (0, b"IIRO", "camera raw"),
    (0, b"IIRS", "camera raw"),
    (0, b"IIU\0", "camera raw"),
    (0, b"FUJIFILMCCD-RAW", "camera raw"),
)
"""Where the first bytes of formats are that are not read."""
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
"""What the first box of a file says of it. Source: ISO/IEC 23008-12 and AV1 Image File Format, their brands."""
_BOX_NAMES = {"HEIF": "HEIC", "AVIF": "AVIF"}
"""How people call the formats that Pillow has these names for."""
PICTURE_SUFFIXES = frozenset((
    ".arw", ".avif", ".bmp", ".cr2", ".cr3", ".dib", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".hif", ".j2k",
    ".jfif", ".jif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".jxl", ".mpo", ".nef", ".orf", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".psd", ".raf", ".rw2", ".tif", ".tiff", ".webp", ".xcf",
))  # fmt: skip
"""With which pictures are named, in lower case, whether they are read or not."""
_CURE = "save or publish it as JPEG or PNG"
_CURES = {
    "HEIC": "install pillow-heif (pip install pillow-heif), or save it as JPEG",
    "AVIF": "install Pillow 11.3 or newer, or save it as JPEG",
    "camera raw": "develop it to JPEG or PNG",
}
"""What to do about the formats of which it is something special."""
VIDEO = ("h264", "h265", "hevc", "avc", "av1", "vp8", "vp9", "mpeg", "theora", "ffmpeg")
"""By which formats and encodings name streams of video, whose packets are no pictures."""


def file_format(content: bytes) -> str | None:
    """Returns Pillow's name of the format of an image file that can be read here; None for other content.

    Args:
        content: Its first `HEAD_BYTES`, or more of it.
    """
    if unread_format(content) is not None:
        return None
    for magic, name in _MAGIC:
        if magic.match(content):
            return name
    return _box_format(content)


def unread_format(content: bytes) -> str | None:
    """Returns the name of a picture's format that cannot be read here; None for other content."""
    for place, magic, name in _UNREAD:
        if content.startswith(magic, place):
            return name
    boxed = _box_format(content)
    return _BOX_NAMES[boxed] if boxed is not None and not _is_box_format_read(boxed) else None


def is_picture(head: bytes) -> bool:
    """Returns whether a file is a picture, which can be read or not, by its first `HEAD_BYTES`."""
    return any(magic.match(head) for magic, _ in _MAGIC) or unread_format(head) is not None or bool(_box_format(head))


def has_picture_suffix(name: str) -> bool:
    """Returns whether a file is named as pictures are."""
    return PurePath(name).suffix.lower() in PICTURE_SUFFIXES


def _box_format(content: bytes) -> str | None:
    """Returns HEIF or AVIF by the brands of a file's first box; None for other content."""
    if content[4:8] != b"ftyp":
        return None
    end = min(len(content), int.from_bytes(content[:4], "big"))
    brands = {content[8:12], *(content[place : place + 4] for place in range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if content[8:12] in _HEIF_BRANDS else None


@functools.cache
def _is_box_format_read(name: str) -> bool:
    """Returns whether a library for HEIF or AVIF is there; it is made known to Pillow."""
    if name == "HEIF":
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError:
            return False
    Image.init()
    return name in Image.OPEN


def opened(content: bytes, kind: str) -> Image.Image:
    """Opens a file of one format with Pillow, without its own limit of pixels: `limits.check_pixels` is for that.

    Raises:
        UnidentifiedImageError: If its header cannot be read.
    """
    Image.init()
    factory, _ = Image.OPEN[kind]
    try:
        return factory(io.BytesIO(content), "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:
        raise UnidentifiedImageError(str(error)) from None


def has_structure(content: bytes, kind: str, size: tuple[int, int]) -> bool:
    """Returns whether content of a kind's first bytes is such a file, of a picture of this (width, height)."""
    if kind == "JPEG":
        return is_jpeg(content)
    try:
        check_structure(content, kind)
        with opened(content, kind) as image:
            return kind == "PNG" or image.size == size  # a PNG's header has a checksum
    except Exception:  # Pillow's plugins raise anything
        return False


def refuse_unread(content: bytes) -> None:
    """Refuses the files of formats that are not read.

    Raises:
        FrameError: `format`, by its name.
    """
    name = unread_format(content)
    if name is not None:
        raise FrameError("format", f"the image is a {name} file, which is not read; {_CURES.get(name, _CURE)}")


def refuse_other(content: bytes) -> None:
    """Refuses what is no picture at all, but is often found in the place of one.

    Raises:
        FrameError: `format`, by what it is, with the way out.
    """
    if told := what_instead(content, "picture"):
        raise FrameError("format", f"the image {told}")


def refuse_video(name: str, content: bytes = b"") -> None:
    """Refuses packets of video.

    Args:
        name: What a message says that it is.
        content: Its first bytes, where they may tell.

    Raises:
        FrameError: `format`, with the way out.
    """
    if any(word in name.lower() for word in VIDEO) or _START_CODE.match(content):
        raise FrameError(
            "format",
            f"the image is a packet of video ({name[:40]!r}), which is no picture without those before; decode it "
            "first: ros2 run image_transport republish",
        )

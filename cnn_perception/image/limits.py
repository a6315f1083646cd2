"""Bounds what an image file can make its decoder do; refused by its headers, before anything of it is decoded.

Pixels cost time and memory, and a file of a few bytes can claim millions of them. Some formats can also make a decoder
pass over the same pixels, or read the same bytes, again and again.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cnn_perception.errors import FrameError
from cnn_perception.image.raw import check_size

FILE_PIXELS = 2**28
"""Largest picture of a file that a person put into a folder, where a camera's message may hold `raw.MAX_PIXELS`:
16384 x 16384. Telephones make 12000 x 9000 and 16320 x 12240. It takes 3 bytes a pixel when it is decoded, 0.8 GB at
most, and up to three times as much while that is done."""
ANY_FILE_PIXELS = 2**24
"""What a file of any size may hold: a drawing, or the dark, packs without limit."""
PIXELS_PER_BYTE = 1100
"""What a larger picture may hold: deflate, the strongest of the cameras' formats, packs 1032 bytes into one."""
FILE_BYTES = 8 * FILE_PIXELS
"""Largest file of a picture: four channels of 16 bits, not packed, of the largest picture. A file with holes may claim
terabytes."""
LONGEST_SIDE = 2**16
"""Columns or rows; JPEG, WebP and GIF cannot have more."""
MOST_SCANS = 100
"""Times that a JPEG passes over its pixels: encoders write 10, or 64 where they optimise."""
MOST_STRIPS = 2**16
"""Strips or tiles of a TIFF."""
RLE_FILE_BYTES = 2**22
"""Of a run-length encoded BMP and of a PPM in text, which Pillow decodes in Python."""

_IMAGE_WIDTH, _IMAGE_LENGTH, _STRIP_OFFSETS = 256, 257, 273  # Source: TIFF 6.0, as are the sizes of the types
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS = 322, 323, 324
_TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # and BigTIFF
_BIG = (b"II+\0", b"MM\0+")
_EXIF = b"Exif\0\0"
_MARKER = re.compile(rb"\xff[^\0\xff\xd0-\xd7]")


class _Entry(NamedTuple):
    tag: int
    byte_count: int
    number: int
    value: int


def read_picture(path: Path) -> bytes:
    """Returns the bytes of a picture's file.

    Raises:
        FrameError: `size`, if it has more than `FILE_BYTES`; nothing of it is read then.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > FILE_BYTES:
            raise FrameError("size", f"the file has {size} bytes; at most {FILE_BYTES} are accepted of a picture")
        return file.read()


def check_pixels(height: int, width: int, byte_count: int, most_pixels: int = 0) -> None:
    """Refuses a picture that is too large, or larger than its file can be honest about.

    Args:
        height: Rows, by the header.
        width: Columns, by the header.
        byte_count: Size of the file.
        most_pixels: What is accepted at all; 0 for `raw.MAX_PIXELS`.

    Raises:
        FrameError: `size`.
    """
    check_size(height, width, most_pixels)
    most = max(ANY_FILE_PIXELS, PIXELS_PER_BYTE * byte_count)
    if height * width > most or max(height, width) > LONGEST_SIDE:
        raise FrameError(
            "size",
            f"the file of {byte_count} bytes claims {width}x{height} pixels; at most {most} are accepted of it, "
            f"and {LONGEST_SIDE} a side",
        )


def check_structure(content: bytes, file_format: str, most_pixels: int = 0) -> None:
    """Refuses a file whose parts would keep its decoder busy for much longer than its pixels do.

    Args:
        content: The file.
        file_format: Pillow's name of its format.
        most_pixels: As for `check_pixels`.

    Raises:
        FrameError: `size`.
        struct.error: If a TIFF has no directory.
    """
    if file_format == "JPEG":
        if content.count(b"\xff\xda") > MOST_SCANS and _scans(content) > MOST_SCANS:
            raise FrameError("size", f"the JPEG has more than {MOST_SCANS} scans; encode it again")
    elif file_format == "TIFF":
        _check_tiff(content, most_pixels)
    elif file_format == "PPM" and len(content) > RLE_FILE_BYTES and content[1:2] in b"123":
        raise FrameError("size", f"the PPM in text has more than {RLE_FILE_BYTES} bytes; save it as PNG")
    elif file_format == "BMP" and len(content) > RLE_FILE_BYTES and content[30:34] in (b"\1\0\0\0", b"\2\0\0\0"):
        raise FrameError("size", f"the run-length encoded BMP has more than {RLE_FILE_BYTES} bytes; save it as PNG")


def check_exif(exif: bytes) -> None:
    """Refuses EXIF data whose entries claim more than there is, as entries that share their bytes do.

    Raises:
        FrameError: `size`.
    """
    with contextlib.suppress(struct.error):  # nobody needs damaged EXIF data
        _directory(exif.removeprefix(_EXIF))


def _scans(content: bytes) -> int:
    return sum(code == 0xDA for code, _, _ in _segments(content))


def exif_of_jpeg(content: bytes) -> bytes:
    """Returns the EXIF data of a JPEG without the words before it; empty where it has none."""
    parts = []
    for code, start, end in _segments(content):
        if code == 0xDA:
            break
        if code == 0xE1 and content.startswith(_EXIF, start):
            parts.append(content[start + len(_EXIF) : end])
    return b"".join(parts)


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields the code, the beginning and the end of a JPEG's segments; what follows its end, such as a film, is none.

    Source: ITU T.81, annex B.
    """
    found = _MARKER.search(content, 2)
    while found is not None and content[found.end() - 1] != 0xD9:
        code = content[found.end() - 1]
        start = found.end() if code == 0x01 else found.end() + 2  # which alone is left without a length
        end = start if code == 0x01 else start - 2 + int.from_bytes(content[start - 2 : start], "big")
        yield code, start, end
        found = _MARKER.search(content, max(start, end))


def _check_tiff(content: bytes, most_pixels: int) -> None:
    entries = {entry.tag: entry for entry in _directory(content)}
    if any(entries[tag].number > MOST_STRIPS for tag in (_STRIP_OFFSETS, _TILE_OFFSETS) if tag in entries):
        raise FrameError("size", f"the TIFF has more than {MOST_STRIPS} strips or tiles; save it with larger ones")
    for columns, rows in ((_IMAGE_WIDTH, _IMAGE_LENGTH), (_TILE_WIDTH, _TILE_LENGTH)):
        if columns in entries and rows in entries:
            check_pixels(max(1, entries[rows].value), max(1, entries[columns].value), len(content), most_pixels)


def _directory(content: bytes) -> list[_Entry]:
    """Returns the entries of the first directory of a TIFF file, or of EXIF data, which is one."""
    order = "<" if content[:2] == b"II" else ">"
    # A BigTIFF has its offset and its counts in 8 bytes in place of 4 and 2.
    at, offset, counter = (8, "Q", "Q") if content[:4] in _BIG else (4, "I", "H")
    length = 4 + 2 * struct.calcsize(offset)
    (start,) = struct.unpack_from(f"{order}{offset}", content, at)
    (count,) = struct.unpack_from(f"{order}{counter}", content, start)
    first = start + struct.calcsize(counter)
    entries = []
    for position in range(first, min(first + length * count, len(content) - length + 1), length):
        tag, kind, number = struct.unpack_from(f"{order}HH{offset}", content, position)
        place = position + length - struct.calcsize(offset)
        (value,) = struct.unpack_from(f"{order}H" if kind == 3 else f"{order}{offset}", content, place)
        size = number * (_TYPE_BYTES[kind] if kind < len(_TYPE_BYTES) else 0)
        entries.append(_Entry(tag, size, number, value))
    if sum(entry.byte_count for entry in entries) > 2 * len(content) + 2**16:
        raise FrameError("size", "the entries of its TIFF or EXIF data claim more bytes than there are; save it again")
    return entries

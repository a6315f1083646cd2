"""Owns: what image files may ask of their decoders. Files that would take seconds or gigabytes are made by hand."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from frames import saved
from PIL import Image

from cnn_perception.errors import FrameError
from cnn_perception.image import jpeg, limits
from cnn_perception.image.limits import ANY_FILE_PIXELS, LONGEST_SIDE, MOST_SCANS, PIXELS_PER_BYTE, check_pixels
from cnn_perception.image.messages import decode_content, decode_file_bytes
from cnn_perception.image.raw import MAX_PIXELS

GREY = Image.new("L", (64, 64), 128)


def no_decoder(*_, **__):
    raise AssertionError("the file was decoded")


def tiff(entries: dict[int, tuple[int, int, int]], after: bytes = b"") -> bytes:
    """A TIFF of one directory: (type, count, value) by tag."""
    rows = b"".join(struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + bytes(4) + after


def shared_strip(side: int) -> bytes:
    """A TIFF of few bytes: all its strips are one."""
    strip = zlib.compress(bytes(side * 64), 9)
    count = side // 64
    place = 8 + 2 + 12 * 8 + 4
    entries = {
        256: (4, 1, side), 257: (4, 1, side), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1), 278: (4, 1, 64),
        273: (4, count, place), 279: (4, count, place + 4 * count),
    }  # fmt: skip
    offsets = struct.pack("<I", place + 8 * count) * count
    return tiff(entries, offsets + struct.pack("<I", len(strip)) * count + strip)


def one_tile(side: int) -> bytes:
    """A TIFF of 16 x 16 pixels that keeps them in a far larger tile."""
    entries = {
        256: (4, 1, 16), 257: (4, 1, 16), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1), 322: (4, 1, side),
        323: (4, 1, side), 324: (4, 1, 8), 325: (4, 1, 100),
    }  # fmt: skip
    return tiff(entries, bytes(100))


def one_big_tile(side: int) -> bytes:
    """The same as a BigTIFF, whose counts and offsets have eight bytes."""
    entries = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 322: side, 323: side, 324: 16, 325: 100}
    rows = b"".join(struct.pack("<HHQQ", tag, 16, 1, entries[tag]) for tag in sorted(entries))
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(entries)) + rows + bytes(8) + bytes(100)


def greedy_directory(count: int) -> bytes:
    """Entries that all claim the same bytes."""
    return tiff(dict.fromkeys(range(1000, 1000 + count), (7, 60000, 100)), bytes(60_000))


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG, whose last scan is repeated."""
    data = saved(GREY, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    own = data.count(b"\xff\xda")
    return data[:-2] + data[last:-2] * (count - own) + data[-2:]


def bmp(width: int, height: int, code: bytes) -> bytes:
    """A run-length encoded one."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(code), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + header + bytes(1024) + code


BOMBS = {
    "TIFF whose strips share their bytes": shared_strip(8192),
    "TIFF with a tile of 256 million pixels": one_tile(2**14),
    "BigTIFF with a tile of 256 million pixels": one_big_tile(2**14),
    "TIFF with a million strips": tiff({256: (4, 1, 8), 257: (4, 1, 8), 273: (4, 2**20, 8)}, bytes(2**22)),
    "TIFF whose tags share their bytes": greedy_directory(1000),
    "JPEG of a thousand scans": jpeg_of_scans(1000),
    "PNG of zeros": saved(Image.new("1", (8192, 8192)), "PNG"),
    "WebP of zeros": saved(Image.new("RGB", (8192, 8192)), "WEBP", lossless=True, method=0),
    "GIF of zeros": saved(Image.new("P", (8192, 8192)), "GIF"),
    "BMP that moves by 255 rows of 16 million": bmp(2**24, 1, b"\0\2\xff\xff\0\1"),
    "BMP of single runs": bmp(2**12, 2**10, (b"\1\0" * 2**12 + b"\0\0") * 2**10),
    "TIFF that is one row": tiff({256: (4, 1, 2**24), 257: (4, 1, 1)}, bytes(10)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_file_that_would_keep_its_decoder_busy_is_refused_before_it_is_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg", no_decoder)
    for plugin in ("TiffImagePlugin.TiffImageFile", "BmpImagePlugin.BmpImageFile", "ImageFile.ImageFile"):
        monkeypatch.setattr(f"PIL.{plugin}.load", no_decoder)
    with pytest.raises(FrameError) as refusal:
        decode_file_bytes(BOMBS[name])
    assert refusal.value.reason == "size"
    assert "\n" not in str(refusal.value)


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
def test_exif_whose_entries_share_their_bytes_is_never_read_and_costs_no_picture(monkeypatch: pytest.MonkeyPatch):
    exif = b"Exif\0\0" + tiff(dict.fromkeys(range(1000, 1900), (7, 30_000, 100)), bytes(30_000))
    data = saved(GREY, "JPEG", exif=exif)
    monkeypatch.setattr(Image.Exif, "load", no_decoder)
    (told,) = decode_content(data).seen.oddities
    assert told.kind == "exif_warning"
    assert "claim more bytes than there are" in told.text


@pytest.mark.parametrize("count", [MOST_SCANS, MOST_SCANS + 1])
def test_scans_are_counted_up_to_the_end_of_the_picture(count: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg", lambda *_: np.zeros((64, 64, 3), np.uint8))
    data = jpeg_of_scans(count)
    film = b"\xff\xda" * 1000
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(film)) + film
    for decorated in (data, data[:2] + comment + data[2:], data + film):
        if count <= MOST_SCANS:
            assert decode_file_bytes(decorated).shape == (64, 64, 3)
        else:
            with pytest.raises(FrameError, match="more than 100 scans"):
                decode_file_bytes(decorated)


def test_pixels_are_as_many_as_the_bytes_allow():
    check_pixels(2**12, 2**12, 30)
    check_pixels(2**13, 2**13, MAX_PIXELS // PIXELS_PER_BYTE + 1)
    check_pixels(256, LONGEST_SIDE, 30)
    for height, width, size in ((2**12, 2**12 + 1, 30), (2**13, 2**13, 60_000), (1, LONGEST_SIDE + 1, 30)):
        with pytest.raises(FrameError) as refusal:
            check_pixels(height, width, size)
        assert refusal.value.reason == "size"
    assert ANY_FILE_PIXELS == 2**24


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_largest_picture_of_one_colour_is_within_the_limits(kind: str):
    options = {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}
    data = saved(Image.new("L", (8192, 8192), 7), kind, **options)
    with Image.open(io.BytesIO(data)) as image:
        check_pixels(image.height, image.width, len(data))
    limits.check_structure(data, kind)


def test_picture_of_many_chunks_of_text_and_a_film_behind_it_is_still_read():
    photo = saved(GREY, "JPEG") + b"\xff\xda" * 10**5
    assert decode_file_bytes(photo).shape == (64, 64, 3)

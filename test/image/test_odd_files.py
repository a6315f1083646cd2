"""Owns: image files as people have them: telephones' photographs, HEIC, PPM, raw files, nonsense in EXIF.

Leaves to others: what cameras send (test_compressed, test_jpeg), bounds of hostile files (test_limits).
"""

from __future__ import annotations

import io
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from frames import PICTURE, png_file, saved
from PIL import Image, features

from cnn_perception.errors import FrameError
from cnn_perception.image import file_formats
from cnn_perception.image.limits import FILE_PIXELS
from cnn_perception.image.messages import EncodedFile, decode, decode_content, decode_file_bytes

SMALL = Image.fromarray(PICTURE).resize((24, 16), Image.Resampling.BILINEAR)


def refused(data):
    """The reason of the refusal, or None if the file is decoded."""
    try:
        decode_file_bytes(data)
    except FrameError as error:
        return error.reason
    return None


def png_with(kind: bytes, content: bytes, checksum: int) -> bytes:
    """A PNG with one more chunk."""
    data = saved(SMALL, "PNG")
    return data[:33] + len(content).to_bytes(4, "big") + kind + content + checksum.to_bytes(4, "big") + data[33:]


EXIF = {
    "entries that share their bytes": b"Exif\0\0MM\0*\0\0\0\x08\0\1\x10\0\0\7\x7f\0\0\0\0\0\0\0",
    "cut": b"Exif\0\0MM\0*\0\0",
    "no directory": b"Exif\0\0" + b"\xff" * 40,
    "a circle": b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0",
    "an orientation in words": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0up!\0\0\0\0\0",
    "an orientation of 99": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x63\0\0\0\0\0\0\0",
    "an orientation of 0": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\0\0\0\0\0\0\0\0",
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says so, too
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", EXIF)
def test_nonsense_in_exif_costs_no_picture(kind, name):
    options = {"quality": 100} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    found = decode_content(saved(SMALL, kind, exif=EXIF[name], **options))
    assert np.array_equal(found.image, decode_file_bytes(saved(SMALL, kind, **options)))
    assert not found.seen.turned
    told = [oddity.kind for oddity in found.seen.oddities]
    if name.startswith("an orientation"):
        assert told == ([] if name.endswith(" 0") else ["exif_warning"])
    assert {*told} <= {"exif_warning"}


def test_exif_of_a_png_with_a_wrong_checksum_is_dropped_and_told():
    (told,) = decode_content(png_with(b"eXIf", b"II*\0\x08\0\0\0\0\0", 1)).seen.oddities
    assert (told.kind, told.harmless) == ("exif_warning", False)
    assert "taken for upright" in told.text


def test_other_segments_of_nonsense_do_not_cost_the_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(SMALL, "JPEG", exif=exif)
    nonsense = b"".join(
        b"\xff" + code + (2 + len(words)).to_bytes(2, "big") + words
        for code, words in ((b"\xe2", b"MPF\0" + b"\xff" * 20), (b"\xed", b"Photoshop 3.0\0" + b"\xff" * 9))
    )
    assert np.array_equal(decode_file_bytes(data[:2] + nonsense + data[2:]), decode_file_bytes(data))
    assert decode_content(data[:2] + nonsense + data[2:]).seen.turned


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_photographs_of_telephones_are_decoded_as_files_and_refused_as_messages(kind):
    options = {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}
    data = saved(Image.new("L", (12000, 9000), 77), kind, **options)
    assert decode_file_bytes(data).shape == (9000, 12000, 3)
    with pytest.raises(FrameError, match="at most 67108864"):
        decode(EncodedFile(data, "jpeg"))


@pytest.mark.parametrize("side", [(1, FILE_PIXELS + 1), (16385, 16384)])
def test_a_file_above_the_cap_is_refused_by_its_header(side):
    assert refused(png_file(*side, 8, 0, [b""])) == "size"


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
@pytest.mark.parametrize("white", [b"\n", b" ", b"\r\n"])
def test_portable_maps_are_read(mode, white):
    data = saved(SMALL.convert(mode), "PPM")
    assert np.array_equal(decode_file_bytes(data), np.asarray(SMALL.convert(mode).convert("RGB")))
    assert np.array_equal(decode_file_bytes(data[:2] + white + data[3:]), decode_file_bytes(data))


def test_portable_maps_of_16_bits_are_scaled_and_of_few_bits_by_their_own_white():
    row = np.array([0, 128, 129, 32896, 65535], ">u2").tobytes()
    assert decode_file_bytes(b"P5\n5 1\n65535\n" + row)[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    twelve = np.array([0, 2048, 4095], ">u2").tobytes()
    assert decode_file_bytes(b"P5\n3 1\n4095\n" + twelve)[0, :, 0].tolist() == [0, 128, 255]
    assert decode_file_bytes(b"P2\n# by hand\n3 1\n255\n0 7 255\n")[0, :, 0].tolist() == [0, 7, 255]


def test_a_raw_file_of_a_camera_is_refused_for_its_preview():
    preview = saved(SMALL, "TIFF", tiffinfo={254: 1})
    with pytest.raises(FrameError, match=r"is a preview \(\d+x\d+\), as in the raw file of a camera.*develop it"):
        decode_file_bytes(preview)
    assert refused(saved(SMALL, "TIFF", tiffinfo={254: 0})) is None


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.fixture
def heif_library(monkeypatch):
    """Lets a test say whether pillow-heif is there: a stub that opens every HEIC as one picture."""

    class Stub(Image.Image):
        def __enter__(self):
            return SMALL.copy()

        def __exit__(self, *_):
            pass

    def install(there):
        library = SimpleNamespace(
            register_heif_opener=lambda: monkeypatch.setitem(Image.OPEN, "HEIF", (lambda *_: Stub(), None))
        )
        monkeypatch.setitem(sys.modules, "pillow_heif", library if there else None)
        file_formats._is_box_format_read.cache_clear()

    yield install
    file_formats._is_box_format_read.cache_clear()


def test_heic_is_read_where_its_library_is_there(heif_library):
    heif_library(True)
    assert np.array_equal(decode_file_bytes(HEIC), np.asarray(SMALL))
    assert file_formats.file_format(HEIC) == "HEIF"


def test_heic_is_refused_with_the_cure_where_it_is_not(heif_library):
    heif_library(False)
    with pytest.raises(FrameError, match=r"is a HEIC file, which is not read; install pillow-heif \(pip install"):
        decode_file_bytes(HEIC)


def test_avif_is_read_where_pillow_knows_it_and_refused_with_the_cure_elsewhere(monkeypatch):
    data = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif" + bytes(100)
    if features.check("avif"):
        data = saved(SMALL, "AVIF", quality=100)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(decode_file_bytes(data), expected)
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    file_formats._is_box_format_read.cache_clear()
    with pytest.raises(FrameError, match=r"is a AVIF file, which is not read; install Pillow 11\.3"):
        decode_file_bytes(data)
    file_formats._is_box_format_read.cache_clear()


def grey_tiff(rows: bytes, bits: int, photometric: int) -> bytes:
    """A TIFF of 4x2 grey pixels in one strip; the tags are those of TIFF 6.0, section 4."""
    tags = {256: 4, 257: 2, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 2, 279: len(rows)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(rows)) + rows + struct.pack("<H", len(tags)) + directory + bytes(4)


NUMBERS = np.array([[0, 256, 2048, 4095], [1024, 512, 4095, 0]])


def test_a_tiff_whose_zero_is_white_is_no_negative():
    wide = (65535 - NUMBERS * 65535 // 4095).astype("<u2")
    for content in (grey_tiff(wide.tobytes(), 16, 0), grey_tiff((wide >> 8).astype(np.uint8).tobytes(), 8, 0)):
        assert np.abs(decode_file_bytes(content)[..., 1] - NUMBERS * 255 / 4095).max() <= 1


def test_a_tiff_of_12_bits_is_scaled_by_its_own_white():
    pairs = NUMBERS.reshape(-1, 2).tolist()
    packed = b"".join((first << 12 | second).to_bytes(3, "big") for first, second in pairs)
    decoded = decode_content(grey_tiff(packed, 12, 1))
    assert np.abs(decoded.image[..., 1] - NUMBERS * 255 / 4095).max() <= 1
    assert decoded.seen.oddities == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 7\n", "git lfs pull"),
        (b"\n<!DOCTYPE HTML>\n<html>", "is a web page; download the picture itself"),
        (b"\xef\xbb\xbf<html lang='de'>", "is a web page"),
    ],
)
def test_what_was_saved_in_place_of_a_picture_is_called_what_it_is(content, words):
    with pytest.raises(FrameError, match=words):
        decode_file_bytes(content)

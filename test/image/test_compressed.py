"""Image files in memory: CompressedImage messages, data sets, folders. The files themselves are in frames.py."""

from __future__ import annotations

import array
import io
import random
import types
import zlib

import cv2
import numpy as np
import pytest
from frames import (
    BAD_COMPRESSED,
    BLOCKS,
    GOOD_COMPRESSED,
    PICTURE,
    RGB,
    assert_refused_as,
    assert_shown,
    jpeg_claiming,
    names,
    png_file,
    saved,
    wide,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import SHARED_DATA
from PIL import Image, ImageOps

from cnn_perception.errors import FrameError
from cnn_perception.image.messages import decode, decode_content, decode_file_bytes, encoded_from_message
from cnn_perception.image.raw import MAX_PIXELS

PHOTOS = SHARED_DATA / "photos"
REASONS = {"empty", "format", "size", "corrupt", "depth", "unsupported"}
SMALL = Image.fromarray(PICTURE).resize((24, 16), Image.Resampling.BILINEAR)


def message(message_format, data):
    return encoded_from_message(types.SimpleNamespace(format=message_format, data=array.array("B", data)))


def refused(data):
    """The reason of the refusal, or None if the file is decoded."""
    try:
        decode_file_bytes(data)
    except FrameError as error:
        return error.reason
    return None


@pytest.mark.parametrize("good", GOOD_COMPRESSED, ids=names(GOOD_COMPRESSED))
def test_a_file_is_decoded_to_its_picture(good):
    assert_shown(decode(message(good.format, good.data)), good)


@pytest.mark.parametrize("bad", BAD_COMPRESSED, ids=names(BAD_COMPRESSED))
def test_a_bad_file_is_refused_with_its_reason_in_one_short_line(bad):
    with pytest.raises(FrameError) as refusal:
        decode(message(bad.format, bad.data))
    assert_refused_as(bad, refusal.value)


@pytest.mark.parametrize(
    "buffer", [bytes, memoryview, lambda d: np.frombuffer(d, np.uint8)], ids=["bytes", "view", "numpy"]
)
def test_every_kind_of_buffer_is_accepted(buffer):
    assert np.array_equal(decode_file_bytes(buffer(saved(SMALL, "PNG"))), np.asarray(SMALL))


@pytest.mark.parametrize("name", ["jet_dog_0.jpg", "jet_granny_smith_0.jpg", "chelsea.png"])
def test_a_photograph_is_decoded_as_pillow_decodes_it(name):
    if not PHOTOS.is_dir():
        pytest.skip("the development photographs are not on this machine")
    expected = np.asarray(Image.open(PHOTOS / name).convert("RGB")).astype(int)
    assert np.abs(decode_file_bytes((PHOTOS / name).read_bytes()).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone_as_pillow_undoes_it(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    data = saved(SMALL, kind, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    rgb = decode_file_bytes(data)
    assert rgb.shape == expected.shape
    assert np.abs(rgb.astype(int) - expected.astype(int)).max() <= 1


def test_orientation_6_puts_the_stored_left_bottom_corner_at_the_top_left():
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb = decode_file_bytes(saved(Image.fromarray(PICTURE), "PNG", exif=exif))
    assert tuple(rgb[0, 0]) == tuple(BLOCKS[1, 0])
    assert tuple(rgb[0, -1]) == tuple(BLOCKS[0, 0])


def test_a_broken_exif_block_does_not_cost_the_picture():
    data = bytearray(saved(Image.fromarray(PICTURE), "JPEG", exif=b"Exif\0\0" + b"\xff" * 30))
    assert decode_file_bytes(bytes(data)).shape == PICTURE.shape


def test_a_cmyk_jpeg_has_the_colours_pillow_and_browsers_show():
    data = saved(SMALL.convert("CMYK"), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode_file_bytes(data).astype(int) - expected).max() <= 2


def test_a_ycck_jpeg_has_the_colours_pillow_and_browsers_show():
    # Pillow writes CMYK only, so the marker is changed: transform 2 makes the same numbers mean YCCK.
    data = saved(SMALL.convert("CMYK"), "JPEG", quality=95)
    start = data.index(b"Adobe")
    ycck = data[: start + 11] + b"\x02" + data[start + 12 :]
    expected = np.asarray(Image.open(io.BytesIO(ycck)).convert("RGB")).astype(int)
    assert not np.array_equal(decode_file_bytes(ycck), decode_file_bytes(data))
    assert np.abs(decode_file_bytes(ycck).astype(int) - expected).max() <= 2


def test_alpha_is_composited_over_white():
    half = Image.new("RGBA", (5, 3), (200, 100, 0, 51))  # 51 / 255 = 0.2: 0.2 * colour + 0.8 * 255
    for data in (saved(half, "PNG"), saved(half, "WEBP", lossless=True), saved(half, "TIFF")):
        assert np.abs(decode_file_bytes(data).astype(int) - (244, 224, 204)).max() <= 1


def test_transparent_palette_and_grey_become_white():
    gif = Image.new("P", (4, 4), 1)
    gif.putpalette([0, 0, 0, 90, 80, 70])
    gif.putpixel((0, 0), 0)  # of a picture all of which is transparent alpha is dropped: test_alpha
    grey = png_file(1, 2, 16, 4, [b"\x80\x80\xff\xff" + b"\x80\x80\x00\x00"])
    shown = decode_file_bytes(saved(gif, "GIF", transparency=1)).reshape(-1, 3)
    assert shown[0].tolist() == [0] * 3
    assert (shown[1:] == 255).all()
    assert decode_file_bytes(grey)[0].tolist() == [[128] * 3, [255] * 3]


def test_16_bit_files_are_scaled_and_not_saturated():
    # Pillow's convert("RGB") makes a 16-bit grey white.
    row = np.array([0, 128, 129, 32896, 65535], ">u2").tobytes()
    assert decode_file_bytes(png_file(1, 5, 16, 0, [row]))[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    tiff = saved(Image.fromarray(np.array([[0, 128, 129, 32896, 65535]], np.uint16)), "TIFF")
    assert decode_file_bytes(tiff)[0, :, 2].tolist() == [0, 0, 1, 128, 255]


def test_a_16_bit_colour_png_is_rounded_and_keeps_its_channel_order():
    data = png_file(1, 6, 16, 2, [wide(RGB[0], ">u2").tobytes()])
    assert np.array_equal(decode_file_bytes(data)[0], RGB[0])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(kind):
    first = Image.new("RGB", (8, 6), (250, 0, 0))
    second = Image.new("RGB", (8, 6), (0, 0, 250))
    options = {"lossless": True} if kind == "WEBP" else {}
    rgb = decode_file_bytes(saved(first, kind, save_all=True, append_images=[second], **options))
    assert (rgb == (250, 0, 0)).all()


def test_a_bayer_mosaic_in_a_16_bit_png_is_interpolated():
    mosaic = np.tile(np.array([[200, 100], [100, 50]], np.uint16) * 257, (3, 4)).astype(">u2")
    data = png_file(6, 8, 16, 0, [row.tobytes() for row in mosaic])
    assert (decode(message("bayer_rggb16; png compressed ", data)) == (200, 100, 50)).all()


def test_a_camera_jpeg_without_huffman_tables_is_decoded():
    # USB cameras send motion JPEG, which leaves out the standard tables.
    data = saved(SMALL, "JPEG", optimize=False)
    bare = data
    while (start := bare.find(b"\xff\xc4")) >= 0:
        bare = bare[:start] + bare[start + 2 + int.from_bytes(bare[start + 2 : start + 4], "big") :]
    assert len(bare) < len(data)
    assert np.array_equal(decode_file_bytes(bare), decode_file_bytes(data))


@pytest.mark.parametrize("side", [(1, MAX_PIXELS + 1), (8193, 8192)])
def test_a_size_above_the_cap_is_refused_by_the_header(side):
    assert refused(png_file(*side, 8, 0, [b""])) == "size"


def test_a_jpeg_may_not_claim_more_than_the_cap():
    assert refused(jpeg_claiming(8193, 8192)) == "size"


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says so of cut EXIF blocks
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_no_truncated_file_gives_a_picture(kind):
    data = saved(SMALL, kind)
    intact = decode_file_bytes(data)
    for length in range(len(data)):
        if refused(data[:length]) is None:  # only what follows the pixels may be missing
            assert np.array_equal(decode_file_bytes(data[:length]), intact), length


def test_a_truncated_jpeg_is_refused_at_every_length():
    for options in ({}, {"progressive": True}):
        data = saved(SMALL, "JPEG", **options)
        whole = len(data) if options else len(data) - 2  # of an end marker alone nothing is lost, see test_jpeg
        assert all(refused(data[:length]) in REASONS for length in range(whole))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_a_tiff_tag_of_the_wrong_type_is_refused():
    data = saved(Image.fromarray(np.full((9, 7), 3000, np.uint16)), "TIFF")
    for position in range(len(data)):
        for kind in (2, 12):  # text, float64: Pillow raises TypeError for some
            assert refused(data[:position] + bytes([kind]) + data[position + 1 :]) in REASONS | {None}


def test_depth_is_refused_with_what_to_subscribe_to():
    with pytest.raises(FrameError, match="subscribe to the colour image"):
        decode(message("16UC1; compressedDepth png", saved(SMALL, "PNG")))


def test_no_flipped_bit_changes_a_png_unseen():
    data = saved(SMALL, "PNG")
    intact = decode_file_bytes(data)
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        if refused(bytes(damaged)) is None:
            assert np.array_equal(decode_file_bytes(bytes(damaged)), intact), position


def test_most_flipped_bits_that_spoil_a_camera_jpeg_are_refused():
    # JPEG has no checksum, so not all can be; OpenCV refuses hardly any (asserted, lest this need no care one day).
    photo = PHOTOS / "jet_dog_0.jpg"
    if not photo.is_file():
        pytest.skip("the development photographs are not on this machine")
    data = saved(Image.open(photo).resize((640, 480)), "JPEG", quality=85)
    intact = decode_file_bytes(data).astype(int)
    start = data.index(b"\xff\xda") + 14
    chance = random.Random(7)
    spoiled = seen = seen_by_opencv = 0
    for _ in range(150):
        damaged = bytearray(data)
        damaged[chance.randrange(start, len(data) - 2)] ^= 1 << chance.randrange(8)
        shown = cv2.imdecode(np.frombuffer(damaged, np.uint8), cv2.IMREAD_COLOR_RGB)
        if shown is None or (np.abs(shown - intact).max(axis=2) > 8).mean() > 0.01:
            spoiled += 1
            seen += refused(bytes(damaged)) == "corrupt"
            seen_by_opencv += shown is None
    assert spoiled > 20
    assert seen > 0.5 * spoiled
    assert seen_by_opencv < 0.1 * spoiled


SEEDS = [saved(SMALL, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")] + [
    file.data for file in GOOD_COMPRESSED if file.name in {"png_grey16", "png_palette", "jpeg_cmyk", "jpeg_exif_6"}
]


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.binary(max_size=8),
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_any_damage_gives_a_picture_or_a_refusal(data, changes, tail):
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    try:
        rgb = decode_file_bytes(bytes(damaged) + tail)
    except FrameError as error:
        reason = error.reason
    else:
        assert rgb.ndim == 3
        assert rgb.shape[2] == 3
        assert rgb.dtype == np.uint8
        assert rgb.flags.c_contiguous
        return
    assert reason in REASONS


# ---- trouble beside the pixels


def png_with(*chunks: bytes) -> bytes:
    data = saved(SMALL, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return len(content).to_bytes(4, "big") + kind + content + checksum.to_bytes(4, "big")


BIG = zlib.compress(b"x" * (2 << 20))
REMARKS = {
    "large zTXt": chunk(b"zTXt", b"Comment\0\0" + BIG),
    "large iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BIG),
    "large iCCP": chunk(b"iCCP", b"profile\0\0" + BIG),
    "checksum of tEXt": chunk(b"tEXt", b"a\0b", 1),
    "checksum of iCCP": chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"x"), 1),
    "checksum of pHYs": chunk(b"pHYs", bytes(9), 1),
    "checksum of tIME": chunk(b"tIME", bytes(7), 1),
    "no zlib in zTXt": chunk(b"zTXt", b"Comment\0\0" + b"nonsense"),
}


@pytest.mark.parametrize("name", REMARKS)
def test_trouble_in_a_pngs_text_or_profile_costs_nothing_and_is_told(name):
    found = decode_content(png_with(REMARKS[name]))
    assert np.array_equal(found.image, np.asarray(SMALL))
    oddities = [(oddity.kind, oddity.harmless) for oddity in found.seen.oddities]
    assert oddities == ([("png_warning", True)] if name != "no zlib in zTXt" else oddities)


@pytest.mark.parametrize("kind", [b"IDAT", b"PLTE", b"tRNS", b"zzzz"])
def test_a_wrong_checksum_of_what_may_change_a_pngs_pixels_is_refused(kind):
    assert refused(png_with(chunk(kind, b"\0" * 6, 1))) == "corrupt"


def test_damaged_pixels_beside_damaged_text_are_refused():
    data = bytearray(png_with(REMARKS["checksum of tEXt"]))
    data[-40] ^= 1
    assert refused(bytes(data)) == "corrupt"


def test_a_16_bit_png_with_a_damaged_text_is_read_as_without_it():
    row = np.array([0, 128, 129, 32896, 65535], ">u2").tobytes()
    data = png_file(1, 5, 16, 0, [row])
    assert np.array_equal(
        decode_file_bytes(data[:33] + REMARKS["checksum of tEXt"] + data[33:]), decode_file_bytes(data)
    )


def test_a_bigtiff_is_read():
    assert np.array_equal(decode_file_bytes(saved(SMALL, "TIFF", big_tiff=True)), np.asarray(SMALL))


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.ones((4, 6, 3), np.float32), "3 floating-point numbers of 32 bits"),
        (np.ones((4, 6, 3), np.float64), "3 floating-point numbers of 64 bits"),
    ],
)
def test_a_tiff_of_other_numbers_is_refused_by_what_they_are(pixels, words):
    data = cv2.imencode(".tiff", pixels)[1].tobytes()
    with pytest.raises(FrameError, match=f"^the TIFF's pixels are {words}, which is not read") as refusal:
        decode_file_bytes(data)
    assert refusal.value.reason == "depth"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_no_refusal_shows_an_address_of_memory(kind):
    data = saved(SMALL, kind)
    for damaged in (data[:30], data[:20] + bytes(60), data[:8] + b"\xff" * 200):
        with pytest.raises(FrameError) as refusal:
            decode_file_bytes(damaged)
        assert "0x" not in str(refusal.value).replace("marker 0x", "").replace("type 0x", "")
        assert "object at" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_was_turned_is_known_as_turned(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode_content(saved(SMALL, kind, exif=exif)).seen.turned == (orientation != 1)
    assert not decode_content(saved(SMALL, kind)).seen.turned


def test_a_mosaic_is_interpolated_before_it_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    mosaic = np.tile(np.array([[200, 100], [100, 50]], np.uint8), (3, 4))
    mosaic[:, :2] = 0
    data = saved(Image.fromarray(mosaic), "PNG", exif=exif)
    plain = decode(message("bayer_rggb8; png compressed ", saved(Image.fromarray(mosaic), "PNG")))
    assert np.array_equal(decode(message("bayer_rggb8; png compressed ", data)), np.rot90(plain, -1))

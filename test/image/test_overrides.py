"""Owns: what is known better than a message says, files in place of pixels, numbers of few bits, planes and steps.

Oracles: hand arithmetic, OpenCV's encoders. Leaves to others: the encodings themselves (test_raw).
"""

from __future__ import annotations

import dataclasses
import io

import cv2
import numpy as np
import pytest
from frames import GREY, LUMA, RGB, image_fields, png_file, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.image.messages import ENCODINGS, EncodedFile, EncodedImage, Overrides, decode, decode_frame

BLUE = np.full((24, 32, 3), (30, 60, 220), np.uint8)


def image(data: bytes, encoding: str, height: int, width: int, step: int, bits: int = 0) -> EncodedImage:
    return EncodedImage(data, encoding, height, width, step, is_bigendian=False, significant_bits=bits)


def of_fields(fields: dict) -> EncodedImage:
    return EncodedImage(**{name: value for name, value in fields.items() if name != "is_bigendian"}, is_bigendian=False)


def reason(frame: EncodedImage | EncodedFile) -> str:
    with pytest.raises(FrameError) as refusal:
        decode(frame)
    return refusal.value.reason


# ---- files in place of pixels


FILES = {
    "JPEG": saved(Image.fromarray(BLUE), "JPEG", quality=95),
    "PNG": saved(Image.fromarray(BLUE), "PNG"),
    "WEBP": saved(Image.fromarray(BLUE), "WEBP", lossless=True),
    "BMP": saved(Image.fromarray(BLUE), "BMP"),
    "TIFF": saved(Image.fromarray(BLUE), "TIFF"),
    "GIF": saved(Image.fromarray(BLUE), "GIF"),
}
LABELS = [("rgb8", 3), ("yuv422", 2), ("yuv422_yuy2", 2), ("mono8", 1), ("bgra8", 4), ("8UC3", 3), ("mono16", 2)]


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(("encoding", "channels"), LABELS)
def test_a_file_labelled_as_pixels_is_decoded_and_told(kind: str, encoding: str, channels: int):
    whole = 24 * 32 * channels
    data = FILES[kind] + bytes(max(0, whole - len(FILES[kind])))
    found = decode_frame(image(data, encoding, 24, 32, 32 * channels))
    assert np.abs(found.image.astype(int) - BLUE).max() <= 3
    (oddity,) = found.seen.oddities
    assert oddity.kind == "file_in_image"
    assert kind in oddity.text
    assert encoding in oddity.text


@pytest.mark.parametrize("encoding", ["jpeg", "JPEG", "mjpeg", "jpg", "", "rgb8"])
@pytest.mark.parametrize("step", [0, 32, 96])
def test_a_jpeg_is_decoded_whatever_its_label_and_step(encoding: str, step: int):
    assert np.abs(decode(image(FILES["JPEG"], encoding, 24, 32, step)).astype(int) - BLUE).max() <= 3


def test_a_damaged_jpeg_in_place_of_pixels_is_refused_as_a_jpeg():
    cut = FILES["JPEG"][:-20]
    for encoding, data in (("jpeg", cut), ("rgb8", cut), ("rgb8", cut + bytes(24 * 32 * 3))):
        with pytest.raises(FrameError, match=r"^the JPEG cannot be decoded"):
            decode(image(data, encoding, 24, 32, 96))


STARTS = [
    b"\xff\xd8\xff",
    b"\xff\xd8\xff\xe0\0\x10JFIF",
    b"\x89PNG\r\n\x1a\n",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"RIFF",
    b"GIF89a",
]


@settings(max_examples=200, deadline=None)
@given(start=st.sampled_from(STARTS), seed=st.integers(0, 1000), channels=st.sampled_from([1, 3]))
def test_pixels_that_begin_like_a_file_are_pixels(start: bytes, seed: int, channels: int):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, channels), np.uint8)
    data = start + pixels.tobytes()[len(start) :]
    found = decode_frame(image(data, "rgb8" if channels == 3 else "mono8", 24, 32, 32 * channels))
    expected = np.frombuffer(data, np.uint8).reshape(24, 32, channels)
    np.testing.assert_array_equal(found.image, np.broadcast_to(expected, (24, 32, 3)))
    assert found.seen.oddities == ()


@pytest.mark.parametrize("name", ["h264", "H264", "hevc", "mpeg4", "theora"])
def test_packets_of_video_are_refused_with_the_way_out(name: str):
    packet = b"\0\0\0\1\x67\x42" + bytes(2000)
    for frame in (image(packet, name, 24, 32, 32), EncodedFile(packet, name), EncodedFile(packet, "")):
        with pytest.raises(FrameError, match=r"video.*ros2 run image_transport republish"):
            decode(frame)
    assert reason(EncodedFile(packet, name)) == "format"


STREAMS = {
    "H.264": b"\0\0\0\1\x67\x42\0\x1f\xe9\1\x40\x7b\0\0\0\1\x68\xce\x38\x80\0\0\0\1\x65",
    "H.265": b"\0\0\0\1\x40\1\x0c\1\xff\xff\1\x60\0\0\0\1\x42\1\1\1\x60",
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(("encoding", "channels"), [("rgb8", 3), ("mono8", 1), ("yuv422", 2)])
def test_a_stream_of_video_labelled_as_pixels_is_refused(name: str, encoding: str, channels: int):
    data = STREAMS[name].ljust(24 * 32 * channels, b"\0")
    with pytest.raises(FrameError, match="packet of video"):
        decode(image(data, encoding, 24, 32, 32 * channels))


@pytest.mark.parametrize("start", [b"\0\0\0\1", b"\0\0\1", b"\0\0\0\1\x67", bytes(16)])
def test_dark_pixels_are_no_video(start: bytes):
    data = start.ljust(24 * 32, b"\1")
    assert decode(image(data, "mono8", 24, 32, 32)).shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
    ],
)
def test_files_that_are_not_read_are_refused_by_name(start: bytes, name: str):
    data = start.ljust(24 * 32 * 3, b"\0")
    for frame in (image(data, "rgb8", 24, 32, 96), EncodedFile(data, "jpeg"), EncodedFile(data, "")):
        with pytest.raises(FrameError, match=f"is a {name} file, which is not read; save or publish it as JPEG"):
            decode(frame)


def test_a_jpeg_is_a_picture_whatever_codec_its_format_names():
    assert decode(EncodedFile(FILES["JPEG"], "h264")).shape == BLUE.shape


# ---- overrides


@pytest.mark.parametrize("label", ["8UC3", "BGR8", "rgb8", "", "nonsense"])
def test_an_encoding_that_is_known_better_decides(label: str):
    fields = image_fields("bgr8", RGB[..., ::-1]) | {"encoding": label}
    np.testing.assert_array_equal(decode(of_fields(fields).overridden(Overrides("bgr8"))), RGB)


def test_four_channels_without_a_colour_order_can_be_used():
    bgra = np.dstack([RGB[..., ::-1], np.zeros(RGB.shape[:2], np.uint8)])
    frame = of_fields(image_fields("bgra8", bgra) | {"encoding": "8UC4"})
    assert reason(frame) == "encoding"
    np.testing.assert_array_equal(decode(frame.overridden(Overrides("bgra8"))), RGB)


@pytest.mark.parametrize("label", ["8UC3", "BGR8"])
def test_the_refusal_of_an_encoding_names_the_parameter(label: str):
    with pytest.raises(FrameError, match=r"parameter encoding \(evaluate_bag: --encoding\)"):
        decode(of_fields(image_fields("rgb8", RGB) | {"encoding": label}))


@pytest.mark.parametrize(
    ("values", "text"),
    [(("BGR8",), "encoding is 'BGR8'"), (("8UC3",), "choose '' or one of rgb8"), (("x" * 9000,), "encoding")],
)
def test_an_unknown_encoding_is_refused_by_name(values: tuple[str, ...], text: str):
    with pytest.raises(ConfigError, match=text):
        Overrides(*values)


@pytest.mark.parametrize("bits", [-1, 1, 7, 17, 10**6])
def test_bits_that_no_camera_has_are_refused(bits: int):
    with pytest.raises(ConfigError, match=f"significant_bits is {bits}; choose 0 for all, or 8 to 16"):
        Overrides(significant_bits=bits)


COLOURED = {
    "JPEG": (FILES["JPEG"], BLUE),
    "PNG": (FILES["PNG"], BLUE),
    "WEBP": (FILES["WEBP"], BLUE),
    "TIFF": (FILES["TIFF"], BLUE),
    "PNG of 16 bits": (png_file(4, 6, 16, 2, [row.tobytes() for row in RGB.astype(">u2") * 257]), RGB),
}
ORDERS = {"bgr8": -1, "bgra8": -1, "bgr16": -1, "rgb8": 1, "rgba8": 1, "": 1}


@pytest.mark.parametrize("name", COLOURED)
@pytest.mark.parametrize("said", ["jpeg", "rgb8; jpeg compressed bgr8", ""])
@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_a_files_colours_is_the_one_that_is_known_better(name: str, said: str, order: str):
    data, rgb = COLOURED[name]
    found = decode_frame(EncodedFile(data, said).overridden(Overrides(order)))
    assert np.abs(found.image.astype(int) - rgb[..., :: ORDERS[order]]).max() <= 3
    assert found.seen.oddities == ()


def test_the_order_that_is_known_better_is_that_of_a_file_in_place_of_pixels_too():
    for label, order in (("rgb8", "bgr8"), ("bgr8", "rgb8"), ("bgr8", "")):
        frame = image(FILES["PNG"], label, 24, 32, 96).overridden(Overrides(order))
        found = decode_frame(frame)
        np.testing.assert_array_equal(found.image, BLUE[..., :: -1 if order == "bgr8" else 1])
        assert [oddity.kind for oddity in found.seen.oddities] == ["file_in_image"]


def test_every_encoding_that_is_said_of_a_file_changes_it_or_is_right_or_is_told():
    grey = {"JPEG": grey_file("JPEG")[0], "PNG": grey_file("PNG")[0]}
    for encoding in ENCODINGS:
        for data, fits in (
            (FILES["JPEG"], "colour"),
            (FILES["PNG"], "colour"),
            *((one, "grey") for one in grey.values()),
        ):
            found = decode_frame(EncodedFile(data, "").overridden(Overrides(encoding)))
            plain = decode(EncodedFile(data, ""))
            is_of_colours = encoding.startswith(("rgb", "bgr"))
            is_of_grey = encoding.startswith(("mono", "bayer")) or encoding in ("8UC1", "16UC1")
            kinds = [oddity.kind for oddity in found.seen.oddities if not oddity.harmless]
            is_used = is_of_colours if fits == "colour" else is_of_grey
            few = ["significant_bits_unused"] if is_used and encoding.endswith(("10", "12", "14")) else []
            assert kinds == (few if is_used else ["encoding_unused"])
            if not is_used:
                np.testing.assert_array_equal(found.image, plain)


@pytest.mark.parametrize(
    "frame",
    [
        EncodedFile(FILES["JPEG"], "jpeg"),
        EncodedFile(FILES["PNG"], "rgb8; png compressed bgr8"),
        of_fields(image_fields("rgb8", RGB)),
        of_fields(image_fields("mono8", LUMA)),
        of_fields(image_fields("32FC1", (LUMA / 255).astype("<f4"))),
        image(bytes(4 * 6 * 3 // 2), "nv12", 4, 6, 6),
        image(FILES["PNG"], "rgb8", 24, 32, 96),
    ],
    ids=lambda frame: frame.format if isinstance(frame, EncodedFile) else frame.encoding,
)
def test_bits_of_a_picture_that_has_no_numbers_of_16_bits_are_told(frame: EncodedFile | EncodedImage):
    found = decode_frame(frame.overridden(Overrides(significant_bits=12)))
    np.testing.assert_array_equal(found.image, decode(frame))
    kinds = {oddity.kind for oddity in found.seen.oddities}
    assert kinds - {"file_in_image"} == {"significant_bits_unused"}
    assert "significant_bits" not in {oddity.kind for oddity in decode_frame(frame).seen.oddities}


# ---- numbers of few bits


@pytest.mark.parametrize("encoding", ["mono12", "bayer_rggb12"])
def test_the_bits_that_an_encoding_names_count_in_a_file_as_in_pixels(encoding: str):
    values = np.rint(np.tile(np.array([[200, 100], [100, 50]]), (2, 3)) * (4095 / 255))
    file = EncodedFile(png_file(4, 6, 16, 0, [row.tobytes() for row in values.astype(">u2")]), "16UC1; png compressed ")
    pixels = image(values.astype("<u2").tobytes(), encoding, 4, 6, 12)
    found = decode_frame(file.overridden(Overrides(encoding)))
    np.testing.assert_array_equal(found.image, decode(pixels))
    assert found.seen.oddities == ()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
def test_the_largest_number_of_the_bits_is_white_and_the_others_are_in_proportion(bits: int, encoding: str):
    values = np.linspace(0, 2**bits - 1, 24).round().astype("<u2").reshape(4, 6)
    rgb = decode(image(values.tobytes(), encoding, 4, 6, 12, bits))
    np.testing.assert_allclose(rgb[..., 0], values / (2**bits - 1) * 255, atol=0.501)


def test_a_mosaic_of_12_bits_has_the_colours_of_one_of_16():
    mosaic = np.tile(np.array([[200, 100], [100, 50]]), (2, 3))
    for bits in (10, 12, 16):
        numbers = np.rint(mosaic * ((2**bits - 1) / 255)).astype("<u2")
        assert (decode(image(numbers.tobytes(), "bayer_rggb16", 4, 6, 12, bits)) == (200, 100, 50)).all()


def test_a_number_beyond_the_bits_is_white_and_told():
    values = np.array([[4095, 4096, 65535] * 2] * 4, "<u2")
    found = decode_frame(image(values.tobytes(), "mono16", 4, 6, 12, 12))
    assert (found.image == 255).all()
    assert [oddity.kind for oddity in found.seen.oddities] == ["significant_bits"]
    assert not found.seen.oddities[0].harmless


def test_bits_of_a_16_bit_png_count_as_those_of_an_image():
    values = np.rint(LUMA * (4095 / 255)).astype(">u2")
    data = png_file(*LUMA.shape, 16, 0, [row.tobytes() for row in values])
    frame = EncodedFile(data, "mono16; png compressed mono16")
    np.testing.assert_array_equal(decode(frame.overridden(Overrides(significant_bits=12))), GREY)
    assert decode_frame(frame).seen.brightest == values.max()


def test_bits_do_not_change_images_of_8_bits():
    frame = of_fields(image_fields("rgb8", RGB))
    found = decode_frame(dataclasses.replace(frame, significant_bits=12))
    np.testing.assert_array_equal(found.image, RGB)
    assert found.seen.brightest is None


def test_the_brightest_of_a_large_mosaic_is_found_whatever_its_colour():
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        mosaic = np.full((480, 640), 10, "<u2")
        mosaic[row::2, column::2] = 900
        assert decode_frame(image(mosaic.tobytes(), "bayer_rggb16", 480, 640, 1280)).seen.brightest == 900


def test_big_endian_numbers_are_looked_at_in_their_order():
    values = np.full((4, 6), 900, ">u2")
    frame = EncodedImage(values.tobytes(), "mono16", 4, 6, 12, is_bigendian=True)
    assert decode_frame(frame).seen.brightest == 900


# ---- planes and steps


def planes(rgb: np.ndarray, encoding: str, stride: int) -> bytes:
    """The planes of a picture by OpenCV, each row of luma `stride` bytes."""
    height, width = rgb.shape[:2]
    i420 = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
    luma = i420[:height]
    u, v = i420[height:].reshape(2, height // 2, width // 2)
    if encoding in ("nv12", "nv21"):
        pair = (u, v) if encoding == "nv12" else (v, u)
        rows = [*luma, *np.stack(pair, axis=-1).reshape(height // 2, width)]
    else:
        first, second = (u, v) if encoding == "i420" else (v, u)
        rows = [*luma, *first, *second]
    room = {width: stride, width // 2: stride // 2}
    return b"".join(row.tobytes() + b"\xee" * (room[len(row)] - len(row)) for row in rows)


@settings(max_examples=300, deadline=None)
@given(
    encoding=st.sampled_from(["nv12", "nv21", "i420", "yv12"]),
    half_height=st.integers(1, 9),
    half_width=st.integers(1, 9),
    half_padding=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_both_meanings_of_step_give_the_same_pixels(encoding, half_height, half_width, half_padding, seed):
    height, width = 2 * half_height, 2 * half_width
    coarse = np.random.default_rng(seed).integers(0, 256, (half_height, half_width, 3), np.uint8)
    rgb = coarse.repeat(2, axis=0).repeat(2, axis=1)
    stride = width + 2 * half_padding
    tight = decode(image(planes(rgb, encoding, width), encoding, height, width, width))
    data = planes(rgb, encoding, stride)
    np.testing.assert_array_equal(decode(image(data, encoding, height, width, stride)), tight)
    np.testing.assert_array_equal(decode(image(data, encoding, height, width, stride * 3 // 2)), tight)
    oracle = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), cv2.COLOR_YUV2RGB_I420)
    np.testing.assert_array_equal(tight, oracle)


@settings(max_examples=200, deadline=None)
@given(
    encoding=st.sampled_from(["nv12", "nv21", "i420", "yv12", "nv24", "yuv422p"]),
    padding=st.integers(0, 20),
    more=st.integers(-30, 200),
)
def test_planes_are_read_only_where_the_length_leaves_one_place_for_them(encoding, padding, more):
    height, width, step = 4, 6, 6 + padding
    half_rows = {"nv24": 6, "yuv422p": 4}.get(encoding, 3)
    length = height * step * half_rows // 2 + more
    shared, rest = divmod(2 * step, half_rows)
    strides = {step * height * half_rows // 2: step}
    if not rest and shared >= width:
        strides[step * height] = shared
    halves = encoding in ("i420", "yv12", "yuv422p")
    fits = length in strides and not (halves and strides[length] % 2)
    frame = image(bytes(max(length, 0)), encoding, height, width, step)
    if fits:
        assert decode(frame).shape == (height, width, 3)
    else:
        assert reason(frame) in {"padding", "truncated"}


@pytest.mark.parametrize("extra", [bytes(2 * 32), bytes(1), b"\x80" * 4096])
@pytest.mark.parametrize("place", ["between", "after"])
def test_bytes_between_or_after_planes_are_refused_with_what_to_publish(extra: bytes, place: str):
    data = planes(BLUE, "nv12", 32)
    data = data[: 24 * 32] + extra + data[24 * 32 :] if place == "between" else data + extra
    with pytest.raises(FrameError, match="publish the planes without padding, or rgb8"):
        decode(image(data, "nv12", 24, 32, 32))


@pytest.mark.parametrize("encoding", ["rgb8", "mono8", "yuv422", "mono16", "bayer_rggb8", "32FC1"])
@pytest.mark.parametrize("padding", [1, 4, 36])
def test_rows_that_are_padded_though_the_step_says_no_are_told_with_the_step_that_would_be_right(encoding, padding):
    each = {"rgb8": 3, "yuv422": 2, "mono16": 2, "32FC1": 4}.get(encoding, 1)
    row = np.arange(8 * each, dtype=np.uint8) % 3 * 0
    data = np.pad(np.tile(row, (6, 1)), ((0, 0), (0, padding))).tobytes()
    (told,) = decode_frame(image(data, encoding, 6, 8, 8 * each)).seen.oddities
    assert (told.kind, told.harmless) == ("rows_padded", False)
    assert f"{6 * padding} bytes are left" in told.text
    assert f"step must be {8 * each + padding}, not {8 * each}" in told.text
    assert not decode_frame(image(data, encoding, 6, 8, 8 * each + padding)).seen.oddities


@pytest.mark.parametrize(("height", "more"), [(6, 0), (6, 7), (6, 4096 + 1), (1, 5)])
def test_bytes_that_are_no_padding_of_rows_are_passed_over(height: int, more: int):
    found = decode_frame(image(bytes(height * 8 + more), "mono8", height, 8, 8))
    assert found.seen.oddities == ()


# ---- what was compressed


def grey_file(kind: str) -> tuple[bytes, np.ndarray]:
    """A grey picture that is a mosaic of one colour, and that colour."""
    mosaic = np.tile(np.array([[200, 100], [100, 50]], np.uint8), (12, 16))
    buffer = io.BytesIO()
    Image.fromarray(mosaic).save(buffer, kind, **({"quality": 100} if kind == "JPEG" else {}))
    return buffer.getvalue(), mosaic


FORMATS = {
    "bayer_rggb8; {} compressed ": "colour",
    "bayer_rggb8; {} compressed": "colour",
    "bayer_rggb8; {} compressed bayer_rggb8": "colour",
    "bayer_rggb16; {} compressed ": "colour",
    "bayer_rggb8": "colour",
    "rgb8; {} compressed bayer_rggb8": "colour",
    "bayer_rggb8; {} compressed mono8": "grey",
    "bayer_rggb16; {} compressed mono16": "grey",
    "bayer_rggb8; {} compressed bgr8": "grey",
    "mono8; {} compressed ": "grey",
    "16UC1; {} compressed ": "grey",
    "{}": "grey",
    "": "grey",
    "bayer_nonsense; {} compressed ": "grey",
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("pattern", FORMATS)
def test_what_stands_after_compressed_decides_whether_a_grey_file_is_a_mosaic(kind: str, pattern: str):
    data, mosaic = grey_file(kind)
    rgb = decode(EncodedFile(data, pattern.format(kind.lower()))).astype(int)
    expected = np.full((24, 32, 3), (200, 100, 50)) if FORMATS[pattern] == "colour" else mosaic[..., np.newaxis]
    assert np.abs(rgb - expected).max() <= 4


@pytest.mark.parametrize("pattern", FORMATS)
def test_colour_stays_colour_whatever_was_said(pattern: str):
    for kind in ("JPEG", "PNG"):
        rgb = decode(EncodedFile(FILES[kind], pattern.format(kind.lower())))
        assert np.abs(rgb.astype(int) - BLUE).max() <= 3


@pytest.mark.parametrize("encoding", ["yuv422_yuy2", "uyvy", "nv12", "rgb8", "bayer_rggb8"])
def test_colours_that_the_compression_left_out_are_told(encoding: str):
    grey, _ = grey_file("JPEG")
    for target in ("mono8", "bgr8"):
        (oddity,) = decode_frame(EncodedFile(grey, f"{encoding}; jpeg compressed {target}")).seen.oddities
        assert (oddity.kind, oddity.harmless) == ("colour_lost", False)
        assert encoding in oddity.text
    coloured = decode_frame(EncodedFile(FILES["JPEG"], f"{encoding}; jpeg compressed bgr8"))
    assert not coloured.seen.oddities


def kinds_of(file: np.ndarray, said: str) -> list[str]:
    return [one.kind for one in decode_frame(EncodedFile(cv2.imencode(".jpg", file)[1].tobytes(), said)).seen.oddities]


@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "mono12"])
def test_bits_that_the_compression_left_out_are_told_where_little_is_left(encoding: str):
    """OpenCV makes a JPEG of 16 bits by cutting at 255, cv_bridge by keeping the highest 8 bits."""
    twelve_bits = np.linspace(0, 4095, 64 * 48).reshape(48, 64).astype(np.uint16)
    assert kinds_of(twelve_bits, f"{encoding}; jpeg compressed ") == ["bits_lost"]
    highest = (twelve_bits // 257).astype(np.uint8)
    assert kinds_of(highest, f"{encoding}; jpeg compressed mono8") == ["bits_lost"]
    assert kinds_of(np.dstack([highest] * 3), "bgr16; jpeg compressed bgr8") == ["bits_lost"]
    all_of_them = (twelve_bits * 16 // 257).astype(np.uint8)
    assert kinds_of(all_of_them, f"{encoding}; jpeg compressed mono8") == []
    assert kinds_of(highest, "mono8; jpeg compressed ") == []
    png = EncodedFile(cv2.imencode(".png", twelve_bits)[1].tobytes(), f"{encoding}; png compressed ")
    assert decode_frame(png).seen.oddities == ()


@pytest.mark.parametrize(
    "said", ["mono8; jpeg compressed mono8", "16UC1; png compressed ", "jpeg", "", "x; jpeg compressed"]
)
def test_a_grey_camera_lost_no_colours(said: str):
    grey, _ = grey_file("JPEG")
    assert not decode_frame(EncodedFile(grey, said)).seen.oddities


def test_an_icon_is_no_packet_of_video():
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "ICO")
    with pytest.raises(FrameError, match="no JPEG, PNG, WebP"):
        decode(EncodedFile(buffer.getvalue(), "ico"))


def test_a_mosaic_that_is_known_better_is_interpolated():
    data, _ = grey_file("PNG")
    frame = EncodedFile(data, "png").overridden(Overrides("bayer_rggb8"))
    assert (decode(frame) == (200, 100, 50)).all()
    plain = EncodedFile(data, "bayer_rggb8; png compressed ").overridden(Overrides("mono8"))
    assert (decode(plain)[..., 0] == decode(plain)[..., 2]).all()

"""Owns: when the bytes of an image are said to be those of another encoding than it names, and when they are not.

Oracle: buffers written here, by numpy, from a picture of smooth colours with noise. Leaves to others: what becomes of
the pixels (test_raw), padding that `step` leaves out (test_overrides).
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from cnn_perception.image.messages import EncodedFile, EncodedImage, Overrides, decode, decode_frame
from cnn_perception.image.other_encoding import OF_PIXEL_BYTES, are_sides_exchanged
from cnn_perception.image.raw import _LAYOUTS

HEIGHT, WIDTH = 96, 128
_RNG = np.random.default_rng(3)
_COLOURS = cv2.resize(_RNG.integers(20, 236, (5, 7, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
RGB = np.clip(_COLOURS + _RNG.normal(0, 3, _COLOURS.shape), 0, 255).astype(np.uint8)
GREY = RGB.mean(axis=2).astype(np.uint8)
Bytes = npt.NDArray[np.uint8]


def rgba(alpha: int) -> Bytes:
    return np.dstack([RGB, np.full((HEIGHT, WIDTH), alpha, np.uint8)])


def yuyv() -> Bytes:
    yuv = cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV)
    chroma = np.where(np.arange(WIDTH) % 2, yuv[..., 2], yuv[..., 1])
    return np.dstack([yuv[..., 0], chroma])


def twelve_bits() -> Bytes:
    return (GREY.astype("<u2") * 16 + _RNG.integers(0, 16, GREY.shape).astype("<u2")).view(np.uint8)


def mosaic() -> Bytes:
    found = RGB[..., 1].copy()
    found[::2, ::2], found[1::2, 1::2] = RGB[::2, ::2, 0], RGB[1::2, 1::2, 2]
    return found


def image(buffer: Bytes, encoding: str, width: int = WIDTH) -> EncodedImage:
    lines = np.ascontiguousarray(buffer).reshape(HEIGHT, -1)
    return EncodedImage(lines.tobytes(), encoding, HEIGHT, width, lines.shape[1], is_bigendian=False)


def kinds(frame: EncodedImage) -> list[str]:
    return [one.kind for one in decode_frame(frame).seen.oddities]


MISLABELLED = {
    "rgb8, is rgba8": ("rgb8", rgba(255)),
    "rgb8, is rgba8 without alpha": ("rgb8", rgba(0)),
    "bgr8, is rgba8": ("bgr8", rgba(255)),
    "mono8, is rgb8": ("mono8", RGB),
    "mono8, is yuyv": ("mono8", yuyv()),
    "mono8, is mono12": ("mono8", twelve_bits()),
    "mono8, is rgba8": ("mono8", rgba(255)),
    "mono16, is rgb8": ("mono16", RGB),
    "mono16, is rgba8": ("mono16", rgba(255)),
    "yuyv, is rgb8": ("yuv422_yuy2", RGB),
    "mosaic, is rgb8": ("bayer_rggb8", RGB),
    "mosaic, is yuyv": ("bayer_rggb8", yuyv()),
    "nv12, is rgb8": ("nv12", RGB),
    "i420, is rgb8": ("i420", RGB),
    "rgb8, is rgb16": ("rgb8", (RGB.astype("<u2") * 257).view(np.uint8)),
}


@pytest.mark.parametrize("name", MISLABELLED)
def test_rows_of_another_encoding_are_told_with_what_fits_and_the_parameter(name: str):
    encoding, buffer = MISLABELLED[name]
    (told,) = decode_frame(image(buffer, encoding)).seen.oddities
    step = buffer.nbytes // HEIGHT
    assert (told.kind, told.harmless) == ("step_of_other_encoding", False)
    assert f"the {encoding} image of 128x96 pixels have step {step}, that of {step // WIDTH} bytes a pixel" in told.text
    assert OF_PIXEL_BYTES[step // WIDTH] in told.text
    assert "the parameter encoding (evaluate_bag: --encoding)" in told.text


RIGHT = {
    "rgb8": (RGB, 3),
    "mono8": (GREY, 1),
    "bayer_rggb8": (mosaic(), 1),
    "yuv422_yuy2": (yuyv(), 2),
    "mono12": (twelve_bits(), 2),
    "rgba8": (rgba(255), 4),
}
PADDING = {
    "zeros": lambda shape, _: np.zeros(shape, np.uint8),
    "the edge again": lambda shape, rows: np.resize(np.tile(rows[:, -12:], (1, shape[1] // 12 + 1)), shape),
    "anything": lambda shape, _: _RNG.integers(0, 256, shape, np.uint8),
    "pointers": lambda shape, _: np.resize(np.frombuffer(b"\x10\x7f\x00\x00\xe0\x55\x00\x00", np.uint8), shape),
    "another picture": lambda shape, _: np.resize(rgba(255).reshape(HEIGHT, -1), shape),
}


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("encoding", RIGHT)
def test_padding_as_long_as_that_of_another_encoding_is_no_oddity_whatever_is_in_it(encoding: str, padding: str):
    buffer, pixel_bytes = RIGHT[encoding]
    rows = buffer.reshape(HEIGHT, -1)
    for other in OF_PIXEL_BYTES:
        if other > pixel_bytes:
            more = PADDING[padding]((HEIGHT, WIDTH * (other - pixel_bytes)), rows)
            padded = image(np.concatenate([rows, more], axis=1), encoding)
            assert kinds(padded) == []
            assert np.array_equal(decode(padded), decode(image(buffer, encoding)))


@pytest.mark.parametrize("encoding", RIGHT)
@pytest.mark.parametrize(("part", "whole"), [(1, 2), (3, 4), (1, 3), (2, 3), (1, 4)])
def test_a_part_of_a_wider_picture_is_no_oddity(encoding: str, part: int, whole: int):
    buffer, _ = RIGHT[encoding]
    width = 2 * whole * (WIDTH // (2 * whole))
    wider = buffer.reshape(HEIGHT, WIDTH, -1)[:, :width]
    assert kinds(image(wider, encoding, width * part // whole)) == []


@pytest.mark.parametrize("encoding", RIGHT)
def test_ordinary_rows_are_no_oddity(encoding: str):
    assert kinds(image(RIGHT[encoding][0], encoding)) == []


@pytest.mark.parametrize(("width", "is_told"), [(31, False), (32, True)])
def test_of_a_few_columns_nothing_is_said(width: int, is_told: bool):
    assert kinds(image(rgba(255)[:, :width], "rgb8", width)) == ["step_of_other_encoding"] * is_told


def test_a_picture_of_one_colour_tells_nothing():
    assert kinds(image(np.full((HEIGHT, WIDTH, 4), 90, np.uint8), "rgb8")) == []
    for encoding, channels in (("yuv422", 2), ("mono16", 2), ("mono8", 1)):
        assert kinds(image(np.full((HEIGHT, WIDTH, channels), 90, np.uint8), encoding)) == []


def test_an_encoding_that_is_known_better_ends_it():
    known = EncodedImage(
        rgba(255).tobytes(), "rgba8", HEIGHT, WIDTH, 4 * WIDTH, is_bigendian=False, is_known_better=True
    )
    assert kinds(known) == []
    assert np.array_equal(decode(known), RGB)


def test_the_encodings_that_are_named_have_so_many_bytes_a_pixel():
    for pixel_bytes, text in OF_PIXEL_BYTES.items():
        names = text.replace(" or ", ", ").split(", ")
        assert {_LAYOUTS[name].pixel_bytes for name in names} == {pixel_bytes}
    usual = {layout.pixel_bytes for layout in _LAYOUTS.values()}
    assert usual == set(OF_PIXEL_BYTES)


def sixteen_bits(grey: Bytes, bits: int) -> Bytes:
    """Numbers of so many bits, the lower ones of them noise, in the order of bytes that the test then names wrongly."""
    numbers = grey.astype("<u2") * 2 ** (bits - 8) + _RNG.integers(0, 2 ** (bits - 8), grey.shape).astype("<u2")
    return numbers.view(np.uint8)


IN_OTHER_ORDER = {
    "yuv422, is yuyv": ("yuv422", yuyv(), "look like those of yuv422_yuy2", "parameter encoding to yuv422_yuy2"),
    "yuyv, is uyvy": ("yuyv", yuyv()[..., ::-1], "look like those of uyvy", "parameter encoding to uyvy"),
    "mono8, is a mosaic": ("mono8", mosaic(), "as those of a mosaic", "parameter encoding, such as bayer_rggb8"),
    "mono12, is a mosaic": ("mono12", sixteen_bits(mosaic(), 12), "as those of a mosaic", "parameter encoding"),
}


@pytest.mark.parametrize("name", IN_OTHER_ORDER)
def test_bytes_in_another_order_and_mosaics_are_told_with_the_parameter(name: str):
    """As of usb_cam, which called YUYV yuv422 (ros-drivers/usb_cam#263), and of drivers that call a sensor mono8."""
    encoding, buffer, what, way_out = IN_OTHER_ORDER[name]
    (told,) = decode_frame(image(buffer, encoding)).seen.oddities
    assert (told.kind, told.harmless) == ("bytes_of_other_encoding", False)
    assert what in told.text
    assert way_out in told.text
    assert "evaluate_bag: --encoding" in told.text


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "bayer_rggb16", "rgb16"])
def test_numbers_whose_bytes_are_in_the_other_order_are_told(encoding: str, bits: int):
    buffer = sixteen_bits({"bayer_rggb16": mosaic(), "rgb16": RGB}.get(encoding, GREY), bits)
    right = image(buffer, encoding)
    wrong = dataclasses.replace(right, is_bigendian=True)
    assert kinds(right) == []
    (told,) = decode_frame(wrong).seen.oddities
    assert told.kind == "bytes_of_other_encoding"
    assert "other order than is_bigendian says (True)" in told.text
    big = np.ascontiguousarray(buffer.reshape(HEIGHT, -1)).view("<u2").byteswap()
    assert kinds(dataclasses.replace(wrong, data=big.tobytes())) == []


@pytest.mark.parametrize("name", IN_OTHER_ORDER)
def test_what_is_known_better_ends_it_and_gives_the_picture(name: str):
    encoding, buffer, _, _ = IN_OTHER_ORDER[name]
    better = {"yuv422": "yuv422_yuy2", "yuyv": "uyvy", "mono8": "bayer_rggb8", "mono12": "bayer_rggb12"}[encoding]
    decoded = decode_frame(image(buffer, encoding).overridden(Overrides(encoding=better)))
    assert decoded.seen.oddities == ()
    assert np.abs(decoded.image[2:-2, 2:-2].astype(int) - RGB[2:-2, 2:-2]).mean() < 12
    grey = decode_frame(image(mosaic(), "mono8").overridden(Overrides(encoding="mono8")))
    assert grey.seen.oddities == ()


@pytest.mark.parametrize("encoding", ["yuv422", "yuv422_yuy2", "mono8", "8UC1", "mono16", "16UC1", "bayer_gbrg8"])
@pytest.mark.parametrize("size", [(32, 32), (40, 64), (240, 320)])
def test_of_noise_nothing_is_said(encoding: str, size: tuple[int, int]):
    """As of a covered lens; 16 bits are those of a dark sensor, of which the high byte hardly changes."""
    for level in (0.4, 1.0, 3.0, 200.0):
        height, width = size
        wide = encoding.endswith(("16", "16UC1"))
        numbers = 300 + _RNG.normal(0, 8 * level, size) if wide else 20 + _RNG.normal(0, level, (*size, 2))
        buffer = np.clip(numbers, 0, 65535 if wide else 255).astype("<u2" if wide else np.uint8)
        buffer = buffer if wide or encoding.startswith("yuv") else buffer[..., 0]
        data = np.ascontiguousarray(buffer)
        frame = EncodedImage(data.tobytes(), encoding, height, width, data.nbytes // height, is_bigendian=False)
        assert kinds(frame) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_mosaic_that_was_compressed_as_a_grey_picture_without_a_word_is_told(suffix: str):
    data = cv2.imencode(suffix, mosaic())[1].tobytes()
    sent = EncodedFile(data, "jpeg")
    (told,) = decode_frame(sent).seen.oddities
    assert told.kind == "bytes_of_other_encoding"
    assert "the grey image file alternate as those of a mosaic do" in told.text
    known = [sent.overridden(Overrides(encoding=encoding)) for encoding in ("bayer_rggb8", "mono8")]
    for other in (*known, EncodedFile(data, "bayer_rggb8; jpeg compressed "), EncodedFile.from_folder(data)):
        assert decode_frame(other).seen.oddities == ()
    grey = cv2.imencode(suffix, GREY)[1].tobytes()
    assert decode_frame(EncodedFile(grey, "jpeg")).seen.oddities == ()


def depth(farthest: int, holes: float) -> npt.NDArray[np.uint16]:
    """A floor that goes away, things on it, and what could not be measured: millimetres."""
    rng = np.random.default_rng(7)
    near = 300 + (farthest - 300) * np.linspace(1, 0, 240)[:, np.newaxis] ** 2 + np.zeros((240, 320))
    near[60:160, 40:140], near[100:220, 180:260] = 900, 1500
    near += rng.normal(0, 1, near.shape) * near / 300
    field = cv2.GaussianBlur(rng.normal(0, 1, near.shape), (0, 0), 3)
    near[field > np.quantile(field, 1 - holes)] = 0
    return near.clip(0, 65535).astype("<u2")


def grey_16(numbers: npt.NDArray[np.uint16], encoding: str) -> EncodedImage:
    height, width = numbers.shape
    return EncodedImage(numbers.tobytes(), encoding, height, width, 2 * width, is_bigendian=False)


@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
@pytest.mark.parametrize(("farthest", "holes"), [(4000, 0.3), (20_000, 0.05), (60_000, 0.015)])
def test_distances_are_told_whatever_they_are_called_and_how_far_they_go(encoding: str, farthest: int, holes: float):
    numbers = depth(farthest, holes)
    (odd,) = decode_frame(grey_16(numbers, encoding)).seen.oddities
    assert odd.kind == "distances"
    assert "subscribe to the colour image" in odd.text
    assert decode_frame(grey_16(numbers, encoding).overridden(Overrides("mono16"))).seen.oddities == ()
    png = EncodedFile(cv2.imencode(".png", numbers)[1].tobytes(), "16UC1; png compressed ")
    assert [one.kind for one in decode_frame(png).seen.oddities] == ["distances"]


def gamma(light: npt.NDArray[np.float64], most: int, white: int) -> npt.NDArray[np.uint16]:
    """What a camera makes of light, 0 to 1, that it has measured in so many steps."""
    return (((light * most).round().clip(0, most) / most) ** 0.45 * white).round().astype("<u2")


def pictures_with_zeros() -> dict[str, npt.NDArray[np.uint16]]:
    grey = cv2.resize(GREY, (320, 240), interpolation=cv2.INTER_CUBIC).astype(np.int64) - 80
    noisy = grey + _RNG.normal(0, 2, grey.shape)
    thermal = (27_000 + 20 * noisy).astype("<u2")  # hundredths of a kelvin
    turned = cv2.getRotationMatrix2D((160, 120), 10, 1.0)
    return {
        "dark": (noisy * 256).clip(0, 65535).astype("<u2"),
        "dark, of 8 bits": (grey.clip(0, 255) * 257).astype("<u2"),
        "dark, of 12 bits at the top": ((noisy * 16).clip(0, 4095).astype("<u2")) << 4,
        "thermal": thermal,
        "thermal with a black border": cv2.warpAffine(thermal, turned, (320, 240), flags=cv2.INTER_NEAREST),
        "classes": np.where(noisy < 40, 0, 26_000 + noisy // 40).astype("<u2"),
        "dark, of 12 bits, by a gamma": gamma(noisy / 400, 4095, 4095) << 4,
        "dark, of 10 bits to 16 by a gamma": gamma(noisy / 400, 1023, 65535),
    }


@pytest.mark.parametrize("name", pictures_with_zeros())
def test_pictures_of_16_bits_are_no_distances(name: str):
    numbers = pictures_with_zeros()[name]
    if name != "thermal":
        assert (numbers == 0).mean() > 0.05
    assert kinds(grey_16(np.ascontiguousarray(numbers), "16UC1")) == []


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "mono8", "mono16", "8UC1", "yuv422_yuy2"])
def test_exchanged_width_and_height_are_told_and_right_ones_are_not(encoding: str):
    buffer = {
        "rgba8": rgba(255),
        "mono8": GREY,
        "8UC1": GREY,
        "mono16": (GREY.astype("<u2") * 257).view(np.uint8),
        "yuv422_yuy2": yuyv(),
    }.get(encoding, RGB)
    right = image(buffer, encoding)
    assert kinds(right) == []
    step = right.step // WIDTH * HEIGHT
    exchanged = dataclasses.replace(right, height=WIDTH, width=HEIGHT, step=step)
    (odd,) = decode_frame(exchanged).seen.oddities
    assert odd.kind == "sides_exchanged"
    assert f"look as if they had {WIDTH} pixels" in odd.text


def test_of_a_mosaic_twice_as_high_as_wide_nothing_is_said_of_width_and_height():
    """As of two square cameras in one image."""
    one = np.full((WIDTH // 2, WIDTH, 3), (220, 40, 90), np.uint8) + RGB[: WIDTH // 2] // 8
    high = np.ascontiguousarray(one.reshape(WIDTH, WIDTH // 2, 3))
    found = high[..., 1].copy()
    found[::2, ::2], found[1::2, 1::2] = high[::2, ::2, 0], high[1::2, 1::2, 2]
    frame = EncodedImage(found.tobytes(), "bayer_rggb8", WIDTH, WIDTH // 2, WIDTH // 2, is_bigendian=False)
    assert kinds(frame) == []


ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
PATTERNS = {
    "darker downwards": ROWS * 2,
    "darker to the right": COLUMNS * 1.9,
    "stripes across": ROWS // 2 % 2 * 200,
    "stripes across, of a row each": ROWS % 2 * 200,
    "stripes down": COLUMNS // 3 % 2 * 200,
    "a fence whose bars are as far apart as the image is high": np.sin(COLUMNS / HEIGHT * 2 * np.pi * 8) * 100 + 128,
    "a chessboard": (ROWS + COLUMNS) % 2 * 200,
    "slanted stripes": np.sin((ROWS + COLUMNS) / 5) * 100 + 128,
    "noise in each row": np.repeat(_RNG.integers(0, 255, (HEIGHT, 1)), WIDTH, axis=1),
}


@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (800, 1280), (1200, 1600)])
@pytest.mark.parametrize("cell", [8, 10, 12, 20, 40, 64, 100])
def test_of_patterns_that_begin_again_after_the_height_nothing_is_said(size: tuple[int, int], cell: int):
    """Floors of simulations, calibration boards, and the grey ramp that cameras show as their test picture."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    chessboard = (rows // cell + columns // cell) % 2 * 200
    tiles = (np.minimum(rows % cell, columns % cell) < 2) * 200
    for pattern in (chessboard, tiles, (rows + columns) % 256, rows ^ columns):
        assert not are_sides_exchanged(pattern.astype(np.uint8))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_of_patterns_nothing_is_said_of_width_and_height(pattern: str):
    assert "sides_exchanged" not in kinds(image(PATTERNS[pattern].astype(np.uint8), "mono8"))

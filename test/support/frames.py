"""Good and bad camera frames, shared by the tests of decoding and of the running node.

Expected pixels are computed here by hand arithmetic, never by the code under test. `fields` are those of a
sensor_msgs/Image, so that a test can publish every frame over DDS.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cnn_perception.errors import FrameError

HEIGHT, WIDTH = 4, 6


class GoodImage(NamedTuple):
    name: str
    fields: dict[str, Any]
    rgb: np.ndarray
    tolerance: int


class BadImage(NamedTuple):
    name: str
    fields: dict[str, Any]
    reason: str


class GoodFile(NamedTuple):
    name: str
    format: str
    data: bytes
    rgb: np.ndarray
    tolerance: int


class BadFile(NamedTuple):
    name: str
    format: str
    data: bytes
    reason: str


# The scene: luma differs in every pixel, chroma in every 2 x 2 block, so that subsampling loses nothing and every
# exchanged row, column, channel or plane shows. All colours are inside the gamut.
LUMA = np.arange(70, 70 + 4 * HEIGHT * WIDTH, 4, dtype=np.uint8).reshape(HEIGHT, WIDTH)
CB = np.array([[110, 128, 150], [140, 118, 100]], np.uint8)
CR = np.array([[150, 120, 128], [105, 140, 125]], np.uint8)


def _bt601(luma, cb, cr):
    """BT.601 in limited range, as the standard gives it."""
    y, u, v = (plane.astype(np.float64) for plane in (luma, cb, cr))
    y, u, v = 255 / 219 * (y - 16), 255 / 224 * (u - 128), 255 / 224 * (v - 128)
    rgb = np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], axis=-1)
    assert rgb.min() > 0
    assert rgb.max() < 255
    return np.rint(rgb).astype(np.uint8)


def _full(plane):
    return plane.repeat(2, axis=0).repeat(2, axis=1)


RGB = _bt601(LUMA, _full(CB), _full(CR))
GREY = np.repeat(LUMA[..., np.newaxis], 3, axis=2)
ALPHA = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
SOLID = np.full((HEIGHT, WIDTH, 3), (200, 100, 50), np.uint8)


def _mosaic(pattern):
    """SOLID as seen through a colour filter whose first four pixels are `pattern`."""
    colours = [dict(zip("rgb", (200, 100, 50), strict=True))[letter] for letter in pattern]
    return np.tile(np.array(colours, np.uint8).reshape(2, 2), (HEIGHT // 2, WIDTH // 2))


def _packed_yuv(order):
    cb, cr = CB.repeat(2, axis=0), CR.repeat(2, axis=0)
    planes = {"u": cb, "v": cr, "y": LUMA[:, 0::2], "Y": LUMA[:, 1::2]}
    return np.stack([planes[letter] for letter in order], axis=-1).reshape(HEIGHT, 2 * WIDTH)


def image_fields(encoding, rows, *, big=False, step=None, tail=b"", height=HEIGHT, width=WIDTH):
    """The fields of an Image whose buffer has the given rows (2-D or 3-D array), padded to `step` with 0xEE."""
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    step = raw.shape[1] if step is None else step
    padded = np.pad(raw, ((0, 0), (0, step - raw.shape[1])), constant_values=0xEE)
    return {
        "encoding": encoding,
        "height": height,
        "width": width,
        "step": step,
        "is_bigendian": int(big),
        "data": padded.tobytes() + tail,
    }


def wide(pixels, dtype):
    """16 bits that round to the given 8: v * 257 + 100, since 100 / 257 < 0.5; their two bytes differ."""
    return (pixels.astype(np.int64) * 257 + 100).astype(dtype)


def _good_images():
    """Every convertible encoding once, wide channels in both byte orders; then padding and trailing bytes."""
    rgba, bgr = np.concatenate([RGB, ALPHA], axis=2), RGB[..., ::-1]
    bgra = np.concatenate([bgr, ALPHA], axis=2)
    exact = {"rgb": (RGB, RGB), "bgr": (bgr, RGB), "rgba": (rgba, RGB), "bgra": (bgra, RGB), "mono": (LUMA, GREY)}
    exact |= {f"bayer_{p}": (_mosaic(p), SOLID) for p in ("rggb", "bggr", "gbrg", "grbg")}
    for name, (pixels, rgb) in exact.items():
        yield GoodImage(f"{name}8", image_fields(f"{name}8", pixels), rgb, 0)
        yield GoodImage(f"{name}8_padded", image_fields(f"{name}8", pixels, step=31), rgb, 0)
        for big, dtype in ((False, "<u2"), (True, ">u2")):
            yield GoodImage(f"{name}16_{dtype}", image_fields(f"{name}16", wide(pixels, dtype), big=big), rgb, 0)
        yield GoodImage(f"{name}16_padded", image_fields(f"{name}16", wide(pixels, "<u2"), step=61), rgb, 0)
    yield GoodImage("8UC1", image_fields("8UC1", LUMA), GREY, 0)
    yield GoodImage("16UC1", image_fields("16UC1", wide(LUMA, "<u2")), GREY, 0)
    for encoding, kind in (("32FC1", "f4"), ("64FC1", "f8")):
        for big, order in ((False, "<"), (True, ">")):
            unit = (LUMA / 255).astype(order + kind)
            yield GoodImage(f"{encoding}_{order}", image_fields(encoding, unit, big=big, step=50), GREY, 0)
    for encoding, order in (("uyvy", "uyvY"), ("yuv422", "uyvY"), ("yuyv", "yuYv"), ("yuv422_yuy2", "yuYv")):
        yield GoodImage(encoding, image_fields(encoding, _packed_yuv(order)), RGB, 1)
        yield GoodImage(f"{encoding}_padded", image_fields(encoding, _packed_yuv(order), step=15), RGB, 1)
    cbcr, crcb = (np.stack(pair, axis=-1).reshape(2, WIDTH) for pair in ((CB, CR), (CR, CB)))
    for step in (None, 9):
        yield GoodImage(f"nv12_{step}", image_fields("nv12", np.concatenate([LUMA, cbcr]), step=step), RGB, 1)
        yield GoodImage(f"nv21_{step}", image_fields("nv21", np.concatenate([LUMA, crcb]), step=step), RGB, 1)
    chroma = np.stack([_full(CB), _full(CR)], axis=-1).reshape(HEIGHT, 2 * WIDTH)
    yield GoodImage("nv24", image_fields("nv24", np.concatenate([LUMA, chroma.reshape(2 * HEIGHT, WIDTH)])), RGB, 1)
    yield from _driver_images()
    padded = image_fields("nv24", chroma, step=18)
    padded |= {"step": 9, "data": image_fields("nv24", LUMA, step=9)["data"] + padded["data"]}
    yield GoodImage("nv24_padded", padded, RGB, 1)
    yield GoodImage("rgb8_trailing_bytes", image_fields("rgb8", RGB, tail=b"\x07" * 100), RGB, 0)
    yield GoodImage("rgb8_1x1", image_fields("rgb8", RGB[:1, :1], height=1, width=1), RGB[:1, :1], 0)
    yield GoodImage("mono16_1xN", image_fields("mono16", wide(LUMA[:1], "<u2"), height=1), GREY[:1], 0)
    yield GoodImage("yuyv_odd_height", image_fields("yuyv", _packed_yuv("yuYv")[:3], height=3), RGB[:3], 1)


def _planes(*planes, step):
    """The bytes of planes one after the other; a row of one of half the width takes half a step."""
    rows = ((row, step * len(row) // WIDTH) for plane in planes for row in plane)
    return b"".join(row.tobytes() + b"\xee" * (room - len(row)) for row, room in rows)


def _driver_images():
    """What is not in image_encodings.hpp, but drivers publish."""
    three = {"i420": (CB, CR), "yv12": (CR, CB)}
    for encoding, order in (("i420", "i420"), ("yuv420", "i420"), ("yuv420p", "i420"), ("yv12", "yv12")):
        for step in (WIDTH, 10):
            fields = image_fields(encoding, LUMA) | {"step": step, "data": _planes(LUMA, *three[order], step=step)}
            yield GoodImage(f"{encoding}_{step}", fields, RGB, 1)
    tall = [plane.repeat(2, axis=0) for plane in (CB, CR)]
    for step in (WIDTH, 10):
        fields = image_fields("yuv422p", LUMA) | {"step": step, "data": _planes(LUMA, *tall, step=step)}
        yield GoodImage(f"yuv422p_{step}", fields, RGB, 1)
    for encoding, pair in (("nv12", (CB, CR)), ("nv21", (CR, CB)), ("NV12", (CB, CR))):
        chroma = np.stack(pair, axis=-1).reshape(2, WIDTH)
        for luma_step in (WIDTH, 8):  # the step is that of a row of all planes
            data = _planes(LUMA, chroma, step=luma_step)
            fields = image_fields(encoding, LUMA) | {"step": luma_step * 3 // 2, "data": data}
            yield GoodImage(f"{encoding}_shared_step_{luma_step}", fields, RGB, 1)
    for bits in (10, 12, 14):
        white = 2**bits - 1
        for name, pixels, rgb in (("mono", LUMA, GREY), ("bayer_grbg", _mosaic("grbg"), SOLID)):
            numbers = np.rint(pixels * (white / 255)).astype("<u2")
            yield GoodImage(f"{name}{bits}", image_fields(f"{name}{bits}", numbers), rgb, 0)


REFUSED_ENCODINGS = (
    *(f"{depth}C{n}" for depth in ("8S", "16S", "32S") for n in (1, 2, 3, 4)),
    *(f"{depth}C{n}" for depth in ("8U", "16U", "32F", "64F") for n in (2, 3, 4)),
)


def _bad_images():
    good = image_fields("rgb8", RGB)
    plain = bytes(4096)
    for encoding in (*REFUSED_ENCODINGS, "", "jpeg", "RGB8", "rgb8 ", "yuv411", "r\u00e9b8", "x" * 10_000):
        yield BadImage(
            f"encoding_{encoding[:12]}", good | {"encoding": encoding, "step": 192, "data": plain}, "encoding"
        )
    yield BadImage("step_0", good | {"step": 0}, "step")
    yield BadImage("step_short", good | {"step": 3 * WIDTH - 1}, "step")
    yield BadImage("step_in_pixels", image_fields("mono16", wide(LUMA, "<u2")) | {"step": WIDTH}, "step")
    yield BadImage("step_2^32-1", good | {"step": 2**32 - 1}, "truncated")
    yield BadImage("data_empty", good | {"data": b""}, "truncated")
    yield BadImage("data_short_by_1", good | {"data": good["data"][:-1]}, "truncated")
    yield BadImage("nv12_without_chroma", image_fields("nv12", LUMA), "truncated")
    cbcr = np.stack((CB, CR), axis=-1).reshape(2, WIDTH)
    nv12 = image_fields("nv12", np.concatenate([LUMA, cbcr]))
    between = nv12["data"][: HEIGHT * WIDTH] + bytes(2 * WIDTH) + nv12["data"][HEIGHT * WIDTH :]
    yield BadImage("nv12_rows_between_planes", nv12 | {"data": between}, "padding")
    yield BadImage("nv12_bytes_after_planes", nv12 | {"data": nv12["data"] + b"\0"}, "padding")
    yield BadImage("i420_odd_step", nv12 | {"encoding": "i420", "step": 7, "data": bytes(7 * 6)}, "padding")
    yield BadImage("0x0", good | {"height": 0, "width": 0, "step": 0, "data": b""}, "size")
    yield BadImage("height_0", good | {"height": 0}, "size")
    yield BadImage("width_0", good | {"width": 0}, "size")
    yield BadImage("2^31x2^31", good | {"height": 2**31, "width": 2**31}, "size")
    yield BadImage("2^32-1_wide", good | {"height": 1, "width": 2**32 - 1, "step": 2**32 - 1}, "size")
    for encoding in ("uyvy", "yuyv", "yuv422", "yuv422_yuy2", "nv12", "nv21"):
        yield BadImage(f"{encoding}_odd_width", good | {"encoding": encoding, "width": 5}, "size")
    yield BadImage("nv12_odd_height", good | {"encoding": "nv12", "height": 3}, "size")
    yield BadImage("bayer_2x2", good | {"encoding": "bayer_rggb8", "height": 2, "width": 2}, "size")
    for value, reason in ((np.nan, "not_finite"), (np.inf, "not_finite"), (-np.inf, "not_finite"), (1.001, "range")):
        for encoding, dtype in (("32FC1", "<f4"), ("64FC1", "<f8")):
            unit = (LUMA / 255).astype(dtype)
            unit[2, 3] = value
            yield BadImage(f"{encoding}_{value}", image_fields(encoding, unit), reason)
    yield BadImage("32FC1_negative", image_fields("32FC1", (LUMA / -255).astype("<f4")), "range")


# The picture of the files: six 16 x 16 blocks, whole JPEG blocks, so that a good encoder loses almost nothing.
BLOCKS = np.array(
    [[[220, 40, 40], [40, 200, 60], [50, 60, 210]], [[230, 220, 60], [30, 30, 30], [210, 210, 210]]], np.uint8
)
PICTURE = BLOCKS.repeat(16, axis=0).repeat(16, axis=1)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_file(height, width, depth, colour_type, rows):
    """A PNG written by hand. `rows` are the bytes of each row; colour types: 0 grey, 2 RGB, 4 grey + A, 6 RGBA."""

    def chunk(name, content):
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour_type, 0, 0, 0])
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_claiming(height, width):
    """The picture's JPEG with other dimensions in its header."""
    data = bytearray(saved(Image.fromarray(PICTURE), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def _good_files():
    picture = Image.fromarray(PICTURE)
    grey = Image.fromarray(PICTURE[..., 0])
    fine = {"quality": 100, "subsampling": 0}
    jpeg = saved(picture, "JPEG", **fine)
    for message_format in ("jpeg", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed bgr8", ""):
        yield GoodFile(f"jpeg_{message_format}", message_format, jpeg, PICTURE, 3)
    yield GoodFile("jpeg_trailing_zeros", "jpeg", jpeg + bytes(64), PICTURE, 3)
    yield GoodFile("jpeg_without_end", "jpeg", saved(picture, "JPEG", quality=90, subsampling=0)[:-2], PICTURE, 3)
    yield GoodFile(
        "jpeg_grey", "mono8; jpeg compressed ", saved(grey, "JPEG", quality=100), np.asarray(grey.convert("RGB")), 3
    )
    yield GoodFile("jpeg_progressive", "jpeg", saved(picture, "JPEG", progressive=True, **fine), PICTURE, 3)
    yield GoodFile("jpeg_cmyk", "jpeg", saved(picture.convert("CMYK"), "JPEG", **fine), PICTURE, 3)
    for kind in ("PNG", "BMP", "GIF", "TIFF"):
        yield GoodFile(kind, kind.lower(), saved(picture, kind), PICTURE, 0)
    yield GoodFile("WEBP", "webp", saved(picture, "WEBP", lossless=True), PICTURE, 0)
    yield GoodFile("png_called_jpeg", "bgr8; jpeg compressed bgr8", saved(picture, "PNG"), PICTURE, 0)
    yield GoodFile("png_palette", "png", saved(picture.quantize(8), "PNG"), PICTURE, 0)
    yield GoodFile(
        "png_grey16",
        "16UC1; png compressed ",
        png_file(4, 6, 16, 0, [row.tobytes() for row in wide(LUMA, ">u2")]),
        GREY,
        0,
    )
    yield GoodFile(
        "png_rgb16",
        "bgr16; png compressed bgr16",
        png_file(4, 6, 16, 2, [row.tobytes() for row in wide(RGB, ">u2")]),
        RGB,
        0,
    )
    mosaic = saved(Image.fromarray(_mosaic("gbrg")), "PNG")
    yield GoodFile("png_bayer", "bayer_gbrg8; png compressed ", mosaic, SOLID, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: the upright picture is the stored one turned clockwise
    yield GoodFile("jpeg_exif_6", "jpeg", saved(picture, "JPEG", exif=exif, **fine), np.rot90(PICTURE, -1), 3)


def _bad_files():
    picture = Image.fromarray(PICTURE)
    jpeg, png = saved(picture, "JPEG"), saved(picture, "PNG")
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 4
    yield BadFile("empty", "jpeg", b"", "empty")
    yield BadFile("html", "jpeg", b"<!DOCTYPE html><html><body>404</body></html>", "format")
    yield BadFile("text", "jpeg", "b\u00e4h".encode(), "format")
    yield BadFile("zeros", "jpeg", bytes(1000), "format")
    yield BadFile("jpeg_header_only", "jpeg", jpeg[:20], "corrupt")
    yield BadFile("jpeg_half", "jpeg", jpeg[: len(jpeg) // 2], "corrupt")
    progressive = saved(picture, "JPEG", progressive=True)
    yield BadFile("jpeg_progressive_without_end", "jpeg", progressive[:-2], "corrupt")
    yield BadFile("jpeg_arithmetic", "jpeg", jpeg.replace(b"\xff\xc0", b"\xff\xc9", 1), "unsupported")
    yield BadFile("jpeg_hole", "jpeg", jpeg[:-120] + jpeg[-60:], "corrupt")
    yield BadFile("jpeg_bomb", "jpeg", jpeg_claiming(65500, 65500), "size")
    yield BadFile("png_half", "png", png[: len(png) // 2], "corrupt")
    yield BadFile("png_flipped", "png", bytes(flipped), "corrupt")
    yield BadFile("png_bomb", "png", png_file(9000, 9000, 8, 2, [b""]), "size")
    yield BadFile("png_bomb_2^31", "png", png_file(2**31 - 1, 2**31 - 1, 8, 2, [b""]), "size")
    yield BadFile("png_without_pixels", "png", png[:33] + png[-12:], "corrupt")
    yield BadFile("png_without_palette", "png", png_file(4, 6, 8, 3, [bytes(6)] * 4), "corrupt")
    yield BadFile("depth", "16UC1; compressedDepth png", bytes(12) + png, "format")
    yield BadFile("tiff_float", "tiff", saved(Image.fromarray(np.ones((4, 6), np.float32)), "TIFF"), "depth")


def names(frames: Iterable[GoodImage | BadImage | GoodFile | BadFile]) -> list[str]:
    return [frame.name for frame in frames]


def assert_shown(rgb: np.ndarray, good: GoodImage | GoodFile) -> None:
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert rgb.shape == good.rgb.shape
    assert np.abs(rgb.astype(int) - good.rgb.astype(int)).max() <= good.tolerance


def assert_refused_as(bad: BadImage | BadFile, refusal: FrameError) -> None:
    assert refusal.reason == bad.reason
    assert len(str(refusal)) < 200
    assert "\n" not in str(refusal)


GOOD_IMAGES = list(_good_images())
BAD_IMAGES = list(_bad_images())
GOOD_COMPRESSED = list(_good_files())
BAD_COMPRESSED = list(_bad_files())

"""Owns: what becomes of transparency, of cameras and of files, and that a camera's picture is the same as a kept file.

Oracle: the pixels that were encoded; hand arithmetic; Pillow's compositing. Leaves to others: raw images (test_raw).
"""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from frames import PICTURE, saved
from PIL import Image

from cnn_perception.image.kept_file import as_file
from cnn_perception.image.messages import (
    EncodedFile,
    Overrides,
    decode,
    decode_content,
    decode_file_bytes,
    decode_frame,
)

ALPHAS = (0, 1, 128, 254)
COLOURS = np.random.default_rng(5).integers(0, 256, (6, 10, 3), np.uint8)


def with_alpha(alpha: int, kind: str = ".png", depth: type = np.uint8) -> bytes:
    """COLOURS as simulators encode them, by OpenCV, with the same alpha everywhere, in 255ths."""
    scale = np.iinfo(depth).max // 255
    bgra = np.dstack([COLOURS[..., ::-1], np.full(COLOURS.shape[:2], alpha)]).astype(depth) * depth(scale)
    return cv2.imencode(kind, bgra)[1].tobytes()


def over_white(data: bytes) -> np.ndarray:
    """What a viewer shows of a file, by Pillow."""
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(
    ("kind", "depth"), [(".png", np.uint8), (".png", np.uint16), (".tiff", np.uint8), (".tiff", np.uint16)]
)
def test_alpha_of_a_message_is_dropped_and_told(kind: str, depth: type, alpha: int):
    found = decode_frame(EncodedFile(with_alpha(alpha, kind, depth), "bgra8; png compressed "))
    assert np.array_equal(found.image, COLOURS)
    (told,) = found.seen.oddities
    assert (told.kind, told.harmless) == ("alpha_dropped", True)


@pytest.mark.parametrize(
    ("kind", "depth"), [(".png", np.uint8), (".png", np.uint16), (".tiff", np.uint8), (".tiff", np.uint16)]
)
def test_a_file_all_of_which_would_be_white_is_shown_without_its_alpha_and_it_is_told(kind: str, depth: type):
    found = decode_frame(EncodedFile.from_folder(with_alpha(0, kind, depth)))
    assert np.array_equal(found.image, COLOURS)
    assert [one.kind for one in found.seen.oddities] == ["alpha_dropped"]
    hidden = decode_frame(EncodedFile.from_folder(with_alpha(1, kind, depth)))
    assert hidden.image.min() > 250


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_opaque_alpha_is_nothing_odd(kind: str):
    found = decode_frame(EncodedFile(with_alpha(255, kind), ""))
    assert np.array_equal(found.image, COLOURS)
    assert not found.seen.oddities


def test_what_an_encoder_blanked_under_alpha_is_no_harmless_oddity():
    gone = saved(Image.new("RGBA", (8, 8), (200, 100, 0, 0)), "WEBP", lossless=True)  # libwebp writes 0 for the colours
    kept = saved(Image.new("RGBA", (8, 8), (200, 100, 0, 0)), "WEBP", lossless=True, exact=True)
    for data, colour in ((gone, (0, 0, 0)), (kept, (200, 100, 0))):
        found = decode_frame(EncodedFile(data, "webp"))
        assert (found.image == colour).all()
        (told,) = found.seen.oddities
        assert (told.kind, told.harmless) == ("alpha_dropped", False)
        assert "WEBP may have blanked" in told.text


def transparent_files() -> dict[str, bytes]:
    palette = Image.fromarray(PICTURE).quantize(16)
    grey = Image.fromarray(PICTURE).convert("L")
    return {
        "palette, one colour": saved(palette, "PNG", transparency=0),
        "palette, several": saved(palette, "PNG", transparency=bytes(range(16))),
        "grey and alpha": saved(Image.merge("LA", (grey, Image.new("L", grey.size, 9))), "PNG"),
        "grey key": saved(grey, "PNG", transparency=int(np.asarray(grey)[0, 0])),
        "colour key": saved(Image.fromarray(PICTURE), "PNG", transparency=tuple(map(int, PICTURE[0, 0]))),
        "gif": saved(palette, "GIF", transparency=3),
    }


@pytest.mark.parametrize("name", transparent_files())
def test_every_kind_of_transparency_is_dropped_in_a_message_and_composited_in_a_file(name: str):
    data = transparent_files()[name]
    opaque = Image.open(io.BytesIO(data)).convert("RGBA").convert("RGB")
    assert np.array_equal(decode(EncodedFile(data, "png")), np.asarray(opaque))
    composited = over_white(data)
    assert not np.array_equal(composited, np.asarray(opaque))
    assert np.array_equal(decode(EncodedFile.from_folder(data)), composited)
    assert np.array_equal(decode_file_bytes(data), composited)
    assert not decode_content(data).seen.oddities


@pytest.mark.parametrize("name", [*transparent_files(), "bgra", "bgra of 16 bits", "jpeg", "bgr"])
def test_a_kept_picture_of_a_camera_is_decoded_as_a_file_to_what_the_robot_saw(name: str):
    others = {
        "bgra": with_alpha(0),
        "bgra of 16 bits": with_alpha(77, depth=np.uint16),
        "jpeg": saved(Image.fromarray(PICTURE), "JPEG", quality=90),
        "bgr": saved(Image.fromarray(PICTURE), "PNG"),
    }
    message = EncodedFile((transparent_files() | others)[name], "png")
    seen = decode(message)
    content, suffix = as_file(message, seen)
    assert np.array_equal(decode_file_bytes(content), seen)
    assert suffix == (".jpg" if name == "jpeg" else ".png")
    assert (content == message.data) == (name in ("jpeg", "bgr"))


def test_a_file_of_a_folder_is_kept_byte_by_byte_with_the_alpha_that_is_meant():
    file = EncodedFile.from_folder(with_alpha(51))
    content, _ = as_file(file, decode(file))
    assert content == file.data
    assert np.array_equal(decode(file), decode_file_bytes(content))


@pytest.mark.parametrize("alpha", [0, 65535])
def test_alpha_is_no_number_by_which_bits_are_judged(alpha: int):
    bgra = np.full((6, 10, 4), 4000, np.uint16)
    bgra[..., 3] = alpha
    data = cv2.imencode(".png", bgra)[1].tobytes()
    assert decode_frame(EncodedFile(data, "")).seen.brightest == 4000
    known = decode_frame(EncodedFile(data, "", Overrides(significant_bits=12))).seen
    assert "significant_bits" not in [one.kind for one in known.oddities]

"""Owns: what is said of a readable image file of a data set. Leaves to others: sums over a data set (test_check)."""

from __future__ import annotations

import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from frames import saved
from PIL import Image

from cnn_perception.errors import FrameError
from cnn_perception.image.messages import read_image
from training.data.checks.findings import KINDS
from training.data.records import ImageFinding
from training.data.scan import BESIDE_PIXELS, NEARLY_BLACK, TRANSPARENT, Content, picture, read

PICTURE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8))


def notes(path: Path, data: bytes) -> tuple[str, ...]:
    path.write_bytes(data)
    found = read(path)
    assert isinstance(found, Content)
    assert all(note.startswith(KINDS) for note in found.notes)
    return found.notes


@pytest.mark.parametrize(("bits", "factor"), [(8, 256), (10, 64), (12, 16), (14, 4)])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 3)])
def test_numbers_of_few_bits_are_told_with_what_mends_them(
    tmp_path: Path, bits: int, factor: int, suffix: str, shape: tuple[int, ...]
):
    numbers = np.linspace(0, 2**bits - 1, math.prod(shape)).astype(np.uint16).reshape(shape)
    told = notes(tmp_path / "a", cv2.imencode(suffix, numbers)[1].tobytes())
    assert told == (f"{NEARLY_BLACK}: of its 16 bits only {bits} are used; multiply its numbers by {factor}",)
    assert notes(tmp_path / "b", cv2.imencode(suffix, numbers * factor)[1].tobytes()) == ()


def test_a_picture_all_of_which_is_transparent_is_not_called_composited(tmp_path: Path):
    pixels = np.asarray(PICTURE.convert("RGBA")).copy()
    pixels[..., 3] = 0
    (told,) = notes(tmp_path / "a.png", saved(Image.fromarray(pixels), "PNG"))
    assert told.startswith(f"{BESIDE_PIXELS}: every pixel of the PNG is transparent")
    pixels[0, 0, 3] = 255
    assert notes(tmp_path / "b.png", saved(Image.fromarray(pixels), "PNG")) == (TRANSPARENT,)


def test_stray_bytes_are_told_and_cost_no_image(tmp_path: Path):
    data = saved(PICTURE, "JPEG")
    (told,) = notes(tmp_path / "a.jpg", data[:20] + b"\x12\x34" + data[20:])
    assert told.startswith(f"{BESIDE_PIXELS}: ")
    assert notes(tmp_path / "b.jpg", data) == ()


def test_a_file_of_other_numbers_is_left_out_by_what_they_are(tmp_path: Path):
    path = tmp_path / "a.tif"
    path.write_bytes(cv2.imencode(".tiff", np.ones((4, 6, 3), np.float32))[1].tobytes())
    found = read(path)
    assert isinstance(found, ImageFinding)
    assert found.reason.startswith("depth: the TIFF's pixels are 3 floating-point numbers of 32 bits")


def test_a_file_with_holes_that_claims_terabytes_is_left_out_before_it_is_read(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(saved(PICTURE, "PNG"))
    try:
        os.truncate(path, 2**43)
    except OSError:
        pytest.skip("this file system has no files of 8 TiB")

    found = read(path)

    assert isinstance(found, ImageFinding)
    assert found.reason == "size: the file has 8796093022208 bytes; at most 2147483648 are accepted of a picture"
    assert picture(path) is None
    with pytest.raises(FrameError, match=r"a\.png: the file has 8796093022208 bytes") as error:
        read_image(path)
    assert error.value.reason == "size"


def test_a_larger_file_than_its_picture_is_read(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(saved(PICTURE, "PNG") + bytes(1000))

    assert isinstance(read(path), Content)

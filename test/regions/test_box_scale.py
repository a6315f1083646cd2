"""Owns: when the boxes of a camera are suspected to be in pixels of another image than theirs.

Oracle: boxes drawn at random all over an image, and the same as a detector with a smaller input gives them.
"""

from __future__ import annotations

import numpy as np
import pytest

from cnn_perception.regions.box import Box
from cnn_perception.regions.box_scale import LEAST_BOXES, BoxScale

ROWS, COLUMNS = 1080, 1920


def drawn(count: int, rows: float = ROWS, columns: float = COLUMNS) -> list[Box]:
    """Boxes all over an image, the first two in its upper left and lower right corner."""
    rng = np.random.default_rng(0)
    sides = rng.uniform(0.05, 0.3, (count, 2))
    places = rng.uniform(0.0, 1.0, (count, 2)) * (1.0 - sides)
    places[0], places[1] = 0.0, 1.0 - sides[1]
    low, size = places * (columns, rows), sides * (columns, rows)
    return [Box(*(corner + sides / 2), *sides) for corner, sides in zip(low, size, strict=True)]


def suspicion(boxes: list[Box], rows: int = ROWS, columns: int = COLUMNS) -> str:
    scale = BoxScale()
    for box in boxes:
        scale.add(box, rows, columns)
    return scale.suspicion


@pytest.mark.parametrize("side", [300, 320, 416, 512, 608, 640, 960])
@pytest.mark.parametrize("is_letterboxed", [False, True])
def test_boxes_in_pixels_of_the_input_of_a_detector_are_suspected(side: int, is_letterboxed: bool):
    rows = side * ROWS / COLUMNS if is_letterboxed else side
    said = suspicion(drawn(LEAST_BOXES, rows, side))

    assert f"upper left {side}x{side} pixels of images of 1920x1080" in said
    assert "perhaps" in said
    assert "boxes must be in pixels of these images" in said


@pytest.mark.parametrize("side", [100, 1000])
def test_boxes_per_cent_and_per_mille_are_suspected(side: int):
    assert f"{side}x{side}" in suspicion(drawn(LEAST_BOXES, side, side))


def test_boxes_that_reach_a_little_beyond_the_input_are_suspected():
    assert "640x640" in suspicion([*drawn(LEAST_BOXES, 640, 640), Box(600, 300, 100, 50)])


def test_boxes_of_the_image_itself_are_not_suspected():
    assert suspicion(drawn(1000)) == ""


def test_few_boxes_are_not_suspected():
    boxes = drawn(LEAST_BOXES, 640, 640)
    assert suspicion(boxes[:-1]) == ""
    assert suspicion(boxes) != ""


@pytest.mark.parametrize(("rows", "columns"), [(640, 1920), (640, 640), (1080, 640), (480, 640)])
def test_image_that_is_no_larger_on_either_side_is_not_suspected(rows: int, columns: int):
    assert suspicion(drawn(LEAST_BOXES, 640, 640), rows, columns) == ""
    assert suspicion(drawn(LEAST_BOXES, 640, 640), 641, 641) != ""


@pytest.mark.parametrize("outside", [Box(1000, 300, 50, 50), Box(300, 1000, 50, 50), Box(600, 300, 200, 50, 0.1)])
def test_one_box_outside_of_the_square_takes_the_suspicion_back(outside: Box):
    scale = BoxScale()
    for box in drawn(LEAST_BOXES, 640, 640):
        scale.add(box, ROWS, COLUMNS)
    assert scale.suspicion
    scale.add(outside, ROWS, COLUMNS)
    assert scale.suspicion == ""
    for box in drawn(LEAST_BOXES - 2, 640, 640):
        scale.add(box, ROWS, COLUMNS)
    assert scale.suspicion == ""


@pytest.mark.parametrize(
    ("thing", "rows", "columns"),
    [
        (Box(150, 150, 200, 200), 1080, 1920),
        (Box(250, 360, 180, 500), 720, 1280),
        (Box(200, 230, 150, 340), 480, 640),
        (Box(150, 150, 250, 250), 480, 640),
    ],
)
def test_thing_that_stays_in_the_corner_is_not_suspected_however_large(thing: Box, rows: int, columns: int):
    shaken = np.random.default_rng(0).normal(0.0, 5.0, (5 * LEAST_BOXES, 2))
    boxes = [Box(thing.x + dx, thing.y + dy, thing.width, thing.height) for dx, dy in shaken]
    assert suspicion(boxes, rows, columns) == ""


def test_images_of_another_size_are_judged_anew():
    scale = BoxScale()
    scale.add(Box(1900, 1000, 20, 20), ROWS, COLUMNS)
    for box in drawn(LEAST_BOXES, 640, 640):
        scale.add(box, 720, 1280)
    assert "1280x720" in scale.suspicion
    scale.add(Box(20, 20, 20, 20), ROWS, COLUMNS)
    assert scale.suspicion == ""

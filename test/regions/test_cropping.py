"""Owns: which pixels a box shows, padded, squared, turned, clipped, and which boxes show none.

Oracle: images whose pixels say where they are. Leaves to others: what is answered (test_answering), messages (live).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.image.messages import RgbImage
from cnn_perception.regions.box import Box
from cnn_perception.regions.cropping import CropSettings, crop

ROWS, COLUMNS = 40, 60
FILL = (1, 2, 3)
AS_IT_IS = CropSettings()


def places() -> RgbImage:
    """Each pixel's red is its row, its green its column."""
    image = np.full((ROWS, COLUMNS, 3), 200, np.uint8)
    image[..., 0] = np.arange(ROWS)[:, None]
    image[..., 1] = np.arange(COLUMNS)[None]
    return RgbImage(image)


def of(left: float, top: float, right: float, bottom: float, **fields: float) -> Box:
    return Box((left + right) / 2, (top + bottom) / 2, right - left, bottom - top, **fields)


def shown(box: Box, settings: CropSettings = AS_IT_IS) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the pixels of an upright crop."""
    part = crop(places(), box, settings, FILL)
    assert part.flags.c_contiguous
    assert (part[0, 0, 2], part.dtype) == (200, np.uint8)
    return int(part[0, 0, 1]), int(part[0, 0, 0]), int(part[-1, -1, 1]) + 1, int(part[-1, -1, 0]) + 1


def test_box_from_edge_to_edge_shows_just_its_pixels():
    assert shown(of(10, 5, 30, 25)) == (10, 5, 30, 25)
    assert shown(of(0, 0, COLUMNS, ROWS)) == (0, 0, COLUMNS, ROWS)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (of(-10, 5, 30, 25), (0, 5, 30, 25)),
        (of(50, 30, 90, 70), (50, 30, COLUMNS, ROWS)),
        (of(-8e307, -8e307, 8e307, 8e307), (0, 0, COLUMNS, ROWS)),
        (of(10.4, 5.4, 29.6, 24.6), (10, 5, 30, 25)),
        (of(10.2, 5.2, 12.3, 7.3), (10, 5, 12, 7)),
        (of(-5, -5, 0.1, 0.1), (0, 0, 1, 1)),
        (of(59.9, 39.9, 80, 80), (59, 39, 60, 40)),
    ],
)
def test_box_is_clipped_to_the_image_and_rounded_to_at_least_one_pixel(box, expected):
    assert shown(box) == expected


def test_padding_is_a_share_of_each_side_and_square_comes_first():
    assert shown(of(20, 10, 40, 20), CropSettings(padding=0.25)) == (15, 8, 45, 23)
    assert shown(of(20, 10, 40, 20), CropSettings(square=True)) == (20, 5, 40, 25)
    assert shown(of(20, 10, 30, 20), CropSettings(padding=0.5, square=True)) == (15, 5, 35, 25)
    with pytest.raises(ConfigError, match="padding is -1"):
        CropSettings(padding=-1)


@pytest.mark.parametrize("theta", [0.0, 0.3, math.pi / 2])
@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (of(-30, -30, -20, -20), "box_outside"),
        (of(COLUMNS + 20, 0, COLUMNS + 30, 10), "box_outside"),
        (of(1e300, 0, 1.1e300, 10), "box_outside"),
        (Box(30, 20, 0, 10), "box_empty"),
        (Box(30, 20, 10, -10), "box_empty"),
        (Box(0.5, 0.5, 0.3, 0.4), "box_too_small"),
        (Box(0.5, 0.5, 1.0, 1.0), "box_too_small"),
        (Box(30, 20, 10, 1.99), "box_too_small"),
        (Box(30, 20, 1.99, 10), "box_too_small"),
        (Box(500, 500, 1.0, 1.0), "box_too_small"),
        (Box(math.nan, 20, 10, 10), "box_not_finite"),
        (Box(30, 20, math.inf, 10), "box_not_finite"),
    ],
)
def test_box_that_shows_nothing_is_refused_by_reason(box: Box, reason: str, theta: float):
    turned = Box(box.x, box.y, box.width, box.height, theta)
    with pytest.raises(FrameError) as refused:
        crop(places(), turned, AS_IT_IS, FILL)
    assert refused.value.reason == reason


@pytest.mark.parametrize("settings", [AS_IT_IS, CropSettings(padding=4.0), CropSettings(square=True)])
def test_box_is_judged_by_its_own_sides_and_the_refusal_says_what_they_are(settings: CropSettings):
    with pytest.raises(FrameError, match=r"0\.3 x 0\.4 pixels; boxes are in pixels of the image, not in shares of it"):
        crop(places(), Box(0.5, 0.5, 0.3, 0.4), settings, FILL)
    assert min(crop(places(), Box(30, 20, 2, 2), settings, FILL).shape[:2]) >= 2


def test_theta_that_is_no_number_is_refused():
    with pytest.raises(FrameError) as refused:
        crop(places(), Box(30, 20, 10, 10, math.nan), AS_IT_IS, FILL)
    assert refused.value.reason == "box_not_finite"


def test_turned_box_is_turned_back_counterclockwise_as_one_sees_the_image():
    """A quarter turn counterclockwise: the box's own x axis points up, its y axis to the right."""
    part = crop(places(), Box(30, 20, 10, 6, math.pi / 2), AS_IT_IS, FILL)

    assert part.shape == (6, 10, 3)
    upright = places()[15:25, 27:33]
    np.testing.assert_array_equal(part, np.rot90(upright, -1))


def test_turn_of_a_whole_circle_changes_no_pixel_and_half_of_it_turns_the_box_over():
    box = of(10, 5, 30, 25)
    around = Box(box.x, box.y, box.width, box.height, 2 * math.pi)
    over = Box(box.x, box.y, box.width, box.height, math.pi)

    np.testing.assert_array_equal(crop(places(), around, AS_IT_IS, FILL), places()[5:25, 10:30])
    np.testing.assert_array_equal(crop(places(), over, AS_IT_IS, FILL), places()[5:25, 10:30][::-1, ::-1])


def test_outside_of_the_image_a_turned_box_shows_the_fill():
    part = crop(places(), Box(30, 20, 400, 400, math.pi / 4), AS_IT_IS, FILL)

    assert part.shape[0] == part.shape[1] == round((ROWS + COLUMNS) / math.sqrt(2))
    assert tuple(part[0, 0]) == FILL
    assert abs(int(part[part.shape[0] // 2, part.shape[1] // 2, 1]) - 30) <= 1


def test_turned_box_beside_the_corner_of_an_image_is_outside():
    """Its bounding rectangle meets the image, and the image's, in its own axes, meets it: it does not."""
    with pytest.raises(FrameError) as refused:
        crop(places(), Box(-8, -8, 40, 4, math.pi / 4), AS_IT_IS, FILL)
    assert refused.value.reason == "box_outside"


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-100, 100)


@example(4.3e16, 0.0, 1.5e16, 2.4e16, 1.0, 1.0, False)  # edges known to eight pixels only
@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.floats(0, 4), st.booleans())
def test_any_box_shows_pixels_or_is_refused(x, y, width, height, theta, padding, square):
    refusals = []
    part = None
    try:
        part = crop(places(), Box(x, y, width, height, theta), CropSettings(padding, square), FILL)
    except FrameError as refused:
        refusals.append(refused.reason)
    if part is None:
        assert refusals[0] in ("box_not_finite", "box_empty", "box_too_small", "box_outside")
        return
    assert part.ndim == 3
    assert min(part.shape[:2]) >= 1
    assert max(part.shape[:2]) <= math.ceil(math.hypot(ROWS, COLUMNS))

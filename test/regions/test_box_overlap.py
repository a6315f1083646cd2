"""Owns: how much of two boxes is of both, upright and turned.

Oracle: areas by hand, and points of a fine grid of which each says whether it lies in a box.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_perception.regions.box import Box

QUARTER = math.pi / 2
OCTAGON = 8 * (math.sqrt(2) - 1)
"""The area that two squares of 2 x 2 share where one is turned by an eighth of a circle."""
IN_STRIP = 4 - 2 * (math.sqrt(2) - 1) ** 2
"""That of an upright square of 2 x 2 in a diagonal strip of width 2: two corners, right triangles, lie outside."""


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Box(10, 10, 8, 4), Box(10, 10, 8, 4), 1.0),
        (Box(10, 10, 8, 4), Box(14, 10, 8, 4), 16 / 48),
        (Box(10, 10, 8, 4), Box(18, 10, 8, 4), 0.0),
        (Box(10, 10, 8, 4, QUARTER), Box(10, 10, 4, 8), 1.0),
        (Box(10, 10, 8, 4, QUARTER), Box(10, 10, 8, 4), 16 / 48),
        (Box(10, 10, 8, 4, 0.7), Box(10, 10, 8, 4, 0.7 + math.pi), 1.0),
        (Box(0, 0, 2, 2, QUARTER / 2), Box(0, 0, 2, 2), OCTAGON / (8 - OCTAGON)),
        (Box(0, 0, 40, 2, QUARTER / 2), Box(10, -10, 2, 2), IN_STRIP / (84 - IN_STRIP)),
        (Box(0, 0, 40, 2, QUARTER / 2), Box(10, 10, 2, 2), 0.0),
        (Box(500, 300, 8, 4, 0.7), Box(10, 10, 8, 4, 0.7), 0.0),
    ],
)
def test_overlap_of_boxes_by_hand(one: Box, other: Box, expected: float):
    assert one.overlap(other) == pytest.approx(expected, abs=1e-9)
    assert other.overlap(one) == pytest.approx(expected, abs=1e-9)


SOUND = Box(10, 10, 8, 4)


@pytest.mark.parametrize("theta", [0.0, 0.3])
@pytest.mark.parametrize(
    "numbers", [(math.nan, 10, 8, 4), (10, 10, math.inf, 4), (10, 10, -8, 4), (10, 10, -8, -4), (10, 10, 0, 4)]
)
def test_box_that_is_none_overlaps_with_nothing(numbers, theta: float):
    none = Box(*numbers, theta)
    assert [none.overlap(SOUND), SOUND.overlap(none), none.overlap(none)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("theta", [math.nan, math.inf])
def test_turn_that_is_no_number_overlaps_with_nothing(theta: float):
    assert SOUND.overlap(Box(10, 10, 8, 4, theta)) == 0.0


def holds(box: Box, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Whether each point lies in a box: a complex number turned back by its angle; the image's y points down."""
    seen = ((xs - box.x) - 1j * (ys - box.y)) * np.exp(-1j * box.theta)
    return (abs(seen.real) <= box.width / 2) & (abs(seen.imag) <= box.height / 2)


PLACES, LENGTHS, TURNS = st.floats(-10, 10), st.floats(8, 20), st.floats(-7, 7)
BOXES = st.builds(Box, PLACES, PLACES, LENGTHS, LENGTHS, TURNS)


@settings(max_examples=50)
@given(BOXES, BOXES)
def test_overlap_is_the_share_of_the_points_that_are_in_both(one: Box, other: Box):
    xs, ys = np.meshgrid(*[np.arange(-25, 25, 0.0625) + 0.03] * 2)
    first, second = holds(one, xs, ys), holds(other, xs, ys)
    expected = (first & second).sum() / (first | second).sum()
    assert one.overlap(other) == pytest.approx(expected, abs=0.03)

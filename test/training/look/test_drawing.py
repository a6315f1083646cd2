"""Owns: small pictures beside each other, framed and shaded. Leaves to others: what they show."""

from __future__ import annotations

import numpy as np
import pytest

from training.look.drawing import RIGHT, crop, framed, grid, heat, lit, square

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [(20, 30, (15, 25, 25, 35)), (0, 0, (0, 10, 0, 10)), (39, 59, (30, 40, 50, 60))],
)
def test_a_crop_is_around_its_place_and_inside_the_picture(row, column, expected):
    rows, columns = crop(np.zeros((40, 60, 3), np.uint8), row + 0.5, column + 0.5, 10)

    assert (rows.stop - rows.start, columns.stop - columns.start) == (10, 10)
    assert np.abs(np.array([rows.start, rows.stop, columns.start, columns.stop]) - expected).max() <= 1
    assert 0 <= rows.start < rows.stop <= 40
    assert 0 <= columns.start < columns.stop <= 60


def test_a_crop_larger_than_the_picture_is_the_picture():
    assert crop(np.zeros((8, 5, 3), np.uint8), 3, 3, 20) == (slice(0, 8), slice(0, 5))


def test_pictures_stand_in_rows_with_white_between_them():
    pictures = [np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)]

    sheet = grid(pictures, 2, gap=2)

    assert sheet.shape == (10, 14, 3)
    assert [int(sheet[2, 2, 0]), int(sheet[2, 10, 0]), int(sheet[8, 2, 0]), int(sheet[8, 10, 0])] == [10, 20, 30, 255]
    assert (sheet[4:6] == 255).all()


def test_a_square_is_the_middle_and_a_frame_covers_the_border_of_a_copy():
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, 10:30] = 200

    middle = square(picture, 20)
    drawn = framed(middle, RIGHT, 2)

    assert (middle == 200).all()
    assert (drawn[:2] == RIGHT).all()
    assert (drawn[2:-2, 2:-2] == 200).all()
    assert (middle == 200).all()


def test_a_map_lights_or_colours_where_it_is_strong_alone():
    picture = RNG.integers(1, 255, (6, 8, 3), np.uint8)
    strength = np.zeros((6, 8), np.float32)
    strength[:3] = 1

    light, colored = lit(picture, strength), heat(picture, strength)

    np.testing.assert_array_equal(light[:3], picture[:3])
    assert (light[3:] < picture[3:]).all()
    np.testing.assert_array_equal(colored[3:], picture[3:])
    assert colored[:3, :, 0].mean() > colored[:3, :, 2].mean() + 50  # red

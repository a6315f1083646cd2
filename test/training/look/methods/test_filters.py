"""Owns: what a filter prefers, against filters made to prefer it. Leaves to others: how filters are shown."""

from __future__ import annotations

import numpy as np
import pytest

from training.look.methods.filters import as_picture, preference

RED, YELLOW, GREY = (1.0, -0.5, -0.5), (0.5, 0.5, -1.0), (1.0, 1.0, 1.0)


def gabor(angle_deg: float, wavelength: float, colour, side: int = 11) -> np.ndarray:
    """Stripes along `angle_deg`, counter-clockwise from horizontal, as (3, side, side)."""
    rows, columns = np.mgrid[:side, :side] - side // 2
    angle = np.radians(angle_deg)
    across = columns * np.sin(angle) + rows * np.cos(angle)  # rows count downwards
    stripes = np.sin(2 * np.pi * across / wavelength) * np.exp(-(rows**2 + columns**2) / 18)
    return np.multiply.outer(np.array(colour), stripes)


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 120, 165])
@pytest.mark.parametrize("wavelength", [4, 6])
def test_stripes_are_found_by_their_angle_and_wavelength(angle, wavelength):
    found = preference(gabor(angle, wavelength, GREY))

    assert found.colour == "grey"
    assert found.orientation_deg is not None
    assert found.wavelength_px is not None
    assert abs((found.orientation_deg - angle + 90) % 180 - 90) < 6
    assert found.wavelength_px == pytest.approx(wavelength, rel=0.15)


@pytest.mark.parametrize(
    ("colour", "name"),
    [(RED, "red against cyan"), (YELLOW, "yellow against blue"), ((0.5, -1, 0.5), "green against magenta")],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_opponent_colours_are_told_whatever_their_sign(colour, name, sign):
    found = preference(sign * gabor(60, 5, colour))

    assert found.colour == name
    assert found.kind == "coloured edges and stripes"


def test_an_even_patch_is_a_blob_and_has_no_direction():
    bump = gabor(0, 1e9, GREY) * 0 + np.exp(-np.add.outer(np.arange(-3, 4) ** 2, np.arange(-3, 4) ** 2) / 4)[:1].sum()

    assert preference(bump).kind == "grey blobs"
    assert preference(np.zeros((3, 5, 5))).orientation_deg is None
    assert preference(np.ones((3, 1, 1))).orientation_deg is None


def test_a_picture_of_a_filter_is_grey_where_it_has_no_weight_and_full_where_it_has_most():
    weights = np.zeros((3, 2, 2))
    weights[0, 0, 0], weights[2, 1, 1] = 2.0, -2.0

    np.testing.assert_array_equal(as_picture(weights)[0, 0], [255, 128, 128])
    np.testing.assert_array_equal(as_picture(weights)[1, 1], [128, 128, 0])
    np.testing.assert_array_equal(as_picture(weights)[0, 1], [128, 128, 128])

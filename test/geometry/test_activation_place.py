"""Owns: activation map -> place in the image. Oracle: hand arithmetic, the centre of light of a picture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_images import blob
from tiny_model import tiny_spec

from cnn_perception.geometry.activation_place import place_of
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import ActivationSpec, InputSpec
from cnn_perception.pipeline.preprocess import preprocess


def spec_of(height: int, width: int, mode: str, rows: int, columns: int, offset=None):
    """Cells that divide the input evenly, or begin at `offset`."""
    stride = (height / rows, width / columns)
    offset = offset or ((stride[0] - 1) / 2, (stride[1] - 1) / 2)
    fraction = 0.875 if mode == "crop" else 1.0
    made = InputSpec(height, width, mode, fraction, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    grid = ActivationSpec("cam", rows, columns, stride, (1, 1), offset)
    return dataclasses.replace(tiny_spec(input=made), activation=grid)


def seen(picture: np.ndarray, spec) -> np.ndarray:
    """The map of a network that averages the light in each cell."""
    image = RgbImage(np.repeat((255 * picture).round().astype(np.uint8)[:, :, None], 3, axis=2))
    tensor = preprocess(image, spec.input)[0]
    rows, columns = spec.activation.rows, spec.activation.columns
    return tensor.reshape(rows, tensor.shape[0] // rows, columns, tensor.shape[1] // columns).mean((1, 3))


@pytest.mark.parametrize("mode", ["crop", "letterbox", "squash"])
@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (300, 901), (120, 90)])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.47, 0.62)])
def test_light_at_a_place_of_the_image_is_found_there(mode, height, width, place):
    spec = spec_of(224, 160, mode, 56, 40)
    u, v = place[0] * width, place[1] * height
    sigma = 0.06 * min(height, width)
    found = place_of(seen(blob(u, v, height, width, sigma), spec), spec, height, width)
    assert found.centroid == pytest.approx((u, v), abs=0.05 * sigma)
    assert found.peak == pytest.approx((u, v), abs=0.3 * sigma)


def test_cells_of_single_pixels_are_the_pixels():
    spec = spec_of(6, 8, "squash", 6, 8)
    activation = np.zeros((6, 8), np.float32)
    activation[2, 5] = 3.0
    for found in dataclasses.astuple(place_of(activation, spec, 6, 8)):
        assert found == pytest.approx((5.0, 2.0))
    # the same in an image of twice the height: pixel (5, 2) of the input covers the rows 4 and 5
    assert place_of(activation, spec, 12, 8).centroid == pytest.approx((5.0, 4.5))


def test_cells_lie_where_the_spec_says():
    # cells at input pixels 0, 16, 32, 48: not evenly spread, as behind padded convolutions of stride 16
    spec = spec_of(64, 64, "squash", 4, 4, offset=(0.0, 0.0))
    activation = np.zeros((4, 4), np.float32)
    activation[3, 0] = 1.0
    # input pixel 48 is the pixels 144, 145, 146 of an image three times as high, 0 the pixels 0, 1 of one twice as wide
    assert place_of(activation, spec, 192, 128).peak == pytest.approx((0.5, 145.0))


def test_the_peak_is_found_between_cells():
    spec = spec_of(7, 7, "squash", 7, 7)
    for u in np.linspace(2.0, 4.0, 21):
        for sigma in (0.7, 1.0, 2.0):
            found = place_of(blob(u, 3.2, 7, 7, sigma).astype(np.float32), spec, 7, 7)
            assert found.peak == pytest.approx((u, 3.2), abs=0.11)


def test_a_peak_at_the_edge_of_the_map_stays_at_its_cell():
    spec = spec_of(7, 7, "squash", 7, 7)
    found = place_of(blob(0.3, 6.0, 7, 7, 1.0).astype(np.float32), spec, 7, 7)
    assert found.peak == pytest.approx((0.0, 6.0))


def test_a_plateau_has_a_peak():
    spec = spec_of(7, 7, "squash", 7, 7)
    assert place_of(np.ones((7, 7), np.float32), spec, 7, 7).centroid == pytest.approx((3.0, 3.0))
    assert place_of(np.ones((7, 7), np.float32), spec, 7, 7).peak == pytest.approx((0.0, 0.0))


def test_what_speaks_against_the_class_pulls_nothing():
    spec = spec_of(7, 7, "squash", 7, 7)
    activation = np.full((7, 7), -5.0, np.float32)
    activation[1, 1] = 1.0
    activation[1, 5] = 3.0
    assert place_of(activation, spec, 7, 7).centroid == pytest.approx((4.0, 1.0))  # (1 + 3 * 5) / 4


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_where_nothing_speaks_for_the_class_there_is_no_place(value):
    spec = spec_of(7, 7, "squash", 7, 7)
    assert place_of(np.full((7, 7), value, np.float32), spec, 7, 7) is None


def test_a_model_without_a_map_looks_nowhere():
    spec = spec_of(7, 7, "squash", 7, 7)
    assert place_of(None, spec, 7, 7) is None
    assert place_of(np.ones((7, 7), np.float32), dataclasses.replace(spec, activation=None), 7, 7) is None


def test_the_padding_of_a_letterbox_is_nowhere_in_the_image():
    # an image twice as wide as high fills the rows 2 to 5 of 8
    spec = spec_of(8, 8, "letterbox", 8, 8)
    activation = np.zeros((8, 8), np.float32)
    activation[0, 0] = 9.0
    assert place_of(activation, spec, 8, 16) is None
    activation[4, 6] = 1.0
    # the input's pixel (4, 6) is the rows 4 and 5, the columns 12 and 13 of the image
    assert place_of(activation, spec, 8, 16).centroid == pytest.approx((12.5, 4.5))
    assert place_of(activation, spec, 8, 16).peak == pytest.approx((12.5, 4.5))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from(["crop", "letterbox", "squash"]),
    st.lists(st.floats(-1.0, 1.0, width=32), min_size=35, max_size=35),
)
def test_the_place_is_always_in_the_image(height, width, mode, values):
    spec = spec_of(224, 320, mode, 5, 7)
    found = place_of(np.array(values, np.float32).reshape(5, 7), spec, height, width)
    for u, v in () if found is None else (found.peak, found.centroid):
        assert -0.5 <= u <= width - 0.5
        assert -0.5 <= v <= height - 0.5

"""Owns: the classifier run over a whole image: which cell says what, and where in the image that is.

Leaves to others: the graph that computes it (test_score_map_graph), the rays of a camera (test_camera_model).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from tiny_model import GAIN, as_multilabel, regression_spec, tiny_spec, with_score_map, write_tiny_model

from cnn_perception.errors import ConfigError, FrameError, ModelError
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.pipeline import score_map
from cnn_perception.pipeline.score_map import MOST_PIXELS, Cells, dense_scores

CPU = SessionOptions(["CPUExecutionProvider"])
RED, GREEN = (255, 0, 0), (0, 255, 0)


def load(folder, spec=None):
    return OnnxModel(write_tiny_model(folder / "m.onnx", spec=with_score_map(spec or tiny_spec())), CPU)


def grey(height, width):
    return np.full((height, width, 3), 80, np.uint8)


def test_every_cell_is_the_answer_to_the_window_around_its_pixel(tmp_path):
    model = load(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (24 + 3 * 8, 32 + 5 * 8, 3), np.uint8)

    found = dense_scores(model, image)

    assert found.logits.shape == (3, 4, 6)
    assert found.cells == Cells(stride=(8, 8), window=(24, 32), offset=(11.5, 15.5))
    for row in range(4):
        for column in range(6):
            v, u = found.cells.pixel(row, column)
            top = round(v - 11.5)
            left = round(u - 15.5)
            window = image[top : top + 24, left : left + 32]
            expected = GAIN * window.mean((0, 1)) / 255  # by the model's definition
            np.testing.assert_allclose(found.logits[:, row, column], expected, rtol=1e-5)


def test_an_image_of_the_models_own_size_has_one_cell_with_its_logits(tmp_path):
    model = load(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)

    found = dense_scores(model, image)

    (alone,) = model.run((image.transpose(2, 0, 1)[None] / 255).astype(np.float32))
    np.testing.assert_allclose(found.logits[:, 0, 0], alone.logits, rtol=1e-5)
    assert found.logits.shape == (3, 1, 1)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_patch_is_found_at_the_pixels_it_was_drawn_at_whatever_the_scale(tmp_path, scale):
    image = np.zeros((192, 256, 3), np.uint8)
    image[96 - 12 : 96 + 12, 160 - 16 : 160 + 16] = GREEN  # centred at (95.5, 159.5)

    found = dense_scores(load(tmp_path), image, scale)

    cells = found.cells
    strength = found.logits[1].astype(np.float64)
    rows, columns = np.indices(strength.shape)
    centre = [(strength * index).sum() / strength.sum() for index in (rows, columns)]
    assert cells.pixel(*centre) == pytest.approx((95.5, 159.5), abs=0.1 / scale)  # what a resize blurs
    assert cells.stride == (8 / scale, 8 / scale)
    assert cells.window == (24 / scale, 32 / scale)


def test_pixels_and_cells_are_each_others_inverse():
    cells = Cells(stride=(8.0, 4.0), window=(24.0, 12.0), offset=(11.5, 5.5))

    assert cells.pixel(2, 3) == (27.5, 17.5)
    assert cells.cell(27.5, 17.5) == (2, 3)


@pytest.mark.parametrize(
    ("height", "width", "cells", "first"),
    [(6, 8, (1, 1), (2.5, 3.5)), (12, 48, (1, 9), (5.5, 7.5)), (1, 1, (2, 1), (-0.125, 0.0))],
)
def test_an_image_smaller_than_the_window_is_enlarged_until_it_fills_it(tmp_path, height, width, cells, first):
    image = grey(height, width)

    found = dense_scores(load(tmp_path), image)

    assert found.logits.shape[1:] == cells
    np.testing.assert_allclose(found.logits, GAIN * 80 / 255, rtol=1e-5)
    assert found.cells.pixel(0, 0) == first


def test_scores_are_those_of_the_task_at_the_models_temperature(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    warm = dataclasses.replace(tiny_spec(), temperature=2.0)

    one = dense_scores(load(tmp_path, warm), image)
    several = dense_scores(load(tmp_path, as_multilabel(warm, 0.5, 0.5, 0.5)), image)
    numbers = dense_scores(load(tmp_path, regression_spec({"x": "m", "y": "m", "z": "m"})), image)

    exponentials = np.exp(one.logits.astype(np.float64) / 2)
    np.testing.assert_allclose(one.scores, exponentials / exponentials.sum(0), rtol=1e-5)
    np.testing.assert_allclose(several.scores, 1 / (1 + np.exp(-several.logits / 2)), rtol=1e-5)
    np.testing.assert_array_equal(numbers.scores, numbers.logits)


def test_a_class_is_chosen_by_name_or_by_the_highest_cell(tmp_path):
    image = grey(48, 64)
    image[:24, :32] = RED
    image[24:, 32:] = (0, 200, 0)

    found = dense_scores(load(tmp_path), image)

    np.testing.assert_array_equal(found.of("green"), found.scores[1])
    np.testing.assert_array_equal(found.of(""), found.scores[0])
    with pytest.raises(ConfigError, match="the model has no class 'pink'"):
        found.of("pink")


def test_the_map_is_that_of_the_colours_after_the_models_normalisation(tmp_path):
    normalised = dataclasses.replace(tiny_spec().input, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))

    found = dense_scores(load(tmp_path, tiny_spec(input=normalised)), grey(24, 32))

    expected = GAIN * (80 / 255 - np.array(normalised.mean)) / normalised.std
    np.testing.assert_allclose(found.logits[:, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(tmp_path, scale):
    with pytest.raises(ConfigError, match=r"scale is .*; choose a number above 0"):
        dense_scores(load(tmp_path), grey(24, 32), scale)


def test_an_image_that_would_become_too_large_is_dropped(tmp_path):
    with pytest.raises(FrameError, match="lower the scale") as caught:
        dense_scores(load(tmp_path), grey(24, 32), 1000.0)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize(
    ("most_pixels", "scale", "words"),
    [
        (48 * 64 - 1, 1.0, "64x48 pixels are more than 3071 in all; lower the scale, or raise score_map_max_pixels"),
        (MOST_PIXELS, 36.0, "2304x1728 pixels make more than 100000 scores of 3 classes; lower the scale"),
        (2**40, 200.0, "12800x9600 pixels are more than 8192 a side; lower the scale"),
    ],
)
def test_a_map_that_would_take_too_much_memory_is_refused_before_anything_is_allocated(
    tmp_path, monkeypatch, most_pixels, scale, words
):
    model = load(tmp_path)
    monkeypatch.setattr(score_map, "preprocess", lambda *_: pytest.fail("an image of this size is made"))
    monkeypatch.setattr(score_map, "MOST_NUMBERS", 100_000)  # 213 x 285 cells
    with pytest.raises(FrameError, match=words) as caught:
        dense_scores(model, grey(48, 64), scale, most_pixels)
    assert caught.value.reason == "too_large"


def test_the_largest_map_that_is_allowed_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(score_map, "MOST_NUMBERS", 3 * 4 * 5)
    assert dense_scores(load(tmp_path), grey(48, 64), 1.0, 48 * 64).logits.shape == (3, 4, 5)


def test_answers_that_are_not_numbers_are_never_given(tmp_path):
    path = write_tiny_model(tmp_path / "m.onnx", spec=with_score_map(tiny_spec()), gain=float("nan"))
    with pytest.raises(FrameError, match="NaN or Inf"):
        dense_scores(OnnxModel(path, CPU), np.zeros((24, 32, 3), np.uint8))


def test_a_model_without_a_map_says_so(tmp_path):
    model = OnnxModel(write_tiny_model(tmp_path / "m.onnx"), CPU)

    with pytest.raises(ModelError, match=r"m\.onnx: has no score map"):
        dense_scores(model, grey(24, 32))
    with pytest.raises(ModelError, match=r"m\.onnx: has no score map"):
        model.score_map(np.zeros((1, 3, 24, 32), np.float32))


def test_a_file_that_was_replaced_since_it_was_loaded_is_not_mixed_with_the_old_one(tmp_path):
    model = load(tmp_path)
    write_tiny_model(tmp_path / "m.onnx", spec=with_score_map(tiny_spec()), gain=3.0)

    with pytest.raises(ModelError, match="has been replaced since it was loaded; reload the model"):
        dense_scores(model, grey(24, 32))


def test_a_graph_whose_size_is_not_free_does_not_load_as_one_with_a_map(tmp_path):
    path = write_tiny_model(tmp_path / "m.onnx")
    other = write_tiny_model(tmp_path / "other.onnx", spec=with_score_map(tiny_spec()))
    model = onnx.load(path)
    described = onnx.load(other)
    del model.metadata_props[:]
    model.metadata_props.extend(described.metadata_props)
    onnx.save(model, path)

    with pytest.raises(ModelError, match="its input is"):
        OnnxModel(path, CPU)


@pytest.mark.parametrize(("corner", "binning"), [((0, 0), (1, 1)), ((40, 20), (0, 0)), ((40, 20), (2, 4))])
def test_the_camera_matrix_of_the_map_sends_a_point_to_the_cell_of_its_pixel(corner, binning):
    fx, fy, cx, cy = 600.0, 610.0, 630.0, 350.0
    point = np.array([0.2, -0.1, 1.5])
    sensor = np.array([fx * point[0] / point[2] + cx, fy * point[1] / point[2] + cy])
    steps = np.maximum(binning, 1)
    u, v = (sensor - corner + 0.5) / steps - 0.5  # the pixel of the image, counted from the centre of the first
    cells = Cells(stride=(32.0, 16.0), window=(224.0, 112.0), offset=(111.5, 55.5))

    matrix = np.array(cells.camera_matrix([fx, 0, cx, 0, fy, cy, 0, 0, 1], corner, binning)).reshape(3, 3)
    projection = np.array(cells.camera_matrix([fx, 0, cx, 7, 0, fy, cy, 8, 0, 0, 1, 9], corner, binning)).reshape(3, 4)

    column, row, depth = matrix @ point
    assert (row / depth, column / depth) == pytest.approx(cells.cell(v, u))
    np.testing.assert_allclose(projection[:, :3], matrix)
    assert cells.camera_matrix([0.0] * 12) == [0.0] * 12


def test_a_score_map_that_was_cancelled_ends_and_the_answers_go_on(tmp_path):
    model = load(tmp_path)
    dense_scores(model, grey(48, 80))

    model.cancel_views()

    with pytest.raises(FrameError, match="ONNX Runtime failed"):
        dense_scores(model, grey(48, 80))
    assert len(model.run(np.zeros((1, 3, 24, 32), np.float32))) == 1


@pytest.mark.parametrize(("options", "threads"), [({"score_map_threads": 1}, 1), ({"intra_op_threads": 3}, 3)])
def test_a_score_map_has_its_own_threads_where_they_are_set(tmp_path, options, threads):
    path = write_tiny_model(tmp_path / "m.onnx", spec=with_score_map(tiny_spec()))
    model = OnnxModel(path, dataclasses.replace(CPU, **{"intra_op_threads": 2} | options))

    dense_scores(model, grey(48, 80))

    assert model._map_session.get_session_options().intra_op_num_threads == threads

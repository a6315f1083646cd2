"""Owns: what a unit of an inner layer makes of an image, and which layers a model file has. Oracle: the onnx package.

Leaves to others: the topic that shows it (test_publishers, test_node_units), cutting the file (test_subgraph).
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from tiny_model import tiny_spec, with_layers, with_score_map, write_tiny_model

pytest.importorskip("torch", reason="needs what training needs")

from cnn_perception.errors import ConfigError, FrameError, ModelError
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.pipeline.unit_map import UnitMaps
from training.graphs.quantise import to_fp16, to_int8

CPU = SessionOptions(["CPUExecutionProvider"])
IMAGE = np.random.default_rng(0).random((3, 24, 32), np.float32)


def fp32(model):
    return model


def int8(model):
    images = np.random.default_rng(1).random((4, 3, 24, 32), np.float32)
    return to_int8(model, iter(images))


@pytest.fixture(params=[fp32, to_fp16, int8])
def path(request, tmp_path):
    """A model with layers whose size is free, in each precision."""
    path = with_layers(write_tiny_model(tmp_path / "m.onnx", spec=with_score_map(tiny_spec())))
    model = onnx.load(path)
    smaller = request.param(model)
    if not smaller.metadata_props:
        smaller.metadata_props.extend(model.metadata_props)
    onnx.save(smaller, path)
    return path


def by_onnx(path, tensor):
    """The tensor, by ONNX Runtime, of the whole graph in which the onnx package has made it an output."""
    model = onnx.load(path)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run([tensor], {"image": IMAGE[None]})
    return found[0].astype(np.float32)


def test_each_unit_of_each_layer_is_what_the_whole_graph_computes(path):
    units = UnitMaps(OnnxModel(path, CPU))
    layers = units.layers().all
    assert {(5, 24, 32), (2, 12, 16), (3, 12, 16), (3, 3, 4)} <= {(one.units, one.rows, one.columns) for one in layers}
    for layer in layers:
        expected = by_onnx(path, layer.name)
        assert expected.shape == (layer.units, layer.rows, layer.columns)
        for unit in range(layer.units):
            found = units.run(IMAGE, layer.name, unit)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected[unit], rtol=1e-3, atol=1e-3)


def test_the_last_layer_of_each_grid_ends_a_stage_and_the_last_of_them_is_the_default(path):
    units = UnitMaps(OnnxModel(path, CPU))
    assert units.layers().text == "relu1 (5x24x32), mixed (3x12x16), features (3x3x4)"
    np.testing.assert_array_equal(units.run(IMAGE, "", 1), units.run(IMAGE, "features", 1))


def test_a_layer_or_a_unit_that_is_not_there_is_refused_in_one_line_with_the_nearest(tmp_path):
    units = UnitMaps(OnnxModel(with_layers(write_tiny_model(tmp_path / "m.onnx")), CPU))
    with pytest.raises(ConfigError) as refused:
        units.check("relu3", 0)
    assert str(refused.value) == (
        "parameter unit_layer is 'relu3', which the model does not have (nearest: relu2, relu1); choose '' or the end "
        "of a stage: relu1 (5x24x32), mixed (3x12x16), features (3x3x4)"
    )
    for name in ("logits", "embedding", "w1", "activation", "weighted", "image"):  # no grid, or no layer on the way
        with pytest.raises(ConfigError, match="which the model does not have"):
            units.check(name, 0)
    with pytest.raises(ConfigError, match=r"^parameter unit is 5, but layer 'conv1' has units 0 to 4$"):
        units.check("conv1", 5)
    assert units.check("conv1", 4).units == 5


def test_a_model_without_a_grid_says_so(tmp_path):
    path = write_tiny_model(tmp_path / "m.onnx")
    model = OnnxModel(path, CPU)
    model.inner_shapes = list  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="the model has no layer with a grid of cells"):
        UnitMaps(model).check("", 0)


def test_channels_that_come_last_are_no_columns(tmp_path):
    path = with_layers(write_tiny_model(tmp_path / "m.onnx"))
    model = onnx.load(path)
    relu = next(node for node in model.graph.node if node.output[0] == "relu1")
    relu.input[0] = "back"
    to, fro = [0, 2, 3, 1], [0, 3, 1, 2]
    model.graph.node.insert(1, onnx.helper.make_node("Transpose", ["conv1"], ["last"], perm=to))
    model.graph.node.insert(2, onnx.helper.make_node("Transpose", ["last"], ["back"], perm=fro))
    onnx.save(model, path)
    assert [one.name for one in UnitMaps(OnnxModel(path, CPU)).layers().all] == [
        "conv1", "back", "relu1", "conv2", "relu2", "mixed", "features",
    ]  # fmt: skip


def test_numbers_that_are_none_are_never_shown(tmp_path):
    units = UnitMaps(OnnxModel(with_layers(write_tiny_model(tmp_path / "m.onnx")), CPU))
    with pytest.raises(FrameError, match="NaN or Inf"):
        units.run(np.full_like(IMAGE, np.nan), "conv1", 0)


def test_a_file_that_was_replaced_is_not_mixed_with_the_old_one(tmp_path):
    path = write_tiny_model(tmp_path / "m.onnx")
    units = UnitMaps(OnnxModel(path, CPU))
    write_tiny_model(path, gain=3.0)
    with pytest.raises(ModelError, match="has been replaced since it was loaded; reload the model"):
        units.run(IMAGE, "", 0)


def test_a_run_that_was_cancelled_ends_and_the_answers_go_on(tmp_path):
    model = OnnxModel(write_tiny_model(tmp_path / "m.onnx"), CPU)
    model.cancel_views()
    with pytest.raises(FrameError, match="ONNX Runtime failed"):
        UnitMaps(model).run(IMAGE, "", 0)
    assert len(model.run(IMAGE[None])) == 1

"""Owns: cutting an ONNX file down to what some outputs need. Leaves to others: reading the file (test_onnx_file)."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.utils
import onnxruntime
import pytest
from tiny_model import tiny_spec, with_score_map, write_tiny_model

from cnn_perception.model.subgraph import computed, subgraph

ALL = {"logits", "activation", "embedding", "score_map"}


@pytest.fixture
def model(tmp_path):
    return write_tiny_model(tmp_path / "m.onnx", spec=with_score_map(tiny_spec())).read_bytes()


def operators(data):
    return [node.op_type for node in onnx.load_from_string(data).graph.node]


def test_with_all_outputs_nothing_changes(model):
    assert subgraph(model, ALL) == model


@pytest.mark.parametrize("outputs", [{"logits"}, {"embedding"}, {"activation"}, {"score_map"}, {"logits", "score_map"}])
def test_what_remains_is_what_onnx_itself_extracts(model, outputs):
    found = onnx.load_from_string(subgraph(model, outputs))

    whole = onnx.load_from_string(model)
    expected = onnx.utils.Extractor(whole).extract_model(
        ["image"], [o.name for o in whole.graph.output if o.name in outputs]
    )
    assert list(found.graph.node) == list(expected.graph.node)
    assert list(found.graph.output) == list(expected.graph.output)
    assert sorted(t.name for t in found.graph.initializer) == sorted(t.name for t in expected.graph.initializer)
    assert found.metadata_props == whole.metadata_props


def test_onnx_runtime_then_computes_only_that(model):
    data = subgraph(model, {"score_map"})
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    (found,) = session.run(["score_map"], {"image": np.ones((1, 3, 48, 40), np.float32)})

    assert found.shape == (1, 3, 4, 2)
    assert operators(data) == ["AveragePool", "AveragePool", "Unsqueeze", "Conv"]


def test_an_output_that_the_model_does_not_have_is_left_out(model):
    assert subgraph(model, {"logits", "depth"}) == subgraph(model, {"logits"})


def test_inner_tensors_become_outputs_and_what_is_behind_them_is_cut_off(model):
    data = subgraph(model, {"embedding"}, {"features", "row"})

    assert [output.name for output in onnx.load_from_string(data).graph.output] == ["embedding", "features", "row"]
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (found,) = session.run(["features"], {"image": np.ones((1, 3, 48, 40), np.float32)})
    assert found.shape == (1, 3, 6, 5)
    assert "ReduceSum" not in operators(data)
    assert subgraph(model, {"embedding"}, {"embedding"}) == subgraph(model, {"embedding"})


def test_what_is_computed_between_input_and_output_is_listed_in_order_with_its_operator(model):
    found = [(one.name, one.operator) for one in computed(model, "image", "logits")]
    assert found == [("features", "AveragePool"), ("embedding", "ReduceMean"), ("logits", "Gemm")]
    assert [one.name for one in computed(model, "weights", "score_map")] == ["weights4", "score_map"]

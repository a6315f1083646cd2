"""Owns: files of several parts, graphs that take one image. Leaves the layouts to test_foreign_layouts."""

from __future__ import annotations

import dataclasses
import json

import foreign_graphs
import numpy as np
import onnx
import pytest
import torch
from foreign_graphs import CHANNELS, NORMALISED, SIDE
from onnx import helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from cnn_perception.errors import ModelError
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from training.adopt.command import main

CPU = SessionOptions(providers=("CPUExecutionProvider",))


def adopt(folder, proto, *options):
    foreign = foreign_graphs.Foreign(proto, foreign_graphs.network(), foreign_graphs.normalised, NORMALISED)
    model, names = foreign_graphs.write(foreign, folder) if isinstance(proto, onnx.ModelProto) else proto
    words = ["--model", str(model), "--classes", str(names), "--output", str(folder / "ours.onnx"), *NORMALISED]
    assert main([*words, *options]) == 0
    return folder / "ours.onnx"


def image(seed=0):
    return np.random.default_rng(seed).standard_normal((1, 3, SIDE, SIDE), np.float32)


def test_weights_in_another_file_beside_it_are_joined(tmp_path):
    network = foreign_graphs.network()
    (tmp_path / "labels.txt").write_text("\n".join(foreign_graphs.CLASSES))
    path = tmp_path / "foreign.onnx"
    onnx.save(
        foreign_graphs.as_nodes(network), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert (tmp_path / "weights.bin").stat().st_size > 1000

    ours = adopt(tmp_path, (path, tmp_path / "labels.txt"))

    (tmp_path / "weights.bin").unlink()
    (found,) = OnnxModel(ours, CPU).run(image())
    np.testing.assert_allclose(found.logits, network(torch.from_numpy(image()))[0], atol=1e-4)


def test_graph_that_takes_one_image_alone_is_adopted_for_one_and_says_so(tmp_path, capsys):
    """Of which a constant of one image is joined to the features, as transformers join their class token."""
    network = foreign_graphs.network()
    proto = foreign_graphs.as_nodes(network, batch=None)
    last = proto.graph.node[-1]
    last.input[0] = "joined"
    proto.graph.node.insert(
        len(proto.graph.node) - 1, helper.make_node("Concat", ["token", "flat"], ["joined"], axis=1)
    )
    token = np.array([[0.5, -0.5]], np.float32)
    more = np.random.default_rng(0).standard_normal((5, 2), np.float32)
    weights = next(tensor for tensor in proto.graph.initializer if tensor.name == "w3")
    widened = np.concatenate([more, numpy_helper.to_array(weights)], axis=1)
    weights.CopyFrom(numpy_helper.from_array(widened, "w3"))
    proto.graph.initializer.append(numpy_helper.from_array(token, "token"))

    ours = adopt(tmp_path, proto)

    said = "takes one image at once: set the node's max_batch_size to 1 for several cameras, its rois_batch_size to 1"
    assert said in capsys.readouterr().out
    (found,) = OnnxModel(ours, CPU).run(image())
    expected = network(torch.from_numpy(image()))[0].numpy() + more @ token[0]
    np.testing.assert_allclose(found.logits, expected, atol=1e-4)
    assert found.embedding.shape == (CHANNELS + 2,)
    assert found.activation.shape == (8, 8)
    with pytest.raises(ModelError, match="cannot run it"):
        OnnxModel(ours, SessionOptions(providers=("CPUExecutionProvider",), warm_up_batches=(1, 2)))


def test_what_logits_without_a_softmax_mean_is_left_open_until_it_is_said(tmp_path, capsys):
    """Labels that do not exclude each other are often exported as logits: nothing in the graph tells them apart."""
    line = "not proven: that an image shows one of its classes alone"

    ours = adopt(tmp_path, foreign_graphs.as_nodes(foreign_graphs.network()))
    said = capsys.readouterr().out
    assert line in said
    assert "exclude each other" not in said  # the same in fewer words, which is in the file
    assert any("exclude each other" in one for one in OnnxModel(ours, CPU).spec.unproven())
    for task in ("multiclass", "multilabel"):
        adopt(tmp_path, foreign_graphs.as_nodes(foreign_graphs.network()), "--task", task)
        assert line not in capsys.readouterr().out
    keras = foreign_graphs.keras()
    model, names = foreign_graphs.write(keras, tmp_path)
    words = ["--model", str(model), "--classes", str(names), "--output", str(tmp_path / "ours.onnx"), *keras.options]
    assert main(words) == 0
    assert line not in capsys.readouterr().out


def test_inner_tensor_can_be_the_answer(tmp_path):
    """Of a graph whose only output is the class, as some are deployed."""
    network = foreign_graphs.network()
    proto = foreign_graphs.as_nodes(network)
    proto.graph.node.append(helper.make_node("ArgMax", ["output"], ["class"], axis=1))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("class", onnx.TensorProto.INT64, None))

    ours = adopt(tmp_path, proto, "--output-name", "output")

    (found,) = OnnxModel(ours, CPU).run(image())
    np.testing.assert_allclose(found.logits, network(torch.from_numpy(image()))[0], atol=1e-4)


def test_certificate_fails_where_the_file_answers_otherwise(tmp_path, capsys, monkeypatch):
    """A colour order that is forgotten in the rewritten graph, and not in the original's own preparation."""
    from training.adopt.graph import rewriting

    proto = foreign_graphs.as_nodes(foreign_graphs.network())
    foreign = foreign_graphs.Foreign(proto, foreign_graphs.network(), foreign_graphs.normalised, NORMALISED)
    model, names = foreign_graphs.write(foreign, tmp_path)
    whole = rewriting._before
    monkeypatch.setattr(rewriting, "_before", lambda image, name: whole(dataclasses.replace(image, order="rgb"), name))
    words = ["--model", str(model), "--classes", str(names), "--output", str(tmp_path / "o.onnx"), *NORMALISED]

    code = main([*words, "--channel-order", "bgr", "--json"])

    assert code == 3
    said = capsys.readouterr()
    assert "differs by" in said.err
    assert "differs by" in json.loads(said.out)["error"]
    assert not (tmp_path / "o.onnx").exists()


def test_functions_of_a_file_are_inlined(tmp_path):
    """As exporters write modules; this one is a Relu by another name."""
    network = foreign_graphs.network()
    proto = foreign_graphs.as_nodes(network)
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    function = helper.make_function("my.module", "Gate", ["x"], ["y"], nodes, [helper.make_opsetid("", 17)])
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("my.module", 1))
    for node in proto.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Gate"
            node.domain = "my.module"

    ours = adopt(tmp_path, proto)

    (found,) = OnnxModel(ours, CPU).run(image())
    np.testing.assert_allclose(found.logits, network(torch.from_numpy(image()))[0], atol=1e-4)


def reverse(proto):
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def in_half_precision(proto):
    """As its converter leaves it, which appends the casts of the input behind everything."""
    return convert_float_to_float16(proto, keep_io_types=True)


@pytest.mark.parametrize("out_of_order", [reverse, in_half_precision])
def test_nodes_may_stand_in_any_order(tmp_path, out_of_order):
    network = foreign_graphs.network()

    ours = adopt(tmp_path, out_of_order(foreign_graphs.as_nodes(network)))

    (found,) = OnnxModel(ours, CPU).run(image())
    np.testing.assert_allclose(found.logits, network(torch.from_numpy(image()))[0], atol=0.02)
    assert found.activation.shape == (8, 8)

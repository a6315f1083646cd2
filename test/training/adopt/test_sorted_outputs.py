"""Owns: files whose output is in another order for each image, such as the best classes first: no number is a class's.

Leaves to others: which of several unsorted outputs answers (test_refused).
"""

from __future__ import annotations

import foreign_graphs
import numpy as np
import onnx
import pytest
import torch
from foreign_graphs import CLASSES, NORMALISED, SIDE
from onnx import TensorProto, helper, numpy_helper

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from training.adopt.command import main

CPU = SessionOptions(providers=("CPUExecutionProvider",))
NETWORK = foreign_graphs.network()


def top(source, k=5):
    return [
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.array([k], np.int64))),
        helper.make_node("TopK", [source, "k"], ["values", "indices"], axis=1),
    ]


def softmax(source, output):
    return helper.make_node("Softmax", [source], [output], axis=1)


def adopted(folder, behind, outputs, *options, network=NETWORK, names=CLASSES):
    """The exit code for a network with nodes behind its logits, `scores`, and these outputs."""
    proto = foreign_graphs.with_nodes(network, [], "input", "input", outputs[0], behind=behind)
    for name in outputs[1:]:
        kind = TensorProto.INT64 if name == "indices" else TensorProto.FLOAT
        proto.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    onnx.save(proto, folder / "foreign.onnx")
    (folder / "names.txt").write_text("\n".join(names))
    model, output = str(folder / "foreign.onnx"), str(folder / "ours.onnx")
    given = ("--classes", str(folder / "names.txt"), *NORMALISED, *options)
    return main(["--model", model, "--output", output, *given])


SORTED = {
    "logits": (top("scores"), ("values", "indices")),
    "scores of a softmax": ([softmax("scores", "p"), *top("p")], ("values", "indices")),
    "the best two": ([softmax("scores", "p"), *top("p", 2)], ("values", "indices")),
    "flattened": ([*top("scores"), helper.make_node("Flatten", ["values"], ["flat_values"])], ("flat_values",)),
    "gathered by its indices": (
        [*top("scores"), helper.make_node("GatherElements", ["scores", "indices"], ["sorted"], axis=1)],
        ("sorted",),
    ),
    "beside the scores": ([softmax("scores", "p"), *top("p")], ("p", "values", "indices")),
}


@pytest.mark.parametrize(("behind", "outputs"), SORTED.values(), ids=SORTED)
def test_the_answer_is_what_was_sorted_and_not_the_best_first(tmp_path, behind, outputs):
    assert adopted(tmp_path, behind, outputs) == EXIT_OK

    model = OnnxModel(tmp_path / "ours.onnx", CPU)
    pixels = np.random.default_rng(1).normal(0, 3, (8, 3, SIDE, SIDE)).astype(np.float32)
    with torch.no_grad():
        expected = NETWORK(torch.from_numpy(pixels)).softmax(1).numpy()
    found = np.stack([model.run(one[None])[0].logits for one in pixels]).astype(np.float64)
    scores = np.exp(found - found.max(1, keepdims=True))
    np.testing.assert_allclose(scores / scores.sum(1, keepdims=True), expected, atol=1e-4)
    assert 0 not in expected.argmax(1)  # the class that sorted numbers name for every image


@pytest.mark.parametrize("options", [(), ("--output-name", "values")], ids=["found", "asked for"])
def test_which_output_was_sorted_is_said(tmp_path, capsys, options):
    assert adopted(tmp_path, top("scores"), ("values", "indices"), *options) == EXIT_OK

    said = capsys.readouterr().out
    assert "the answer is its output 'scores'" in said
    assert "its output 'values' holds the same numbers in another order for each image" in said


def test_scores_made_of_sorted_logits_are_refused_with_the_tensor_to_name(tmp_path, capsys):
    behind = [*top("scores"), softmax("values", "p")]

    assert adopted(tmp_path, behind, ("p", "indices")) == EXIT_BAD_INPUT

    assert "in another order for each image by TopK" in (said := capsys.readouterr().err)
    assert "--output-name, such as 'scores'" in said
    assert adopted(tmp_path, behind, ("p", "indices"), "--output-name", "scores") == EXIT_OK


def test_numbers_that_fall_for_every_image_are_refused_whatever_sorted_them(tmp_path, capsys):
    network = foreign_graphs.network(classes=7)
    names = [f"class {number}" for number in range(7)]
    pick = np.eye(7, dtype=np.float32)
    ranks = numpy_helper.from_array(pick)  # a multiplication by one, which hides what is before it
    hidden = [
        *top("scores", 7),
        helper.make_node("Constant", [], ["pick"], value=ranks),
        helper.make_node("MatMul", ["values", "pick"], ["hidden_values"]),
    ]

    assert adopted(tmp_path, hidden, ("hidden_values",), network=network, names=names) == EXIT_BAD_INPUT
    assert "fall from the first to the last for each of 3 random images" in capsys.readouterr().err
    unsorted = [helper.make_node("Identity", ["scores"], ["same"])]
    assert adopted(tmp_path, unsorted, ("same",), network=network, names=names) == EXIT_OK


def test_the_largest_cell_of_each_channel_is_no_sorting_of_classes(tmp_path):
    """A max pooling written as TopK: it sorts the cells of a channel, and the channels stay where they are."""
    proto = foreign_graphs.as_nodes(NETWORK)
    pooling = next(node for node in proto.graph.node if node.op_type == "GlobalAveragePool")
    place = [*proto.graph.node].index(pooling)
    proto.graph.node.remove(pooling)
    shape = numpy_helper.from_array(np.array([0, 0, -1], np.int64), "cells")
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    proto.graph.initializer.extend([shape, one])
    added = [
        helper.make_node("Reshape", ["features", "cells"], ["in_cells"]),
        helper.make_node("TopK", ["in_cells", "one"], ["pooled", "places"], axis=2),
    ]
    for number, node in enumerate(added):
        proto.graph.node.insert(place + number, node)
    del proto.graph.node[-1]  # the linear layer: the channels are the classes
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, None))
    onnx.save(proto, tmp_path / "foreign.onnx")
    (tmp_path / "names.txt").write_text("\n".join(f"class {k}" for k in range(foreign_graphs.CHANNELS)))
    given = ("--classes", str(tmp_path / "names.txt"), *NORMALISED, "--output", str(tmp_path / "ours.onnx"))

    assert main(["--model", str(tmp_path / "foreign.onnx"), *given]) == EXIT_OK

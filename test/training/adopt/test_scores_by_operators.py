"""Owns: that scores are told from logits by the operators at the end of a graph, and what is said where only values do.

Of most of the graphs all numbers are from 0 to 1 for any image here: the values alone would make scores of them.
Leaves to others: the bounds of operators (test_bounds), graphs that end in a sigmoid (test_foreign_layouts).
"""

from __future__ import annotations

import foreign_graphs
import numpy as np
import onnx
import pytest
import torch
from foreign_graphs import AS_THEY_ARE, CLASSES, SIDE
from onnx import helper, numpy_helper

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from training.adopt.command import main

CPU = SessionOptions(providers=("CPUExecutionProvider",))
NUMBERS = {"little": 1e-3, "half": 0.5, "minus": -1.0, "one": 1.0, "two": 2.0, "hundred": 100.0}
NEAR_A_HALF = (("Mul", "little"), ("Add", "half"))
"""Puts the numbers of any image next to 0.5."""
SIGNED = {
    "a tanh": ([("Tanh",)], torch.tanh),
    "a softsign": ([("Softsign",)], torch.nn.functional.softsign),
    "an error function": ([("Erf",)], torch.erf),
    "what is cut off": ([("Clip", "minus", "one")], lambda x: x.clamp(-1, 1)),
}


def graph(steps, classes=1, before=NEAR_A_HALF):
    """A network, its numbers next to 0.5, and behind them operators, each `(operator, *other inputs)`."""
    network = foreign_graphs.network(30, classes=classes)
    proto = foreign_graphs.as_nodes(network)
    last = "output"
    for number, (kind, *others) in enumerate((*before, *steps)):
        proto.graph.node.append(helper.make_node(kind, [last, *others], [f"s{number}"]))
        last = f"s{number}"
    proto.graph.initializer.extend(numpy_helper.from_array(np.float32(v), k) for k, v in NUMBERS.items())
    proto.graph.output[0].name = last
    return proto, lambda pixels: network(pixels) * NUMBERS["little"] + NUMBERS["half"]


@pytest.fixture
def adopt(tmp_path, capsys):
    """Adopts a graph: (exit code, stdout, the last line of stderr, path)."""

    def run(proto, *options, names=("no", "yes")):
        (tmp_path / "labels.txt").write_text("\n".join(names))
        onnx.save(proto, tmp_path / "foreign.onnx")
        words = ["--model", tmp_path / "foreign.onnx", "--output", tmp_path / "ours.onnx", "--classes"]
        words += [tmp_path / "labels.txt", *AS_THEY_ARE, *options]
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err.strip().split("\r")[-1].strip(), tmp_path / "ours.onnx"

    return run


def images(count=4):
    return torch.from_numpy(np.random.default_rng(0).random((count, 3, SIDE, SIDE), np.float32))


def open_points(said):
    return [line for line in said.splitlines() if line.startswith("not proven: ") and "random images" in line]


@pytest.mark.parametrize("name", SIGNED)
def test_one_number_that_can_be_negative_is_a_logit_though_it_never_was(adopt, name):
    steps, expected = SIGNED[name]
    proto, before = graph(steps)

    code, _, error, _ = adopt(proto)
    assert code == EXIT_BAD_INPUT
    assert "is one number without a sigmoid" in error

    code, said, _, path = adopt(proto, "--task", "multiclass")
    assert code == EXIT_OK
    numbers = expected(before(images())).numpy()
    assert 0 < numbers.min() < numbers.max() < 1
    found = [OnnxModel(path, CPU).run(image[np.newaxis].numpy())[0].logits for image in images()]
    np.testing.assert_allclose(found, np.pad(numbers, ((0, 0), (1, 0))), atol=1e-5)
    assert "if they are scores" not in said
    assert not open_points(said)


@pytest.mark.parametrize("name", SIGNED)
def test_numbers_of_classes_that_can_be_negative_are_logits_though_they_never_were(adopt, name):
    steps, expected = SIGNED[name]
    proto, before = graph(steps, classes=len(CLASSES))

    code, said, error, path = adopt(proto, names=CLASSES)

    assert code == EXIT_OK, error
    (found,) = OnnxModel(path, CPU).run(images(1).numpy())
    np.testing.assert_allclose(found.logits, expected(before(images(1)))[0], atol=1e-5)
    assert "if they are scores" not in said
    assert not open_points(said)


@pytest.mark.parametrize("steps", [[("Relu",)], [("Softplus",)]], ids=["a relu", "a softplus"])
def test_one_number_that_is_never_negative_and_has_no_upper_bound_is_neither(adopt, steps):
    for options in ((), ("--task", "multiclass")):
        code, _, error, _ = adopt(graph(steps)[0], *options)

        assert code == EXIT_BAD_INPUT
        assert "never below 0" in error
        assert "name 's1', which a linear layer gives, by --output-name" in error


@pytest.mark.parametrize(
    ("steps", "scores"),
    [
        ([("Tanh",), ("Add", "one"), ("Div", "two")], lambda x: (x.tanh() + 1) / 2),
        ([("Sigmoid",), ("Sub", "one"), ("Neg",)], lambda x: 1 - x.sigmoid()),
    ],
    ids=["a tanh", "one less a sigmoid"],
)
def test_one_number_from_0_to_1_by_its_operators_is_a_score(adopt, steps, scores):
    proto, before = graph(steps)

    code, said, error, path = adopt(proto)

    assert code == EXIT_OK, error
    (found,) = OnnxModel(path, CPU).run(images(1).numpy())
    share = torch.softmax(torch.from_numpy(found.logits), 0)[1]
    assert float(share) == pytest.approx(float(scores(before(images(1)))[0, 0]), abs=1e-5)
    assert "is the score p of the second class" in said
    assert not open_points(said)


def test_a_score_that_only_values_tell_is_not_proven(adopt):
    """A sigmoid times itself: of a product of two tensors that depend on the image nothing is said."""
    code, said, error, _ = adopt(graph([("Sigmoid",), ("Mul", "s2")])[0])

    assert code == EXIT_OK, error
    (line,) = open_points(said)
    assert "that its one number is a score from 0 to 1 for every image: it was for 3 random images" in line


def test_shares_that_only_their_sum_tells_are_not_proven(adopt):
    foreign = foreign_graphs.mean_of_two()

    code, said, error, _ = adopt(foreign.proto, *foreign.options, names=CLASSES)

    assert code == EXIT_OK, error
    (line,) = open_points(said)
    assert "that its numbers are shares of 1 for every image: for 3 random images they added up to 1" in line


def test_numbers_of_a_linear_layer_that_are_like_scores_are_logits_and_in_doubt(adopt):
    proto, before = graph([], classes=len(CLASSES))

    code, said, error, path = adopt(proto, names=CLASSES)

    assert code == EXIT_OK, error
    (found,) = OnnxModel(path, CPU).run(images(1).numpy())
    np.testing.assert_allclose(found.logits, before(images(1))[0], atol=1e-5)
    (line,) = [line for line in said.splitlines() if "as scores are" in line]
    assert line.startswith("not proven: that its numbers are logits: for 3 random images they were as scores are; if ")
    assert "if they are scores the file is wrong, all are nearly alike then: see what --data says of it" in line


def test_scores_in_percent_are_told_by_their_operators(adopt):
    """A sigmoid of each class, times 100: the sum differs from image to image, and most numbers are above 1."""
    proto, _ = graph([("Sigmoid",), ("Mul", "hundred")], classes=len(CLASSES), before=())

    code, _, error, _ = adopt(proto, names=CLASSES)

    assert code == EXIT_BAD_INPUT
    assert "lie between 0 and 100, as scores do and not logits" in error

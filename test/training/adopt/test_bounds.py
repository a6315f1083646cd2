"""Owns: the bounds of a tensor's values by its operators. The oracle is ONNX Runtime, on numbers from -1e4 to 1e4.

Leaves to others: what follows for scores and logits (test_scores_by_operators).
"""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.adopt.graph import bounds
from training.adopt.graph.tensors import Tensors

FAR = np.logspace(-3, 4, 400)
NUMBERS = np.concatenate([-FAR, [0], FAR]).astype(np.float32)
CONSTANTS = {"half": 0.5, "one": 1.0, "minus": -1.0, "two": 2.0, "hundred": 100.0, "several": [0.5, 2.0]}

REACHED = {
    "a sigmoid": [("Sigmoid", "x")],
    "a sigmoid in percent": [("Sigmoid", "x"), ("Mul", "hundred", "0")],
    "one less a sigmoid": [("Sigmoid", "x"), ("Sub", "one", "0")],
    "a sigmoid written out": [("Neg", "x"), ("Exp", "0"), ("Add", "1", "one"), ("Reciprocal", "2")],
    "one by division": [("Neg", "x"), ("Exp", "0"), ("Add", "1", "one"), ("Div", "one", "2")],
    "a clipped sigmoid": [("Sigmoid", "x"), ("Min", "0", "one"), ("Max", "1", "half")],
    "a sigmoid of lines": [("HardSigmoid", "x")],
    "a tanh": [("Tanh", "x")],
    "a tanh from 0 to 1": [("Tanh", "x"), ("Add", "0", "one"), ("Div", "1", "two")],
    "a tanh of what is never negative": [("Relu", "x"), ("Tanh", "0")],
    "a softsign": [("Softsign", "x")],
    "an error function": [("Erf", "x")],
    "what is cut off": [("Clip", "x", "minus", "one")],
    "what is cut off above": [("Clip", "x", "", "two")],
    "a relu": [("Relu", "x")],
    "its negative": [("Relu", "x"), ("Neg", "0")],
    "one over it": [("Relu", "x"), ("Add", "0", "two"), ("Div", "one", "1")],
    "a softplus": [("Softplus", "x")],
    "the logarithm of a sigmoid": [("Sigmoid", "x"), ("Log", "0")],
    "a root": [("Relu", "x"), ("Sqrt", "0")],
    "a sum": [("Add", "x", "several")],
    "a mean": [("Sigmoid", "x"), ("ReduceMean", "0")],
}
OUTSIDE = {
    "of two tensors": [("Sigmoid", "x"), ("Mul", "x", "0")],
    "a square": [("Mul", "x", "x")],
    "a quotient around 0": [("Tanh", "x"), ("Div", "one", "0")],
    "an operator that is not known": [("Tanh", "x"), ("Abs", "0")],
    "what cuts off a constant": [("Tanh", "x"), ("ReduceMax", "0"), ("Clip", "two", "1")],
}


def chain(steps):
    """A linear layer of one number `x`, and operators behind it; the last tensor."""
    nodes = [helper.make_node("MatMul", ["image", "weight"], ["x"])]
    for number, (kind, *names) in enumerate(steps):
        nodes.append(helper.make_node(kind, names, [str(number)]))
    last = nodes[-1].output[0]
    tensors = {name: np.array(value, np.float32) for name, value in CONSTANTS.items()}
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in (tensors | {"weight": np.ones((1, 1), np.float32)}).items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), last


def values(proto):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": np.full((1, 1), x)})[0].ravel() for x in NUMBERS])


@pytest.mark.parametrize("name", REACHED)
def test_bounds_of_a_chain_of_operators_hold_and_are_reached(name):
    proto, last = chain(REACHED[name])

    found = bounds.of(Tensors(proto), last)

    shown = values(proto)
    assert found is not None
    assert found.are_reached
    for end, extreme in ((found.low, shown.min()), (found.high, shown.max())):
        if math.isinf(end):
            assert abs(extreme) > 50  # ln 1e4 and more of the numbers that were tried
            assert np.sign(extreme) == np.sign(end)
        else:
            assert extreme == pytest.approx(end, abs=1e-2)


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_operators_do_not_say_is_not_said(name):
    proto, last = chain(OUTSIDE[name])

    assert bounds.of(Tensors(proto), last) is None


def test_bounds_by_different_constants_hold_and_may_not_be_reached_by_each():
    proto, last = chain([("Tanh", "x"), ("Mul", "0", "several")])

    found = bounds.of(Tensors(proto), last)

    assert (found.low, found.high, found.are_reached) == (-2.0, 2.0, False)
    assert np.abs(values(proto)).max() <= 2.0


def test_a_long_chain_is_followed():
    steps = [("Tanh", "x"), *(("Identity", str(number)) for number in range(3000))]

    assert bounds.of(Tensors(chain(steps)[0]), "3000") == bounds.Bounds(-1.0, 1.0)


def test_the_activation_that_is_fused_into_a_layer_counts():
    for kind, expected in (("Relu", bounds.Bounds(0.0, math.inf)), ("Tanh", bounds.Bounds(-1.0, 1.0)), ("Mish", None)):
        proto, _ = chain([])
        node = helper.make_node("FusedGemm", ["image", "weight"], ["x"], domain="com.microsoft", activation=kind)
        proto.graph.node[0].CopyFrom(node)

        assert bounds.of(Tensors(proto), "x") == expected

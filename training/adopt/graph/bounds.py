"""Between which numbers the values of a tensor lie, for whatever image: as far as the operators behind it say it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from training.adopt.graph.tensors import Tensors

Doubles = npt.NDArray[np.float64]
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Bounds:
    """What no value of a tensor is below or above.

    Attributes:
        low: The lower bound; -inf where there is none.
        high: The upper bound; inf where there is none.
        are_reached: Whether some image brings a value near each of them, as far as one brings the linear layer before
            to any number. It is not known where several tensors that depend on the image meet.
    """

    low: float
    high: float
    are_reached: bool = True

    @property
    def is_share(self) -> bool:
        """Whether all values are from 0 to 1."""
        return self.low >= -_ROUNDING and self.high <= 1 + _ROUNDING

    @property
    def can_be_negative(self) -> bool:
        """Whether some value is below 0 for some image; False where that is not known."""
        return self.are_reached and self.low < -_ROUNDING


_ROUNDING = 1e-6
FREE = Bounds(-math.inf, math.inf)
"""Of a linear layer: its weights are not looked at."""

PASSED = {
    "Cast",
    "DequantizeLinear",
    "Dropout",
    "Flatten",
    "Identity",
    "QuantizeLinear",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
}
"""They leave numbers as they are, but for rounding."""
_BETWEEN = PASSED | {
    "AveragePool",
    "Gather",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "MaxPool",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "Slice",
    "Transpose",
}
"""What they give are numbers that they take, or means of these."""
LINEAR = {
    "Conv",
    "ConvInteger",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "Gemm",
    "MatMul",
    "MatMulInteger",
    "QGemm",
    "QLinearConv",
    "QLinearMatMul",
}
_KEEPS_FREE = {"Add", "BatchNormalization", "Concat", "Div", "Mean", "Mul", "Neg", "ReduceSum", "Sub", "Sum"}
"""Of numbers without bounds they make such numbers."""
_FIXED: Mapping[str, Bounds] = {"LogSoftmax": Bounds(-math.inf, 0.0), "Softmax": Bounds(0.0, 1.0)}
_MONOTONE: Mapping[str, Callable[[Doubles, Attributes], Doubles]] = {
    "Erf": lambda x, _: np.array([math.erf(value) for value in x]),
    "Exp": lambda x, _: np.exp(x),
    "HardSigmoid": lambda x, given: np.clip(given.get("alpha", 0.2) * x + given.get("beta", 0.5), 0, 1),
    "Log": lambda x, _: np.log(x),
    "Neg": lambda x, _: -x,
    "Relu": lambda x, _: np.maximum(x, 0),
    "Sigmoid": lambda x, _: 1 / (1 + np.exp(-x)),
    "Softplus": lambda x, _: np.logaddexp(0, x),
    "Softsign": lambda x, _: np.sign(x) * (1 - 1 / (1 + np.abs(x))),
    "Sqrt": lambda x, _: np.sqrt(x),
    "Tanh": lambda x, _: np.tanh(x),
}
"""Of each number alone they make another, in the order of these or in the opposite one; alpha and beta by default are
ONNX's."""
_ARITHMETIC: Mapping[str, np.ufunc] = {
    "Add": np.add,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "Sub": np.subtract,
}
_CLIPS = {1: "Max", 2: "Min"}
"""What the constant at each input of a Clip does."""


def of(tensors: Tensors, name: str) -> Bounds | None:
    """Returns the bounds of a tensor; None where its operators do not say them.

    Args:
        tensors: The graph, in the order of computation.
        name: The tensor.
    """
    needed = _needed(tensors, name)
    found: dict[str, Bounds | None] = {}
    with np.errstate(all="ignore"):
        for node in tensors.proto.graph.node:
            if needed.intersection(node.output):
                found.update(dict.fromkeys(node.output, _of_node(tensors, node, found)))
    return found.get(name)


def _needed(tensors: Tensors, name: str) -> set[str]:
    """Returns the tensors from a tensor back to those whose bounds depend on none before them."""
    needed: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        node = tensors.sources.get(one)
        if node is None or one in needed:
            continue
        needed.add(one)
        if node.op_type not in LINEAR and node.op_type not in _FIXED:
            waiting += [before for before in node.input if before in tensors.of_image]
    return needed


def _of_node(tensors: Tensors, node: NodeProto, found: Mapping[str, Bounds | None]) -> Bounds | None:
    """Returns the bounds of what a node gives, of those of the tensors before it."""
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type in _FIXED:
        return _FIXED[node.op_type]
    if node.op_type in LINEAR:
        fused = given.get("activation") or b""
        return _moved(FREE, fused.decode(errors="replace"), {}) if fused else FREE
    entering = [name for name in node.input if name in tensors.of_image]
    known = [bounds for name in entering if (bounds := found.get(name)) is not None]
    if not entering or len(known) < len(entering) or len(set(entering)) < len(entering):
        return None
    if node.op_type in _KEEPS_FREE and all(bounds == FREE for bounds in known):
        return FREE
    if node.op_type in ("Concat", "Mean") and len(entering) == len(node.input):
        lows, highs = zip(*((bounds.low, bounds.high) for bounds in known), strict=True)
        return Bounds(min(lows), max(highs), are_reached=len(known) == 1)
    if len(known) > 1:
        return None
    (before,) = known
    if node.op_type in _BETWEEN:
        return before if entering[0] == node.input[0] else None  # else the image says where in a table, not what
    if node.op_type in _MONOTONE:
        return _moved(before, node.op_type, given)
    return _by_constants(tensors, node, entering[0], before)


def _moved(before: Bounds, operator: str, given: Attributes) -> Bounds | None:
    """Returns the bounds behind an operator of `_MONOTONE`; None behind another."""
    if operator not in _MONOTONE:
        return None
    return _around(_MONOTONE[operator](np.array([before.low, before.high]), given), before.are_reached)


def _by_constants(tensors: Tensors, node: NodeProto, name: str, before: Bounds) -> Bounds | None:
    """Returns the bounds behind arithmetic of one tensor, which depends on the image, with constants."""
    if node.op_type == "Reciprocal":
        return _with_constant("Div", before, np.ones(1), is_behind=False)
    if node.op_type not in ("Clip", *_ARITHMETIC):
        return None
    now: Bounds | None = before
    own = list(node.input).index(name)
    for place, other in enumerate(node.input):
        if place == own or not other:
            continue
        operator = _CLIPS.get(place) if node.op_type == "Clip" else node.op_type
        constant = tensors.constant(other)
        if now is None or operator is None or constant is None:
            return None
        if not constant.size or constant.dtype.kind not in "fiu":
            return None
        now = _with_constant(operator, now, constant.astype(np.float64), is_behind=place > own)
    return now


def _with_constant(operator: str, before: Bounds, constant: Doubles, *, is_behind: bool) -> Bounds | None:
    """Returns the bounds of a tensor and a constant, which stands behind or before an operator of `_ARITHMETIC`."""
    ends = np.array([before.low, before.high])
    values = np.array([constant.min(), constant.max()])
    one, other = (ends, values) if is_behind else (values, ends)
    if operator == "Div" and other[0] <= 0 <= other[1] and not (0 == other[0] < other[1] and not is_behind):
        return None  # around 0 the quotient has no bounds
    pairs = _ARITHMETIC[operator].outer(one, other)
    is_same = bool(values[0] == values[1])
    return _around(pairs.ravel(), before.are_reached and (is_same or bool(np.isinf(pairs).all())))


def _around(values: Doubles, are_reached: bool) -> Bounds | None:
    """Returns the bounds around some values; None where one is none."""
    if np.isnan(values).any():
        return None
    return Bounds(float(values.min()) + 0.0, float(values.max()) + 0.0, are_reached)  # of -0.0, too, 1 / x is inf

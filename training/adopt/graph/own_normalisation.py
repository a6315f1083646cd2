"""What a foreign graph itself does with pixels before a layer sees them: constants right behind its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, helper

from training.adopt.graph.image_input import ImageInput
from training.adopt.graph.tensors import Array, Tensors

Doubles = npt.NDArray[np.float64]

_PASSED = {"Cast", "DequantizeLinear", "Identity", "QuantizeLinear"}
_SAID: Mapping[str, str] = {"Add": "adds", "Div": "divides by", "Mul": "multiplies by", "Sub": "subtracts"}
_EPSILON = 1e-5
"""ONNX's own, of a BatchNormalization that states none."""


@dataclass(frozen=True, eq=False)
class OwnNormalisation:
    """Constants that a graph applies to each pixel of its input.

    Attributes:
        steps: What is done, in words, in its order; empty where nothing is.
        scale: (C,) by which each channel is multiplied in all, in the order of the graph's input.
        offset: (C,) that is added then.
    """

    steps: tuple[str, ...]
    scale: Doubles
    offset: Doubles


@dataclass(frozen=True, eq=False)
class _Pixels:
    """A tensor that is still an image: what was done so far, and where its channels are."""

    channels: Sequence[int]
    scale: Doubles
    offset: Doubles
    axis: int


def find(proto: ModelProto, image: ImageInput) -> OwnNormalisation:
    """Follows the pixels from the input to the first layer, as long as one node alone takes them.

    Args:
        proto: The graph.
        image: Its input.
    """
    tensors = Tensors(proto)
    axis = 1 if image.layout == "NCHW" else 3
    count = image.channels
    now = _Pixels(range(count), np.ones(count), np.zeros(count), axis)
    steps = []
    name = image.name
    while len(takers := [node for node in proto.graph.node if name in node.input]) == 1:
        behind, said = _next(tensors, takers[0], name, now)
        if behind is None:
            break
        steps += [said] if said else []
        now = behind
        name = takers[0].output[0]
    places = np.argsort(now.channels)
    return OwnNormalisation(tuple(steps), now.scale[places], now.offset[places])


def _next(tensors: Tensors, node: NodeProto, name: str, now: _Pixels) -> tuple[_Pixels | None, str]:
    """Returns the image behind a node and what the node does; None where it is no constant on each channel."""
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type in _PASSED:
        return now, ""
    if node.op_type == "Transpose" and len(attributes.get("perm", ())) == 4:
        return _Pixels(now.channels, now.scale, now.offset, list(attributes["perm"]).index(now.axis)), ""
    if node.op_type == "Gather":
        return _reordered(tensors.constant(node.input[1]), attributes.get("axis", 0), now), ""
    found = _applied(tensors, node, name, attributes, now)
    if found is None:
        return None, ""
    scale, offset, said = found
    is_nothing = np.allclose(scale, 1, atol=1e-6) and np.allclose(offset, 0, atol=1e-6)
    behind = _Pixels(now.channels, scale * now.scale, scale * now.offset + offset, now.axis)
    return behind, "" if is_nothing else said


def _reordered(indices: Array | None, axis: int, now: _Pixels) -> _Pixels | None:
    """Returns an image whose channels were put in another order; None where that is not what indices do."""
    if indices is None or axis % 4 != now.axis or sorted(indices.ravel()) != list(range(len(now.channels))):
        return None
    order = indices.ravel()
    return _Pixels([now.channels[place] for place in order], now.scale[order], now.offset[order], now.axis)


def _applied(
    tensors: Tensors, node: NodeProto, name: str, attributes: Mapping[str, Any], now: _Pixels
) -> tuple[Doubles, Doubles, str] | None:
    """Returns by what a node multiplies each channel, what it adds then, and that in words; None for other nodes."""
    if node.op_type in _SAID:
        return _arithmetic(tensors, node, name, now)
    weights = [tensors.constant(one) for one in node.input[1:] if one]
    if now.axis != 1 or not weights or any(one is None for one in weights):
        return None
    numbers = [np.asarray(one, np.float64) for one in weights]
    if node.op_type == "BatchNormalization" and len(numbers) == 4:
        gain, bias, mean, variance = numbers
        scale = gain / np.sqrt(variance + attributes.get("epsilon", _EPSILON))
        offset = bias - mean * scale
    elif node.op_type == "Conv" and (own := _of_each_channel(numbers[0], len(now.channels))) is not None:
        scale = own
        offset = numbers[1] if len(numbers) > 1 else np.zeros(len(scale))
    else:
        return None
    return scale, offset, f"multiplies by {_text(scale)} and adds {_text(offset)} ({node.op_type})"


def _of_each_channel(weights: Doubles, channels: int) -> Doubles | None:
    """Returns the factors of a convolution of one pixel that mixes no channels; None of any other."""
    if weights.shape[0] != channels or weights.shape[2:] != (1, 1):
        return None
    matrix = weights[:, :, 0, 0]
    if matrix.shape[1] == 1:
        return np.asarray(matrix[:, 0])
    factors = np.diagonal(matrix)
    return np.asarray(factors) if np.array_equal(np.diag(factors), matrix) else None


def _arithmetic(tensors: Tensors, node: NodeProto, name: str, now: _Pixels) -> tuple[Doubles, Doubles, str] | None:
    is_first = node.input[0] == name
    constant = tensors.constant(node.input[1 if is_first else 0])
    values = None if constant is None else _by_channel(constant, now)
    if values is None or (node.op_type == "Div" and not is_first):
        return None
    said = f"{_SAID[node.op_type]} {_text(values)}"
    ones, zeros = np.ones_like(values), np.zeros_like(values)
    if node.op_type == "Mul":
        return values, zeros, said
    if node.op_type == "Div":
        return 1 / values, zeros, said
    if node.op_type == "Add":
        return ones, values, said
    return (ones, -values, said) if is_first else (-ones, values, f"subtracts from {_text(values)}")


def _by_channel(constant: Array, now: _Pixels) -> Doubles | None:
    """Returns what a constant is for each channel, of an image of numbers its mean; None where it has no such axis."""
    if constant.ndim > 4 or constant.dtype.kind not in "fiu":
        return None
    whole = constant.reshape((1,) * (4 - constant.ndim) + constant.shape).astype(np.float64)
    values = whole.mean(axis=tuple(axis for axis in range(4) if axis != now.axis))
    return np.broadcast_to(values, len(now.channels)) if len(values) in (1, len(now.channels)) else None


def _text(values: Doubles) -> str:
    shown = values[:1] if np.allclose(values, values[0]) else values
    return ", ".join(f"{value:.6g}" for value in shown)

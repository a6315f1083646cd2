"""What a classifier decides with, found in its graph: the embedding, and the features of which it is the mean.

Nothing is believed that was not tried: features are those of an exact activation map (Zhou et al. 2016) where the
logits of random features are the linear map of their mean, however the graph writes pooling and linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, helper

from cnn_perception.errors import ModelError
from training.adopt.graph.rewriting import IMAGE, LOGITS
from training.adopt.graph.tensors import Array, Tensors, pruned, runner

Floats = npt.NDArray[np.float32]

_LINEAR = {"Conv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul"}
_LONGEST_PATH = 100
"""Tensors that are looked at, back from the logits."""
_AT_ONCE = 64
_TOLERANCES: Mapping[np.dtype[Any], float] = {
    np.dtype(np.float32): 1e-4,
    np.dtype(np.float64): 1e-4,
    np.dtype(np.float16): 1e-2,
}
"""Of the linear map, as a share of the largest logit that it gives without its bias."""


@dataclass(frozen=True, eq=False)
class PooledFeatures:
    """Features whose mean over the cells, times the weights, plus a bias, is the logits.

    Attributes:
        tensor: Name of the features.
        shape: Without the batch: (C, rows, columns), or (rows, columns, C).
        channels_last: Which of the two it is.
        weights: (K, C) float32.
    """

    tensor: str
    shape: tuple[int, ...]
    channels_last: bool
    weights: Floats

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.shape[:2] if self.channels_last else self.shape[1:]
        return rows, columns


@dataclass(frozen=True, eq=False)
class Head:
    """What the logits are made of.

    Attributes:
        embedding: Tensor that enters the last linear layer; the logits where there is none to be found.
        shape: Of the embedding, without the batch; of more than one cell the mean is taken.
        features: None where the graph does not end in pooling and a linear layer.
    """

    embedding: str
    shape: tuple[int, ...]
    features: PooledFeatures | None


def find(proto: ModelProto, size: tuple[int, int]) -> Head:
    """Finds the head of a rewritten graph.

    Args:
        proto: From `image` to `logits`.
        size: Rows and columns of the image.
    """
    tensors = Tensors(proto)
    path = _path(tensors)
    shapes = _shapes(proto, path, size)
    linear = next((name for name in path if _is_linear(tensors.sources.get(name))), None)
    entering = tensors.before(linear) if linear is not None else None
    if entering is None or not _is_embedding(shapes.get(entering)):
        return Head(LOGITS, tuple(shapes[LOGITS].shape[1:]), None)
    behind = path[path.index(entering) :]
    grid = next((name for name in behind if _is_grid(shapes.get(name))), None)
    features = _pooled(proto, grid, shapes[grid]) if grid is not None else None
    return Head(entering, tuple(shapes[entering].shape[1:]), features)


def _path(tensors: Tensors) -> list[str]:
    """Returns the tensors from the logits back, as far as each is made of one other."""
    path = [LOGITS]
    while len(path) < _LONGEST_PATH and (name := tensors.before(path[-1])) is not None and name != IMAGE:
        path.append(name)
    return path


def _shapes(proto: ModelProto, names: Sequence[str], size: tuple[int, int]) -> dict[str, Array]:
    image = np.random.default_rng(0).standard_normal((1, 3, *size), np.float32)
    return dict(zip(names, runner(proto, names)({IMAGE: image}), strict=True))


def _is_linear(node: NodeProto | None) -> bool:
    if node is None or node.op_type not in _LINEAR:
        return False
    kernel = next((list(one.ints) for one in node.attribute if one.name == "kernel_shape"), [])
    return node.op_type != "Conv" or set(kernel) <= {1}


def _is_embedding(value: Array | None) -> bool:
    """Whether it is one vector an image, or a grid of them."""
    if value is None or value.dtype.kind != "f":
        return False
    return sum(extent > 1 for extent in value.shape[1:]) <= 1 or value.ndim == 4


def _is_grid(value: Array | None) -> bool:
    if value is None or value.ndim != 4 or value.dtype.kind != "f":
        return False
    return bool(sum(extent > 1 for extent in value.shape[1:]) > 1)


def _pooled(proto: ModelProto, name: str, value: Array) -> PooledFeatures | None:
    """Returns features of which the logits are the linear map of the mean; None if they are not."""
    shape = value.shape[1:]
    rest = _cut(proto, name, value)
    if rest is None:
        return None
    try:
        run = runner(rest, [LOGITS])

        def logits(features: Array) -> Array:
            (found,) = run({name: np.ascontiguousarray(features[np.newaxis], value.dtype)})
            return np.asarray(found[0])

        for channels_last in (False, True):
            weights = _weights(logits, shape, channels_last, _TOLERANCES[value.dtype])
            if weights is not None:
                return PooledFeatures(name, shape, channels_last, weights)
    except ModelError:  # such as of a shape that is the image's
        return None
    return None


def _weights(
    logits: Callable[[Array], Array], shape: tuple[int, ...], channels_last: bool, tolerance: float
) -> Floats | None:
    """Returns the linear map of the mean of features, (K, C); None where there is none."""
    cells = shape[:2] if channels_last else shape[1:]
    if math.prod(cells) == 1:
        return None
    axes = (0, 1) if channels_last else (1, 2)
    bias = logits(np.zeros(shape, np.float32))
    random = np.random.default_rng(0).standard_normal(shape, np.float32)
    found = logits(random)
    allowed = tolerance * max(float(np.abs(found - bias).max()), float(np.abs(bias).max()))
    mean = random.mean(axis=axes, keepdims=True)
    # soon told of most others, without a run for each channel
    halved = logits(np.broadcast_to(mean / 2, shape))
    if not np.abs(2 * (halved - bias) - (found - bias)).max() <= 2 * allowed:
        return None
    columns = []
    for channel in range(shape[-1] if channels_last else shape[0]):
        features = np.zeros(shape, np.float32)
        features[(..., channel) if channels_last else channel] = 1
        columns.append(logits(features) - bias)
    weights = np.stack(columns, axis=1).astype(np.float32)
    differences = np.abs(found - bias - weights @ mean.ravel())
    return weights if differences.max() <= allowed else None


def _cut(proto: ModelProto, start: str, value: Array) -> ModelProto | None:
    """Returns the graph from a tensor to the logits, in which nothing is rounded to 8 bits; None if it needs more."""
    rest = ModelProto()
    rest.CopyFrom(proto)
    kept = [node for node in rest.graph.node if start not in node.output]
    del rest.graph.node[:]
    rest.graph.node.extend(kept)
    _without_rounding(rest)
    pruned(rest)
    tensors = {name for node in rest.graph.node for name in node.input}
    if IMAGE in tensors or start not in tensors:
        return None
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    del rest.graph.input[:]
    rest.graph.input.append(helper.make_tensor_value_info(start, kind, ["batch", *value.shape[1:]]))
    for output in rest.graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "batch"
    return rest


def _without_rounding(proto: ModelProto) -> None:
    """Leads around each pair of QuantizeLinear and DequantizeLinear, in place."""
    quantised = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in quantised:
            around = helper.make_node("Identity", [quantised[node.input[0]]], list(node.output), name=node.name)
            node.CopyFrom(around)

"""The other outputs of a model file: the embedding, and the exact activation map where the graph has one."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from cnn_perception.errors import ModelError
from cnn_perception.model.spec import ActivationSpec
from training.adopt.graph.head import Head, PooledFeatures
from training.adopt.graph.rewriting import ACTIVATION, EMBEDDING, LOGITS, Nodes
from training.graphs.receptive_field import Geometry, geometry

FEATURES = "adopted_features"


def completed(proto: ModelProto, head: Head) -> tuple[ModelProto, ActivationSpec | None]:
    """Returns a graph with the outputs `embedding` and perhaps `activation`, and what its cells are.

    Args:
        proto: From `image` to `logits`.
        head: What was found in it.
    """
    made = Nodes("adopted_head_")
    embedding = _embedding(made, head)
    batch = proto.graph.output[0].type.tensor_type.shape.dim[0]
    count = batch.dim_value or batch.dim_param
    outputs = [helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, [count, embedding])]
    if head.features is not None:
        _activation(made, head.features)
        outputs.append(helper.make_tensor_value_info(ACTIVATION, TensorProto.FLOAT, [count, *head.features.grid]))
    result = ModelProto()
    result.CopyFrom(proto)
    result.graph.node.extend(made.nodes)
    result.graph.initializer.extend(made.constants)
    result.graph.output.extend(outputs)
    return result, None if head.features is None else _cells(result, head.features)


def _embedding(made: Nodes, head: Head) -> int:
    """Adds the embedding; returns how many numbers it has."""
    found = made.add("Cast", [head.embedding], to=TensorProto.FLOAT)
    if sum(extent > 1 for extent in head.shape) > 1:  # cells of a convolution
        found = made.add("GlobalAveragePool", [found])
        dimensions = head.shape[0]
    else:
        dimensions = math.prod(head.shape)
    made.add("Reshape", [found, np.array([-1, dimensions], np.int64)], EMBEDDING)
    return dimensions


def _activation(made: Nodes, features: PooledFeatures) -> None:
    """Adds the map of the class with the highest logit: each cell's features times its weights."""
    channels = features.weights.shape[1]
    rows, columns = features.grid
    last = "" if features.channels_last else FEATURES
    cells = made.add("Cast", [features.tensor], last, to=TensorProto.FLOAT)
    if features.channels_last:
        cells = made.add("Transpose", [cells], FEATURES, perm=[0, 3, 1, 2])
    flat = made.add("Reshape", [cells, np.array([-1, channels, rows * columns], np.int64)])
    top = made.add("ArgMax", [LOGITS], axis=1, keepdims=0)
    weights = made.add("Gather", [features.weights, top], axis=0)
    alpha = made.add("Reshape", [weights, np.array([-1, 1, channels], np.int64)])
    weighted = made.add("MatMul", [alpha, flat])
    made.add("Reshape", [weighted, np.array([-1, rows, columns], np.int64)], ACTIVATION)


def _cells(proto: ModelProto, features: PooledFeatures) -> ActivationSpec:
    """Returns what a cell of the map means; of a graph whose pixels cannot be followed each sees the whole image."""
    rows, columns = features.grid
    place = _geometry(proto, features)
    return ActivationSpec("cam", rows, columns, place.stride, place.receptive_field, place.offset)


def _geometry(proto: ModelProto, features: PooledFeatures) -> Geometry:
    size = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim][2:]
    down, right = (pixels / cells for pixels, cells in zip(size, features.grid, strict=True))
    evenly = Geometry((down, right), (0, 0), ((down - 1) / 2, (right - 1) / 2))
    try:
        known = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        found = geometry(known, FEATURES)
    except (onnx.shape_inference.InferenceError, KeyError, IndexError, ValueError, ModelError):
        return evenly  # operators of others, whose shapes ONNX does not know
    return found if all(math.isfinite(stride) and stride > 0 for stride in found.stride) else evenly

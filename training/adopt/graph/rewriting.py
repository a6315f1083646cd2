"""A foreign graph as one of ours: `image` (N, 3, H, W) float32, prepared as the description says, -> `logits` (N, K).

What is put before it is the difference between our input and its own; what is put behind it undoes nothing but what
makes scores of logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from training.adopt.graph.image_input import GREY, ImageInput
from training.adopt.graph.scores_output import ScoresOutput
from training.adopt.graph.tensors import Array, Tensors, pruned

IMAGE, LOGITS, EMBEDDING, ACTIVATION = "image", "logits", "embedding", "activation"
_OWN = {IMAGE, LOGITS, EMBEDDING, ACTIVATION, "score_map"}
_PREFIX = "adopted_"
_SMALLEST_SCORE = np.array(1e-30, np.float32)
"""Of which the logarithm is taken: float32 knows no smaller ones with all their digits."""
LEAST_DOUBT = 5e-4
"""How far from 0 and 1 a score is kept of which the logit is taken.

The nearer to 1, the fewer digits float32 has of the difference: two runs of one graph that differ in the last bit would
have logits that differ by more than the certificate allows.
"""


@dataclass(frozen=True, eq=False)
class Rewritten:
    """A graph of ours.

    Attributes:
        proto: The graph.
        names: What each tensor of the foreign graph is called in it; the others are called as they were.
    """

    proto: ModelProto
    names: Mapping[str, str]

    def original(self, name: str) -> str:
        """Returns what a tensor is called in the foreign graph."""
        return next((old for old, new in self.names.items() if new == name), name)


@dataclass(eq=False)
class Nodes:
    """Nodes that are added to a graph, one behind the other, with their constants."""

    prefix: str
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str | Array], output: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """Adds a node; arrays among its inputs become constants. Returns the name of its output."""
        name = output or f"{self.prefix}{len(self.nodes)}"
        names = [one if isinstance(one, str) else self._constant(one) for one in inputs]
        self.nodes.append(
            helper.make_node(operator, names, [name], name=f"{self.prefix}node{len(self.nodes)}", **attributes)
        )
        return name

    def _constant(self, values: Array) -> str:
        name = f"{self.prefix}constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name


def rewritten(foreign: ModelProto, image: ImageInput, scores: ScoresOutput) -> Rewritten:
    """Returns the graph from our image to logits, for as many images at once as it had.

    Args:
        foreign: At an opset from `foreign_file.OLDEST_OPSET` on.
        image: Its input.
        scores: Its output.
    """
    proto = ModelProto()
    proto.CopyFrom(foreign)
    names = _renamed(proto)
    logits = names.get(scores.logits, scores.logits)
    before = _before(image, names.get(image.name, image.name))
    behind = _behind(scores, logits)
    inner = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*before.nodes, *inner, *behind.nodes])
    proto.graph.initializer.extend([*before.constants, *behind.constants])
    size = [image.batch or "batch", 3, image.height, image.width]
    del proto.graph.input[:]
    proto.graph.input.append(helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, size))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [size[0], scores.classes]))
    del proto.metadata_props[:]
    pruned(proto)
    return Rewritten(proto, names)


def _renamed(proto: ModelProto) -> dict[str, str]:
    """Renames tensors that are called as ours, in place; returns their new names."""
    graph = proto.graph
    found = {name for node in graph.node for name in (*node.input, *node.output)}
    names = {}
    for name in sorted(one for one in found if one in _OWN or one.startswith(_PREFIX)):
        new = f"foreign_{name}"
        while new in found:
            new = f"foreign_{new}"
        names[name] = new
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.initializer):
        value.name = names.get(value.name, value.name)
    del graph.quantization_annotation[:]
    return names


def _before(image: ImageInput, name: str) -> Nodes:
    """Returns what makes the foreign input, called `name`, of our image."""
    made = Nodes(f"{_PREFIX}input_")
    tensor = IMAGE
    if image.channels == 1:
        tensor = made.add("Conv", [tensor, np.array(GREY, np.float32).reshape(1, 3, 1, 1)], kernel_shape=[1, 1])
    if image.order == "bgr":
        tensor = made.add("Gather", [tensor, np.array([2, 1, 0], np.int64)], axis=1)
    if image.takes_bytes:
        scaled = made.add("Mul", [tensor, np.array(255, np.float32)])
        clipped = made.add("Clip", [scaled, np.array(0, np.float32), np.array(255, np.float32)])
        tensor = made.add(
            "Add", [clipped, np.array(0.5, np.float32)]
        )  # what is cut off then rounds halves up, as Pillow does
    if image.layout == "NHWC":
        tensor = made.add("Transpose", [tensor], perm=[0, 2, 3, 1])
    made.add("Cast", [tensor], name, to=image.element)
    return made


def _behind(scores: ScoresOutput, tensor: str) -> Nodes:
    """Returns what makes `logits` (N, K) of a tensor."""
    made = Nodes(f"{_PREFIX}output_")
    found = made.add("Cast", [tensor], to=TensorProto.FLOAT)
    if scores.form == "logarithm":
        found = made.add("Log", [made.add("Max", [found, _SMALLEST_SCORE])])
    if scores.form == "one score":  # log p / (1 - p), each step of one tensor, so that the head is found behind them
        inside = made.add("Clip", [found, np.array(LEAST_DOUBT, np.float32), np.array(1 - LEAST_DOUBT, np.float32)])
        odds_against = made.add("Sub", [made.add("Reciprocal", [inside]), np.array(1, np.float32)])
        found = made.add("Neg", [made.add("Log", [odds_against])])
    last = LOGITS if scores.classes == scores.outputs else ""
    found = made.add("Reshape", [found, np.array([-1, scores.outputs], np.int64)], last)
    if scores.classes != scores.outputs:  # softmax (0, z) = (1 - sigmoid z, sigmoid z)
        made.add("Pad", [found, np.array([0, 1, 0, 0], np.int64), np.array(0, np.float32)], LOGITS)
    return made


def with_one_image(found: Rewritten) -> Rewritten:
    """Returns a graph as one that takes one image alone."""
    proto = ModelProto()
    proto.CopyFrom(found.proto)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return Rewritten(proto, found.names)


def with_free_batch(found: Rewritten, batch: int) -> Rewritten:
    """Returns a graph that was made for a number of images as one for any number, as far as its constants tell.

    Whether it is one has to be tried.
    """
    proto = ModelProto()
    proto.CopyFrom(found.proto)
    tensors = Tensors(found.proto)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for number, node in enumerate(proto.graph.node):
        if node.op_type != "Reshape" or node.input[0] not in tensors.of_image:
            continue
        shape = tensors.constant(node.input[1])
        if shape is None or 0 in shape or list(shape[:1]) != [batch]:
            continue
        free = np.array([0 if -1 in shape else -1, *shape[1:]], np.int64)  # 0 is as many as there were
        node.input[1] = f"{_PREFIX}shape{number}"
        _without(node, "allowzero")
        proto.graph.initializer.append(numpy_helper.from_array(free, node.input[1]))
    pruned(proto)
    return Rewritten(proto, found.names)


def _without(node: NodeProto, name: str) -> None:
    """Takes an attribute from a node, in place."""
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)

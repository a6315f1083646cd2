"""The tensors of a graph: which of them depend on the image, what computes them, and their values for some images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import ModelProto, NodeProto, ValueInfoProto, numpy_helper

from cnn_perception.errors import ModelError
from cnn_perception.model.session import ORT_ERRORS, reason_of

Array = npt.NDArray[Any]
_OF_SHAPE_ALONE = {"Shape", "Size"}
"""Their outputs are the same for every image of one size."""
_FATAL = 4  # of ONNX Runtime's levels


@dataclass(frozen=True, eq=False)
class Tensors:
    """A graph, its tensors by name.

    Attributes:
        proto: Its inputs are images alone, no weights.
    """

    proto: ModelProto

    @cached_property
    def sources(self) -> Mapping[str, NodeProto]:
        """The node that computes each tensor."""
        return {name: node for node in self.proto.graph.node for name in node.output}

    @cached_property
    def of_image(self) -> frozenset[str]:
        """Tensors whose values depend on the image."""
        found = {value.name for value in self.proto.graph.input}
        for node in self.proto.graph.node:  # they are in the order of computation
            if node.op_type not in _OF_SHAPE_ALONE and found.intersection(node.input):
                found.update(node.output)
        return frozenset(found)

    def before(self, name: str) -> str | None:
        """Returns the one tensor of the image that a tensor is computed from; None where there is none or several."""
        node = self.sources.get(name)
        found = {one for one in node.input if one in self.of_image} if node is not None else set()
        return found.pop() if len(found) == 1 else None

    def constant(self, name: str) -> Array | None:
        """Returns the values of a weight or a constant; None for other tensors."""
        for tensor in self.proto.graph.initializer:
            if tensor.name == name:
                return numpy_helper.to_array(tensor)
        node = self.sources.get(name)
        if node is None or node.op_type != "Constant":
            return None
        given = {attribute.name: attribute for attribute in node.attribute}
        if "value" in given:
            return numpy_helper.to_array(given["value"].t)
        if "value_float" in given:
            return np.array(given["value_float"].f, np.float32)
        if "value_floats" in given:
            return np.array(given["value_floats"].floats, np.float32)
        return np.array(given["value_ints"].ints, np.int64) if "value_ints" in given else None


def runner(proto: ModelProto, names: Sequence[str]) -> Callable[[Mapping[str, Array]], list[Array]]:
    """Returns what computes tensors of a graph, inner ones too, on the CPU.

    Args:
        proto: A graph.
        names: The tensors; each once.

    Raises:
        ModelError: If ONNX Runtime cannot load it; what is returned raises it where it cannot run it.
    """
    shown = ModelProto()
    shown.CopyFrom(proto)
    declared = {value.name: value for value in proto.graph.output}
    del shown.graph.output[:]
    # of the others ONNX Runtime finds the types itself
    shown.graph.output.extend(declared.get(name, ValueInfoProto(name=name)) for name in names)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL
    try:
        session = onnxruntime.InferenceSession(shown.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        raise ModelError(f"ONNX Runtime {onnxruntime.__version__} cannot load it ({reason_of(error)})") from None

    def run(feeds: Mapping[str, Array]) -> list[Array]:
        try:
            return list(session.run(list(names), dict(feeds)))
        except ORT_ERRORS as error:
            raise ModelError(f"ONNX Runtime {onnxruntime.__version__} cannot run it ({reason_of(error)})") from None

    return run


def pruned(proto: ModelProto) -> None:
    """Takes nodes and weights that no output needs out of a graph, and what it says of inner shapes; in place."""
    needed = {value.name for value in proto.graph.output}
    kept = []
    for node in reversed(proto.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    weights = [tensor for tensor in proto.graph.initializer if tensor.name in needed]
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(kept))
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(weights)
    del proto.graph.value_info[:]

"""Cuts an ONNX model down to the nodes and weights that some of its outputs, or of its inner tensors, need.

ONNX Runtime computes every node of a file, whichever outputs are asked for: its `only_execute_path_to_fetches` works in
training builds alone (onnxruntime issue 16013). So the rest is cut off before ONNX Runtime sees the file, on its bytes:
the robot has no `onnx` package.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from cnn_perception.model.onnx_file import fields

# Source: onnx.proto of ONNX 1.20; numbers never change.
_GRAPH, _NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO = 7, 1, 5, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _OPERATOR, _TENSOR_NAME, _VALUE_NAME = 1, 2, 4, 8, 1
_BYTES = 2  # protobuf's wire type


@dataclass(frozen=True)
class Computed:
    """A tensor that a node computes.

    Attributes:
        name: Of the tensor.
        operator: Of the node, such as `Conv`.
    """

    name: str
    operator: str


def subgraph(model: bytes, outputs: Set[str], tensors: Set[str] = frozenset()) -> bytes:
    """Returns the model with these outputs alone, without the nodes and weights that only others need.

    Args:
        model: An ONNX model such as `training.export` makes and `read_onnx_file` has looked through: none of its nodes
            has a graph inside.
        outputs: Names of outputs; those that the model does not have are left out.
        tensors: Names of inner tensors that become outputs, too; ONNX Runtime finds their types by itself.

    Raises:
        ValueError: If a name in it is no text, or a part of the graph is damaged.
    """
    parts: list[bytes | memoryview] = []
    copied = 0
    for number, start, end in fields(model, 0, len(model)):
        if number == _GRAPH:
            needed = _needed_fields(model, start, end, outputs | tensors)
            present = _outputs(model, start, end)
            needed += [memoryview(_output(name)) for name in sorted(tensors - present)]
            parts += [_varint(_GRAPH << 3 | _BYTES), _varint(sum(map(len, needed))), *needed]
        else:
            parts.append(memoryview(model)[copied:end])
        copied = end
    return b"".join(parts)


def computed(model: bytes, source: str, output: str) -> list[Computed]:
    """Returns the tensors between an input and an output, in the order of computation, the output included.

    Args:
        model: As for `subgraph`.
        source: Name of the input; what does not depend on it, such as weights of another type, is left out.
        output: Name of the output; what it does not depend on is left out.

    Raises:
        ValueError: As for `subgraph`.
    """
    found = []
    for number, start, end in fields(model, 0, len(model)):
        if number == _GRAPH:
            found += _computed(model, list(fields(model, start, end)), source, output)
    return found


def _computed(model: bytes, graph: Sequence[tuple[int, int, int]], source: str, output: str) -> list[Computed]:
    nodes, _ = _needed_nodes(model, graph, {output})
    reached = {source}
    found = []
    for number, first, last in graph:
        if number == _NODE and first in nodes and reached & _names(model, first, last, _NODE_INPUT):
            made = _names(model, first, last, _NODE_OUTPUT) - {""}
            reached |= made
            (operator,) = _names(model, first, last, _OPERATOR)
            found += [Computed(name, operator) for name in sorted(made)]
    return found


def _needed_fields(model: bytes, start: int, end: int, outputs: Set[str]) -> list[memoryview]:
    """Returns the fields of the graph between two positions that are needed, each with its key."""
    graph = list(fields(model, start, end))
    nodes, values = _needed_nodes(model, graph, outputs)
    needed = []
    copied = start
    for number, first, last in graph:
        if number == _NODE:
            is_needed = first in nodes
        elif number == _OUTPUT:
            is_needed = bool(outputs & _names(model, first, last, _VALUE_NAME))
        elif number == _INITIALIZER:
            is_needed = bool(values & _names(model, first, last, _TENSOR_NAME))
        elif number == _VALUE_INFO:
            is_needed = bool(values & _names(model, first, last, _VALUE_NAME))
        else:
            is_needed = True
        if is_needed:
            needed.append(memoryview(model)[copied:last])
        copied = last
    return needed


def _needed_nodes(model: bytes, graph: Sequence[tuple[int, int, int]], outputs: Set[str]) -> tuple[set[int], set[str]]:
    """Returns the positions of the nodes that compute the outputs, and the names of all values they need."""
    nodes = set()
    values = set(outputs)
    for number, first, last in reversed(graph):  # the nodes are in the order of computation
        if number == _NODE and values & _names(model, first, last, _NODE_OUTPUT):
            nodes.add(first)
            values |= _names(model, first, last, _NODE_INPUT)
    return nodes, values


def _outputs(model: bytes, start: int, end: int) -> set[str]:
    """Returns the names of the outputs of the graph between two positions."""
    names = set()
    for number, first, last in fields(model, start, end):
        if number == _OUTPUT:
            names |= _names(model, first, last, _VALUE_NAME)
    return names


def _output(name: str) -> bytes:
    """Returns the field of a graph that makes a tensor an output."""
    text = name.encode()
    value = bytes([*_varint(_VALUE_NAME << 3 | _BYTES), *_varint(len(text)), *text])
    return bytes([*_varint(_OUTPUT << 3 | _BYTES), *_varint(len(value)), *value])


def _names(model: bytes, start: int, end: int, field: int) -> set[str]:
    return {model[first:last].decode() for number, first, last in fields(model, start, end) if number == field}


def _varint(value: int) -> bytes:
    """Returns an integer as bytes, seven bits each, the lowest first.

    Source: the protocol buffers documentation, "Encoding".
    """
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])

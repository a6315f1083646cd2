"""The part of an ONNX file that some of its outputs need.

ONNX Runtime computes every node of a file, whichever outputs are asked for: its `only_execute_path_to_fetches` works in
training builds alone (onnxruntime issue 16013). So the rest is cut off before ONNX Runtime sees the file, on its bytes:
the robot has no `onnx` package.
"""

from __future__ import annotations

from collections.abc import Set

from cnn_perception.model.onnx_file import fields

# Source: onnx.proto of ONNX 1.20; numbers never change.
_GRAPH, _NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO = 7, 1, 5, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _TENSOR_NAME, _VALUE_NAME = 1, 2, 8, 1
_BYTES = 2  # protobuf's wire type


def subgraph(model: bytes, outputs: Set[str]) -> bytes:
    """Returns the model with these outputs alone, without the nodes and weights that only others need.

    Args:
        model: An ONNX model such as `training.export` makes and `read_onnx_file` has looked through: none of its nodes
            has a graph inside.
        outputs: Names of outputs; those that the model does not have are left out.
    """
    parts: list[bytes | memoryview] = []
    done = 0
    for number, start, end in fields(model, 0, len(model)):
        if number == _GRAPH:
            kept = _kept(model, start, end, outputs)
            parts += [_varint(_GRAPH << 3 | _BYTES), _varint(sum(map(len, kept))), *kept]
        else:
            parts.append(memoryview(model)[done:end])
        done = end
    return b"".join(parts)


def _kept(model: bytes, start: int, end: int, outputs: Set[str]) -> list[memoryview]:
    """Returns the fields of the graph between two positions that are needed, each with its key."""
    graph = list(fields(model, start, end))
    needed, nodes = set(outputs), set[int]()
    for number, first, last in reversed(graph):  # the nodes are in the order of computation
        if number == _NODE and needed & _names(model, first, last, _NODE_OUTPUT):
            nodes.add(first)
            needed |= _names(model, first, last, _NODE_INPUT)
    named = {_OUTPUT: (_VALUE_NAME, outputs), _INITIALIZER: (_TENSOR_NAME, needed), _VALUE_INFO: (_VALUE_NAME, needed)}
    kept, done = [], start
    for number, first, last in graph:
        field, wanted = named.get(number, (0, outputs))
        if first in nodes if number == _NODE else not field or wanted & _names(model, first, last, field):
            kept.append(memoryview(model)[done:last])
        done = last
    return kept


def _names(model: bytes, start: int, end: int, field: int) -> set[str]:
    return {model[first:last].decode() for number, first, last in fields(model, start, end) if number == field}


def _varint(value: int) -> bytes:
    """Writes an integer, seven bits a byte, the lowest first.

    Source: the protocol buffers documentation, "Encoding".
    """
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])

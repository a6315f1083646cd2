"""Reads an ONNX file without running it: its bytes, digest and metadata; refuses damaged and incomplete files.

ONNX Runtime follows what a model says of other files: tensors may lie in "external data", which it opens relative to
the working directory, and in some releases anywhere. A model file of this package is one file, so such a model is
refused here, before ONNX Runtime sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cnn_perception.errors import ModelError
from cnn_perception.mistaken_files import what_instead

LARGEST_FILE_BYTES = 2**31 - 1
"""protobuf's limit for one message, and so for a self-contained ONNX file."""
_OTHER_FILES = (
    (b"PK\3\4", "is a zip archive, as torch.save writes its files; make an .onnx file of it with training.export"),
    (b"\x1f\x8b", "is a gzip archive; unpack it"),
)

# Where tensors can be, by message and field number. Source: onnx.proto of ONNX 1.20; numbers never change.
GRAPH_FIELD, _METADATA, _EXTERNAL_DATA, _DATA_LOCATION = 7, 14, 13, 14
_CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {GRAPH_FIELD: "graph", 25: "function"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """One model file in memory.

    Attributes:
        path: Where it came from.
        data: Its bytes.
        sha256: Hex digest of them.
        metadata: The texts that the model carries besides its graph.
    """

    path: Path
    data: bytes
    sha256: str
    metadata: Mapping[str, str]


def read_onnx_file(path: Path) -> OnnxFile:
    """Reads a whole model file.

    Raises:
        ModelError: If it cannot be read, is no ONNX file, is cut off, or keeps tensors in other files; names the file,
            what is wrong and what to do.
    """
    data = _read(path)
    if what := what_not_onnx(data):
        raise ModelError(f"{path}: {what}")
    try:
        graphs, metadata, external = _scan(data)
    except ValueError as error:
        raise ModelError(f"{path}: is no ONNX file, or a damaged one ({error}); export it again") from None
    if not graphs:
        raise ModelError(f"{path}: is no ONNX file (there is no graph in it); export it again")
    if external is not None:
        raise ModelError(
            f"{path}: keeps weights in another file ({external[:200]!r}), which is never opened; "
            "export it again as one file"
        )
    return OnnxFile(path, data, hashlib.sha256(data).hexdigest(), MappingProxyType(metadata))


def what_not_onnx(data: bytes) -> str:
    """Returns what a file is that people name as a model and that no ONNX file begins like, with what to do.

    Args:
        data: Its first bytes, or all of them.

    Returns:
        The end of an error; empty where it may be an ONNX file.
    """
    known = next((what for start, what in _OTHER_FILES if data.startswith(start)), "")
    return known or what_instead(data, "model file")


def _read(path: Path) -> bytes:
    if not str(path) or str(path) == ".":
        raise ModelError("no model is given; set `model` to an .onnx file made by training.export")
    try:
        if path.is_dir():
            raise ModelError(f"{path}: is a directory, not a model file; name the .onnx file in it")
        size = path.stat().st_size
        if not path.is_file():  # reading a pipe or a device might never end
            raise ModelError(f"{path}: is no regular file; name an .onnx file")
        if not 0 < size <= LARGEST_FILE_BYTES:
            raise ModelError(f"{path}: has {size} bytes, which is no ONNX file; export it again")
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such model file; make one with `python -m training.export`") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{str(path)!r}: cannot be read ({reason}); check the path and its permissions") from None


def _scan(data: bytes) -> tuple[int, dict[str, str], str | None]:
    """Returns how many graphs a model has, its metadata, and where the first external tensor lies, if there is one."""
    graphs = 0
    metadata: dict[str, str] = {}
    pending = [("model", 0, len(data))]  # a stack of messages: graphs in graphs may be deeper than Python recurses
    while pending:
        message, start, end = pending.pop()
        if message == "tensor":
            external = _external_location(data, start, end)
            if external is not None:
                return 1, metadata, external
            continue
        children = _CHILDREN[message]
        for number, first, last in fields(data, start, end):
            graphs += message == "model" and number == GRAPH_FIELD
            if message == "model" and number == _METADATA:
                key, value = _entry(data, first, last)
                if key in metadata:
                    raise ValueError(f"its metadata has {key[:200]!r} twice")
                metadata[key] = value
            elif number in children:
                pending.append((children[number], first, last))
    return graphs, metadata, None


def _external_location(data: bytes, start: int, end: int) -> str | None:
    """Returns where a tensor's values lie; None where they are in the tensor itself."""
    found = None
    for number, first, last in fields(data, start, end):
        if number == _DATA_LOCATION and _varint(data, first, last)[0] != 0:
            found = found or ""
        elif number == _EXTERNAL_DATA:
            key, value = _entry(data, first, last)
            found = value if key == "location" else found or ""
    return found


def _entry(data: bytes, start: int, end: int) -> tuple[str, str]:
    """Returns the key and the value of what ONNX calls a StringStringEntryProto."""
    texts = {}
    for number, first, last in fields(data, start, end):
        texts[number] = data[first:last].decode()
    return texts.get(1, ""), texts.get(2, "")


def fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields (field number, start, end) of each field of a message.

    Source: the protocol buffers documentation, "Encoding".
    """
    while position < end:
        key, position = _varint(data, position, end)
        start = position
        wire_type = key & 7
        if wire_type == _BYTES:
            length, start = _varint(data, position, end)
            position = start + length
        elif wire_type == _VARINT:
            _, position = _varint(data, position, end)
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"byte {position} is not of its format")
        if position > end:
            raise ValueError(f"{position - end} bytes are missing at byte {end}")
        yield key >> 3, start, position


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Returns an integer of 1 to 10 bytes, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError(f"it is cut off at byte {end}")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"byte {position} is not of its format")

"""Reads serialised messages of any type whose fields are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import FieldDesc
from rosbags.typesys.store import Typestore

from cnn_perception.bag.cdr.payload import Payload

_Reading: TypeAlias = Callable[[Payload], Any]
"""Reads the next value of a message."""

_NUMBERS = {
    "bool": ("?", "bool"),
    "byte": ("B", "uint8"),
    "char": ("B", "uint8"),
    "int8": ("b", "int8"),
    "int16": ("h", "int16"),
    "int32": ("i", "int32"),
    "int64": ("q", "int64"),
    "uint8": ("B", "uint8"),
    "uint16": ("H", "uint16"),
    "uint32": ("I", "uint32"),
    "uint64": ("Q", "uint64"),
    "float32": ("f", "float32"),
    "float64": ("d", "float64"),
}
"""The number types of ROS 2, as `struct` and as numpy name them."""
_TEXT = "string"
_COUNT_BYTES = 4
"""Before a text or a sequence."""


class CdrReader:
    """Reads messages; used by one thread at a time."""

    def __init__(self, types: Typestore) -> None:
        """Prepares nothing: a type's reading is made when it is first met.

        Args:
            types: The fields of the messages' types, and the classes of which the messages are made.
        """
        self._types = types
        self._readings: dict[str, _Reading] = {}

    def message(self, data: bytes, kind: str) -> tuple[Any, frozenset[str]]:
        """Returns a message, and what is not as the standard demands of it, in a few words each.

        Args:
            data: The serialised message with its header.
            kind: Its type, such as `sensor_msgs/msg/Image`; none with wide characters.

        Raises:
            BagError: If its bytes are no such message; the reason alone.
        """
        payload = Payload(memoryview(data))
        message = self._message(kind)(payload)
        payload.end()
        return message, frozenset(payload.oddities)

    def _message(self, kind: str) -> _Reading:
        if kind not in self._readings:
            self._readings[kind] = self._made(kind)
        return self._readings[kind]

    def _made(self, kind: str) -> _Reading:
        definition = self._types.get_msgdef(kind)
        make = definition.cls
        fields = [(name, self._value(description)) for name, description in definition.fields]

        def read(payload: Payload) -> object:
            values = []
            for name, reading in fields:
                payload.field = name
                values.append(reading(payload))
            return make(*values)

        return read

    def _value(self, description: FieldDesc) -> _Reading:
        """Returns how a field's value is read."""
        if description[0] == Nodetype.NAME:
            return self._message(description[1])
        if description[0] == Nodetype.BASE:
            if description[1][0] == _TEXT:
                return Payload.text
            code, name = _NUMBERS[description[1][0]]
            size = np.dtype(name).itemsize
            return lambda payload: payload.number(code, size)
        element, length = description[1]
        is_array = description[0] == Nodetype.ARRAY
        smallest = self._smallest(element)

        def count(payload: Payload) -> int:
            return length if is_array else payload.count(smallest)

        if element[0] == Nodetype.BASE and element[1][0] != _TEXT:
            kind = np.dtype(_NUMBERS[element[1][0]][1])
            return lambda payload: payload.numbers(kind, count(payload))
        reading = self._value(element)
        return lambda payload: [reading(payload) for _ in range(count(payload))]

    def _smallest(self, description: FieldDesc) -> int:
        """Returns how many bytes a value has at least, without those of alignment."""
        if description[0] == Nodetype.NAME:
            return sum(self._smallest(field) for _, field in self._types.get_msgdef(description[1]).fields)
        if description[0] == Nodetype.BASE:
            name = description[1][0]
            return _COUNT_BYTES if name == _TEXT else np.dtype(_NUMBERS[name][1]).itemsize
        element, length = description[1]
        return length * self._smallest(element) if description[0] == Nodetype.ARRAY else _COUNT_BYTES

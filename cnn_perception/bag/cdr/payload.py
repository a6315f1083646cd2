"""One serialised message, read from front to back, value by value.

What a subscriber with Fast DDS takes, ROS 2's default, is taken here, and what it refuses is refused: a robot answers
images whose frame_id is no UTF-8, and so must whoever evaluates its recordings. No value is made before all of its
bytes are known to be there.

Source: OMG DDS-XTypes 1.3, 7.4 (Data Representation) and 7.6.3.1.2 (Encapsulation); what is taken beyond it was
measured with rclpy.serialization.deserialize_message.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_perception.errors import BagError

_HEADER_BYTES = 4
_CDR, _PL_CDR = (0, 1), (2, 3)
_CDR_2 = (6, 7, 8, 9, 10, 11)
"""What the second byte of the header says: how the message is serialised; even is big-endian, odd little-endian. Of all
of them Fast DDS reads the messages of ROS 2 in the same way, but for the alignment."""
_LARGEST_ALIGNMENT = dict.fromkeys((*_CDR, *_PL_CDR), 8) | dict.fromkeys(_CDR_2, 4)
"""Bytes; numbers of eight bytes begin at multiples of it."""
_PADDING = 0b11
"""Of the header's last byte: so many bytes fill the message up to a multiple of four, where it is one."""
_MOST_PADDING_BYTES = 3
"""Behind a message, up to the next multiple of four."""


class Payload:
    """A serialised message and how far it is read.

    Attributes:
        field: Which field is being read, for errors; set by whoever reads.
        oddities: What is not as the standard demands, so far, in a few words each.
    """

    def __init__(self, data: memoryview) -> None:
        """Reads the header.

        Raises:
            BagError: If it is none that ROS 2 reads.
        """
        kind = int.from_bytes(data[:2], "big")
        if len(data) < _HEADER_BYTES or kind not in _LARGEST_ALIGNMENT:
            raise BagError(f"its first bytes, {bytes(data[:_HEADER_BYTES]).hex(' ') or 'none'}, are not those of CDR")
        self.field = ""
        self.oddities: set[str] = set()
        if kind not in _CDR:
            self.oddities.add(f"representation {kind} in place of CDR")
        self._order = "<" if kind % 2 else ">"
        self._largest_alignment = _LARGEST_ALIGNMENT[kind]
        padding = data[3] & _PADDING if len(data) % 4 == 0 else 0
        self._data = data[_HEADER_BYTES : max(_HEADER_BYTES, len(data) - padding)]
        self._position = 0

    def number(self, code: str, size: int) -> Any:  # noqa: ANN401 bool, int or float
        """Returns the next number.

        Args:
            code: As `struct` names its type.
            size: Its bytes.

        Raises:
            BagError: If the message ends before.
        """
        self._align(size)
        return struct.unpack(self._order + code, self._take(size))[0]

    def text(self) -> str:
        """Returns the next text: up to its first NUL, as C++ reads it, with U+FFFD for bytes that are no UTF-8.

        Raises:
            BagError: If the message ends before.
        """
        content = bytes(self._take(self.number("I", 4)))
        said, nul, behind = content.partition(b"\0")
        if not nul:
            self.oddities.add(f"{self.field} has no NUL at its end")
        elif behind:
            self.oddities.add(f"{self.field} has a NUL before its end")
        try:
            return said.decode()
        except UnicodeDecodeError:
            self.oddities.add(f"{self.field} is no UTF-8")
            return said.decode(errors="replace")

    def numbers(self, kind: np.dtype[Any], count: int) -> npt.NDArray[Any]:
        """Returns the next numbers, (count,), as a view of the message where their bytes are in this machine's order.

        Raises:
            BagError: If the message ends before.
        """
        if count:
            self._align(kind.itemsize)
        found = np.frombuffer(self._take(count * kind.itemsize), np.dtype(f"{self._order}{kind.str[1:]}"))
        return found.astype(kind, copy=False)

    def count(self, smallest: int) -> int:
        """Returns how many elements a sequence has.

        Args:
            smallest: Bytes that each has at least.

        Raises:
            BagError: If the message cannot hold so many.
        """
        count: int = self.number("I", 4)
        left = len(self._data) - self._position
        if count * smallest > left:
            raise BagError(f"{self.field} claims {count} elements, and {left} bytes are left")
        return count

    def end(self) -> None:
        """Ends the reading: what is behind the message is of nobody."""
        if len(self._data) - self._position > _MOST_PADDING_BYTES:
            self.oddities.add("bytes behind the message")

    def _align(self, size: int) -> None:
        self._position += -self._position % min(size, self._largest_alignment)

    def _take(self, size: int) -> memoryview:
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            left = max(0, len(self._data) - start)
            raise BagError(f"truncated: {self.field} has {left} of {size} bytes")
        return self._data[start : self._position]

"""Reads an MCAP file by the records that are in it, not by what its indexes say. Source: the MCAP specification.

Indexes may be left out, and those of a damaged file lead past messages. Only what a file says of its number of messages
is kept, to be compared with what is read.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Collection, Generator
from operator import itemgetter
from typing import BinaryIO

from rosbags.interfaces import Connection
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_mcap import ChunkInfo, McapReader, read_exact

_MESSAGE, _CHUNK = 0x05, 0x06
_FOOTER_BYTES = 9 + 20 + 8
"""Its record, and the magic number at the end of the file."""
_LATEST_NS = 2**64
_Message = tuple[Connection, int, bytes]


class RecordReader(McapReader):
    """rosbags' reader, which finds chunks, and messages outside of them, by itself."""

    def open(self) -> None:
        """Opens the file and lists its chunks.

        Raises:
            ReaderError: If a record is broken, or a channel with messages is not described.
        """
        super().open()
        assert self.bio is not None
        known = dict.fromkeys((connection.id for connection in self.connections), 1)
        counts = self.statistics.channel_message_counts if self.statistics else {}
        if any(counts[number] for number in counts.keys() - known.keys()):
            raise ReaderError("The summary counts messages of a channel that it does not describe.")
        self.chunks = []
        self._loose: list[tuple[int, int, int, int]] = []  # time, channel, where the message begins, its length
        for opcode, start, length in _records(self.bio, self.data_start):
            if opcode == _CHUNK:
                self.chunks.append(_chunk(self.bio, start, length, known))
            elif opcode == _MESSAGE:
                channel, _, time_ns, _ = struct.unpack("<HIQQ", read_exact(self.bio, 22))
                self._loose.append((time_ns, channel, start + 22, length - 22))

    def read_index(self) -> None:
        """Takes in the summary; without statistics, messages are counted one by one."""
        super().read_index()
        if self.statistics is None:
            self.chunks.clear()  # whose counts are those of the message indexes, which may be left out

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[_Message, None, None]:
        """Yields the messages of connections in the order of reception, whatever the chunks say of their times."""
        if start is not None or stop is not None:
            raise NotImplementedError
        sources = [self._loose_messages(connections)]
        if self.chunks:
            sources.append(super().messages(connections, 0, _LATEST_NS))
        yield from heapq.merge(*sources, key=itemgetter(1))

    def _loose_messages(self, connections: Collection[Connection]) -> Generator[_Message, None, None]:
        known = {connection.id: connection for connection in connections}
        for time_ns, channel, start, length in sorted(self._loose):
            if channel in known:
                assert self.bio is not None
                self.bio.seek(start)
                yield known[channel], time_ns, read_exact(self.bio, length)


def _records(bio: BinaryIO, position: int) -> Generator[tuple[int, int, int], None, None]:
    """Yields (opcode, where it begins, length) of the content of each record before the footer; `bio` is there then.

    The summary's are among them: a damaged opcode must not end the data.
    """
    end = bio.seek(-_FOOTER_BYTES, 2)
    while position < end:
        bio.seek(position)
        opcode, length = struct.unpack("<BQ", read_exact(bio, 9))
        if position + 9 + length > end:
            raise ReaderError(f"The record at byte {position} is broken.")
        yield opcode, position + 9, length
        position += 9 + length


def _chunk(bio: BinaryIO, start: int, length: int, channels: dict[int, int]) -> ChunkInfo:
    head = read_exact(bio, min(length, 256))
    first_ns, last_ns, size, _, name_length = struct.unpack_from("<QQQII", head)
    (packed,) = struct.unpack_from("<Q", head, 32 + name_length)
    name = head[32 : 32 + name_length].decode("ascii")
    if 40 + name_length + packed > length:
        raise ReaderError(f"The chunk at byte {start} is longer than its record.")
    return ChunkInfo(first_ns, last_ns, start - 9, length + 9, {}, 0, name, packed, size, channels)

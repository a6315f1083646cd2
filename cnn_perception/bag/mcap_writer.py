"""Writes an MCAP file straight from the bytes of its messages, which are never copied on their way to the system.

Whoever answers frames in another thread of the process notices nothing of it: Python's lock is not held while the
megabytes of an image are summed up and written.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path

from cnn_perception.bag.mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    DATA_END,
    FOOTER,
    HEAD,
    HEADER,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    MESSAGE_INDEX,
    METADATA,
    METADATA_INDEX,
    SCHEMA,
    STATISTICS,
    SUMMARY_OFFSET,
)

_LIBRARY = "cnn_perception"
_METADATA_NAME = "rosbag2"
_MOST_BUFFERS = 512
"""Handed to the system at a time; Linux takes 1024."""
_STORED_BYTES = 2**24
"""So much is handed over before the disk is asked to begin: a card writes it in a second, a request costs nothing."""

Buffer = bytes | memoryview


class McapWriter:
    """A new MCAP file of profile ros2; used by one thread at a time.

    Attributes:
        is_handed_over: Whether a message has been handed to the system.
        waiting_bytes: What waits for `end_chunk`.
    """

    def __init__(self, path: Path) -> None:
        """Begins the file.

        Raises:
            OSError: If it is there already, or cannot be made.
        """
        self.is_handed_over = False
        self.waiting_bytes = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._links = os.fstat(self._descriptor).st_nlink
        self._offset = 0  # of the end of what is whole
        self._stored = 0  # until where the system has been asked to store
        self._descriptions: dict[int, list[bytes]] = {SCHEMA: [], CHANNEL: []}
        self._chunk: list[Buffer] = []
        self._places: dict[int, list[tuple[int, int]]] = {}
        self._chunk_indexes: list[bytes] = []
        self._counts: Counter[int] = Counter()
        self._times_ns: tuple[int, int] | None = None
        try:
            self._write([MAGIC, *_record(HEADER, _text("ros2") + _text(_LIBRARY))])
        except OSError:
            with suppress(OSError):
                self.abandon()
            raise

    def add_schema(self, name: str, definition: str) -> int:
        """Returns the number of a new message type, whose definition is that of ROS 2."""
        number = len(self._descriptions[SCHEMA]) + 1
        content = struct.pack("<H", number) + _text(name) + _text("ros2msg") + _text(definition)
        return self._describe(SCHEMA, number, content)

    def add_channel(self, topic: str, schema: int) -> int:
        """Returns the number of a new topic with messages of a type, as CDR."""
        number = len(self._descriptions[CHANNEL]) + 1
        about = _map({"offered_qos_profiles": "[]"})
        return self._describe(CHANNEL, number, struct.pack("<HH", number, schema) + _text(topic) + _text("cdr") + about)

    def _describe(self, opcode: int, number: int, content: bytes) -> int:
        record = b"".join(_record(opcode, content))
        self._descriptions[opcode].append(record)
        self._put(record)
        return number

    def write(self, channel: int, time_ns: int, payload: Buffer) -> None:
        """Adds a message to the chunk, which keeps its bytes until `end_chunk`."""
        first_ns, last_ns = self._times_ns or (time_ns, time_ns)
        self._times_ns = min(first_ns, time_ns), max(last_ns, time_ns)
        self._places.setdefault(channel, []).append((time_ns, self.waiting_bytes))
        self._put(HEAD.pack(MESSAGE, MESSAGE_HEAD.size + len(payload)))
        self._put(MESSAGE_HEAD.pack(channel, 0, time_ns, time_ns))
        self._put(payload)

    def _put(self, part: Buffer) -> None:
        self._chunk.append(part)
        self.waiting_bytes += len(part)

    def end_chunk(self) -> None:
        """Hands what waits to the system; a kill does not lose it any more.

        Raises:
            OSError: If the disk is full; the file ends with the chunk before.
        """
        if not self._places:
            return
        size = self.waiting_bytes
        times_ns = [time_ns for places in self._places.values() for time_ns, _ in places]
        checksum = 0
        for part in self._chunk:
            checksum = zlib.crc32(part, checksum)
        numbers = struct.pack("<QQQI", min(times_ns), max(times_ns), size, checksum)
        head = numbers + _text("") + struct.pack("<Q", size)
        start = self._offset
        length = HEAD.size + len(head) + size
        index, offsets = self._message_index(start + length)
        self._write([HEAD.pack(CHUNK, len(head) + size), head, *self._chunk, index])
        found = struct.pack("<QQQQ", min(times_ns), max(times_ns), start, length)
        found += len(offsets).to_bytes(4, "little") + offsets + struct.pack("<Q", len(index))
        self._chunk_indexes.append(found + _text("") + struct.pack("<QQ", size, size))
        self._counts.update({channel: len(places) for channel, places in self._places.items()})
        self._chunk = []
        self._places = {}
        self.waiting_bytes = 0
        self.is_handed_over = True
        self._begin_to_store()

    def _begin_to_store(self) -> None:
        """Has the system begin to store what it was handed, without waiting, so that little is left to `close`.

        Source: mm/fadvise.c of Linux: what is not stored yet is then begun with.
        """
        if self._offset - self._stored >= _STORED_BYTES:
            with suppress(OSError):
                os.posix_fadvise(self._descriptor, self._stored, self._offset - self._stored, os.POSIX_FADV_DONTNEED)
            self._stored = self._offset

    def _message_index(self, start: int) -> tuple[bytes, bytes]:
        """Returns the records that say where a chunk's messages are, and where those records are by channel."""
        index = b""
        offsets = b""
        for channel, places in self._places.items():
            offsets += struct.pack("<HQ", channel, start + len(index))
            entries = b"".join(struct.pack("<QQ", *place) for place in places)
            content = struct.pack("<HI", channel, len(entries)) + entries
            index += b"".join(_record(MESSAGE_INDEX, content))
        return index, offsets

    def finish(self, metadata: str) -> None:
        """Writes the index at the end; what is still to come is `close`.

        Args:
            metadata: That of rosbag2, as YAML.

        Raises:
            OSError: If the disk is full; the messages are there.
        """
        try:
            self.end_chunk()
            start = self._offset
            record = b"".join(_record(METADATA, _text(_METADATA_NAME) + _map({"serialized_metadata": metadata})))
            self._write([record, *_record(DATA_END, bytes(4))])
            place = struct.pack("<QQ", start, len(record)) + _text(_METADATA_NAME)
            self._write_summary(b"".join(_record(METADATA_INDEX, place)))
        except BaseException:
            self.abandon()
            raise

    def close(self) -> None:
        """Waits until all is on the disk, and closes the file.

        Raises:
            OSError: If the disk is full, or fails.
        """
        try:
            os.fsync(self._descriptor)
        finally:
            self.abandon()

    def _write_summary(self, metadata_index: bytes) -> None:
        chunks = b"".join(b"".join(_record(CHUNK_INDEX, index)) for index in self._chunk_indexes)
        groups = {
            SCHEMA: b"".join(self._descriptions[SCHEMA]),
            CHANNEL: b"".join(self._descriptions[CHANNEL]),
            CHUNK_INDEX: chunks,
            METADATA_INDEX: metadata_index,
            STATISTICS: b"".join(_record(STATISTICS, self._statistics())),
        }
        start = self._offset
        summary = b"".join(groups.values())
        offsets = b""
        place = start
        for opcode, group in groups.items():
            if group:
                offsets += b"".join(_record(SUMMARY_OFFSET, struct.pack("<BQQ", opcode, place, len(group))))
            place += len(group)
        footer = b"".join(_record(FOOTER, struct.pack("<QQI", start, start + len(summary), 0)))
        self._write([summary, offsets, footer, MAGIC])

    def _statistics(self) -> bytes:
        schemas, channels = (len(self._descriptions[opcode]) for opcode in (SCHEMA, CHANNEL))
        first_ns, last_ns = self._times_ns or (0, 0)
        numbers = (self._counts.total(), schemas, channels, 0, 1, len(self._chunk_indexes), first_ns, last_ns)
        counts = b"".join(struct.pack("<HQ", channel, self._counts[channel]) for channel in range(1, channels + 1))
        return struct.pack("<QHIIIIQQ", *numbers) + len(counts).to_bytes(4, "little") + counts

    def abandon(self) -> None:
        """Closes the file after the last whole chunk; harmless when it is closed."""
        descriptor = self._descriptor
        self._descriptor = -1  # it is closed even where the system tells then that a disk has failed
        if descriptor >= 0:
            os.close(descriptor)

    def _write(self, parts: list[Buffer]) -> None:
        """Writes all parts, or none of them; the system itself does not tell that nobody finds them any more."""
        if os.fstat(self._descriptor).st_nlink < self._links:
            raise OSError(errno.ENOENT, "the file was removed while it was written")
        try:
            for first in range(0, len(parts), _MOST_BUFFERS):
                _write_all(self._descriptor, parts[first : first + _MOST_BUFFERS])
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._offset)
            raise
        self._offset += sum(map(len, parts))


def _write_all(descriptor: int, parts: list[Buffer]) -> None:
    views = [memoryview(part) for part in parts]
    while views:
        written = os.writev(descriptor, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views:
            views[0] = views[0][written:]


def _record(opcode: int, content: bytes) -> tuple[bytes, bytes]:
    return HEAD.pack(opcode, len(content)), content


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def _map(entries: dict[str, str]) -> bytes:
    content = b"".join(_text(key) + _text(value) for key, value in entries.items())
    return len(content).to_bytes(4, "little") + content

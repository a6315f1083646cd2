"""Reads MCAP files from the first record to the last; what a file says of itself is compared with what is found.

Indexes, statistics, chunk times, profile and QoS are claims of the writer, and none decides what is read. Only behind a
broken record the chunk index says where the next chunk begins. Source: https://mcap.dev/spec
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_perception.bag.decompression import LARGEST_MESSAGE_BYTES, most_unpacked_bytes, unpacked_chunk
from cnn_perception.bag.message_types import stored_type
from cnn_perception.bag.storage import MOST_LINES, MessageIndex, by_topic
from cnn_perception.errors import BagError

MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _MESSAGE_INDEX, _CHUNK_INDEX = range(2, 9)
_STATISTICS, _DATA_END = 0x0B, 0x0F
_FIRST_PRIVATE = 0x80
"""Opcodes from here on are a writer's own, to be skipped; those below that the format does not use are damage."""
_IN_DATA = frozenset({0x01, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _MESSAGE_INDEX, 0x09, 0x0C})
_IN_CHUNK = frozenset({_SCHEMA, _CHANNEL, _MESSAGE})
_IN_SUMMARY = frozenset({_SCHEMA, _CHANNEL, _CHUNK_INDEX, 0x0A, _STATISTICS, 0x0D, 0x0E})
_LARGEST_HEADER_BYTES = 2**16
_LONGEST_NAME_BYTES = 2**16
_HEAD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQI")
_STATISTICS_HEAD = struct.Struct("<QHIIIIQQ")
_FOOTER_BYTES = _HEAD.size + 20 + len(MAGIC)
_CHUNK_HEAD_BYTES = 256
"""Enough for the numbers of a chunk and the name of its compression."""
_LARGEST_RECORD_BYTES = 2**26
"""Of a schema, a channel or an index; large ones have some kilobytes."""
_PIECE_BYTES = 2**20

_Read = Callable[[int, int], "bytes | memoryview"]
"""Returns so many bytes from a place on, fewer at the end."""


@dataclass
class _Claims:
    """What a file says of itself.

    Attributes:
        chunks: Where its chunks begin, of the chunk index.
        counts: Messages by channel, of the statistics.
        total: Messages of all channels, of the statistics; None without them.
        times_ns: When the first and the last of them were received, of the statistics.
        indexed: Messages by channel, of the message indexes.
    """

    chunks: set[int] = field(default_factory=set)
    counts: dict[int, int] = field(default_factory=dict)
    total: int | None = None
    times_ns: tuple[int, int] = (0, 0)
    indexed: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Chunk:
    """A chunk record.

    Attributes:
        offset: Where its contents begin.
        length: How many bytes of them are in the file, perhaps compressed.
        times_ns: When the first and the last message were received, as the writer says.
        compression: Empty for none.
        size: How many bytes they should be when unpacked.
        checksum: CRC-32 of them; 0 for none.
    """

    offset: int
    length: int
    times_ns: tuple[int, int]
    compression: str
    size: int
    checksum: int


class McapFile:
    """An open MCAP file, a `StorageFile`; places are (number of the compressed chunk or -1, offset, size)."""

    def __init__(self, path: Path, shown: Path) -> None:
        """Scans the file once, as far as possible.

        Args:
            path: The file.
            shown: Where the user has it.

        Raises:
            BagError: If it is not an MCAP file.
            OSError: If it cannot be read.
        """
        self.path = shown
        self.damage: list[str] = []
        self.index = MessageIndex(place_size=3)
        self._descriptor = os.open(path, os.O_RDONLY)
        self._size = os.fstat(self._descriptor).st_size
        self._claims = _Claims()
        self._schemas: dict[int, tuple[str, str]] = {}
        self._chunk_starts: set[int] = set()
        self._outside: Counter[int] = Counter()
        self._oddities: Counter[str] = Counter()
        self._private = 0
        self._packed: list[_Chunk] = []
        self._unpacked: tuple[int, memoryview] = (-1, memoryview(b""))
        self._spare_bytes = most_unpacked_bytes(self._size)
        self._broken_chunks = 0
        self._broken_at: int | None = None
        self._has_data_end = False
        try:
            self._require_beginning()
            self._scan()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def message(self, place: npt.NDArray[np.int64]) -> bytes:
        """Returns a serialised message, see `StorageFile`."""
        number, offset, size = place.tolist()
        if size > LARGEST_MESSAGE_BYTES:
            raise BagError(f"it has {size} bytes; at most {LARGEST_MESSAGE_BYTES} are accepted")
        try:
            found = self._read(offset, size) if number < 0 else self._contents(number)[offset : offset + size].tobytes()
        except OSError as error:
            raise BagError(f"it cannot be read: {error.strerror}") from None
        if len(found) != size:
            raise BagError("the file has changed")
        return found

    def _read(self, offset: int, size: int) -> bytes:
        found = os.pread(self._descriptor, size, offset)
        while len(found) < size and (more := os.pread(self._descriptor, size - len(found), offset + len(found))):
            found += more
        return found

    def _contents(self, number: int) -> memoryview:
        """Returns the contents of a compressed chunk; those of the last one are kept."""
        if self._unpacked[0] != number:
            chunk = self._packed[number]
            packed = self._read(chunk.offset, chunk.length)
            self._unpacked = (number, memoryview(unpacked_chunk(chunk.compression, packed, chunk.size)))
        return self._unpacked[1]

    def _require_beginning(self) -> None:
        if self._read(0, len(MAGIC)) == MAGIC:
            return
        opcode, length = self._head(len(MAGIC)) if self._size > len(MAGIC) + _HEAD.size else (0, 0)
        if opcode != 1 or length > _LARGEST_HEADER_BYTES:
            raise BagError(f"{self.path}: does not begin like an MCAP file")
        self.damage.append(f"{self.path}: its first bytes are not those of an MCAP file; what follows was read")

    def _scan(self) -> None:
        has_footer = self._read_summary()
        try:
            self._scan_records(len(MAGIC), self._size - _FOOTER_BYTES if has_footer else self._size)
            self.index.checks_clock = False  # what follows is out of order
            for start in sorted(self._claims.chunks - self._chunk_starts):
                self._scan_lost_chunk(start)
        except BagError as error:
            self.damage.append(f"{self.path}: {error}; {self.index.count} messages were read")
            return
        except OSError as error:
            self.damage.append(f"{self.path}: {error.strerror}; {self.index.count} messages were read")
        self._say_broken(has_footer)
        self._compare_with_claims()

    def _say_broken(self, has_footer: bool) -> None:
        """Notes where the records ended early."""
        if self._broken_chunks > MOST_LINES:
            self.damage.append(f"{self.path}: {self._broken_chunks - MOST_LINES} other chunks are damaged, too")
        read = f"{self.index.count} messages were read"
        if self._has_data_end and not has_footer:
            self.damage.append(f"{self.path}: its end is damaged; {read}")
        elif self._broken_at is not None and has_footer:
            self.damage.append(f"{self.path}: is damaged at byte {self._broken_at}; {read}")
        elif not self._has_data_end and not has_footer:
            self.damage.append(f"{self.path}: is truncated; {read}; repair with `ros2 bag reindex`")

    def _scan_records(self, position: int, end: int) -> None:
        """Takes in the records from a place to the footer, as far as they are sound."""
        allowed = _IN_DATA
        while position != end:
            if position + _HEAD.size > self._size:
                self._broken_at = position
                return
            opcode, length = self._head(position)
            body = position + _HEAD.size
            if opcode == _DATA_END and not self._has_data_end:
                self._check_data(position, self._read(body, 4))
                self._has_data_end = True
                allowed = _IN_SUMMARY
            else:
                self._note_place(opcode, allowed)
            is_whole = length <= self._size - body
            if opcode == _CHUNK:
                self._scan_chunk(position, min(length, self._size - body), is_whole)
            elif is_whole:
                is_whole = self._scan_record(opcode, body, length)
            if not is_whole:
                self._broken_at = position
                return
            position = body + length

    def _note_place(self, opcode: int, allowed: Collection[int]) -> None:
        if opcode >= _FIRST_PRIVATE:
            self._private += 1
        elif opcode not in allowed:
            self._oddities["records are out of place"] += 1

    def _head(self, position: int) -> tuple[int, int]:
        opcode, length = _HEAD.unpack(self._read(position, _HEAD.size))
        return int(opcode), int(length)

    def _scan_record(self, opcode: int, body: int, length: int) -> bool:
        """Takes in a record that lies in no chunk; returns whether it is a sound one."""
        if opcode == _MESSAGE:
            if length < _MESSAGE_HEAD.size:
                return False
            number, _, time_ns, _ = _MESSAGE_HEAD.unpack(self._read(body, _MESSAGE_HEAD.size))
            self.index.add(number, time_ns, -1, body + _MESSAGE_HEAD.size, length - _MESSAGE_HEAD.size)
            self._outside[number] += 1
            return True
        if opcode == _MESSAGE_INDEX:
            return self._describe(opcode, self._read(body, min(length, 6)))
        if opcode in {_SCHEMA, _CHANNEL}:
            return length <= _LARGEST_RECORD_BYTES and self._describe(opcode, self._read(body, length))
        return _is_known(opcode)

    def _check_data(self, end: int, stored: bytes) -> None:
        """Compares the checksum of the data section, which few writers give, where no chunk has one of its own."""
        expected = int.from_bytes(stored, "little")
        if expected and not self._chunk_starts and _checksum(self._read, end) != expected:
            self.damage.append(f"{self.path}: its checksum differs; messages may be altered")

    def _describe(self, opcode: int, record: bytes | memoryview) -> bool:
        """Takes in a schema, a channel or a message index; returns whether it is a sound one."""
        try:
            if opcode == _SCHEMA:
                self._describe_schema(record)
            elif opcode == _CHANNEL:
                self._describe_channel(record)
            else:
                number, length = struct.unpack_from("<HI", record)
                self._claims.indexed[number] += length // 16
        except (struct.error, ValueError):
            return False
        return True

    def _describe_schema(self, record: bytes | memoryview) -> None:
        (number,) = struct.unpack_from("<H", record)
        name, position = _text(record, 2)
        encoding, _ = _text(record, position)
        if self._schemas.setdefault(number, (name, encoding)) != (name, encoding):
            self._oddities["schemas are described twice and differently"] += 1

    def _describe_channel(self, record: bytes | memoryview) -> None:
        number, schema = struct.unpack_from("<HH", record)
        topic, position = _text(record, 4)
        encoding, _ = _text(record, position)
        if schema and schema not in self._schemas:
            self._oddities["channels name a schema that is not there"] += 1
        name, _ = self._schemas.get(schema, ("", ""))
        if not self.index.describe(number, topic, stored_type(name, encoding)):
            self._oddities["channels are described twice and differently"] += 1

    def _scan_lost_chunk(self, start: int) -> None:
        """Takes in a chunk that only the chunk index leads to."""
        opcode, length = self._head(start) if start + _HEAD.size <= self._size else (0, 0)
        available = self._size - start - _HEAD.size
        if opcode == _CHUNK and length <= available:
            self._scan_chunk(start, length, is_whole=True)
        else:
            self._oddities["entries of its chunk index lead to no chunk"] += 1

    def _scan_chunk(self, start: int, length: int, is_whole: bool) -> None:
        """Takes in the messages of a chunk, as many as there are before it is broken.

        Raises:
            BagError: If there are too many messages.
        """
        self._chunk_starts.add(start)
        before = self.index.count
        try:
            chunk = self._chunk_at(start + _HEAD.size, length)
            trouble = self._scan_contents(chunk, is_whole)
        except (struct.error, ValueError):
            trouble = "its head is damaged"
        if not trouble or not is_whole:
            return
        self._broken_chunks += 1
        if self._broken_chunks <= MOST_LINES:
            found = self.index.count - before
            self.damage.append(f"{self.path}: the chunk at byte {start}: {trouble}; {found} of its messages were read")

    def _chunk_at(self, body: int, length: int) -> _Chunk:
        head = self._read(body, min(length, _CHUNK_HEAD_BYTES))
        first_ns, last_ns, size, checksum = _CHUNK_HEAD.unpack_from(head)
        compression, position = _text(head, _CHUNK_HEAD.size)
        (packed,) = struct.unpack_from("<Q", head, position)
        offset = position + 8
        return _Chunk(body + offset, min(packed, length - offset), (first_ns, last_ns), compression, size, checksum)

    def _scan_contents(self, chunk: _Chunk, is_whole: bool) -> str:
        """Takes in the messages of a chunk; returns what is wrong with it, or nothing."""
        if chunk.compression:
            self._spare_bytes -= chunk.size
            if self._spare_bytes < 0 or chunk.length > LARGEST_MESSAGE_BYTES:
                return "the file or the chunk is too large for a recording"
            try:
                contents = unpacked_chunk(chunk.compression, self._read(chunk.offset, chunk.length), chunk.size)
            except BagError as error:
                return str(error)
            self._packed.append(chunk)
            number, base, size = len(self._packed) - 1, 0, len(contents)
            read = _reader(contents)
        else:
            number, base, size = -1, chunk.offset, chunk.length
            read = self._read_from(chunk)
        is_sound = self._scan_messages(read, size, number, base, chunk if is_whole else None)
        if not is_sound or size != chunk.size:
            return f"it has {size} bytes of {chunk.size}" if size != chunk.size else "a record in it is broken"
        if chunk.checksum and is_whole and _checksum(read, size) != chunk.checksum:
            return "its checksum differs, messages may be altered"
        return ""

    def _read_from(self, chunk: _Chunk) -> _Read:
        """Returns how to read an uncompressed chunk: at once, or piece by piece if it is too large for that."""
        if chunk.length <= LARGEST_MESSAGE_BYTES:
            return _reader(self._read(chunk.offset, chunk.length))
        return lambda position, size: self._read(chunk.offset + position, min(size, chunk.length - position))

    def _scan_messages(self, read: _Read, end: int, number: int, base: int, chunk: _Chunk | None) -> bool:
        """Takes in the records of a chunk, None for one that is cut off; returns whether they are sound to the last."""
        first_ns = last_ns = -1
        position = 0
        while position + _HEAD.size <= end:
            opcode, length = _HEAD.unpack(read(position, _HEAD.size))
            position += _HEAD.size
            if length > end - position or not _is_known(opcode):
                break
            if opcode == _MESSAGE:
                if length < _MESSAGE_HEAD.size:
                    break
                channel, _, time_ns, _ = _MESSAGE_HEAD.unpack(read(position, _MESSAGE_HEAD.size))
                offset = base + position + _MESSAGE_HEAD.size
                self.index.add(channel, time_ns, number, offset, length - _MESSAGE_HEAD.size)
                first_ns = time_ns if first_ns < 0 else min(first_ns, time_ns)
                last_ns = max(last_ns, time_ns)
            elif opcode not in _IN_CHUNK:
                self._note_place(opcode, _IN_CHUNK)
            elif not self._describe(opcode, read(position, length)):
                break
            position += length
        if chunk is not None and first_ns >= 0 and position == end and _differ(chunk.times_ns, (first_ns, last_ns)):
            self._oddities["chunks give other times than their messages"] += 1
        return position == end

    def _read_summary(self) -> bool:
        """Takes in what the end of the file claims; returns whether it is there."""
        footer = self._size - _FOOTER_BYTES
        tail = self._read(max(footer, 0), _FOOTER_BYTES)
        if footer < 0 or _HEAD.unpack_from(tail) != (_FOOTER, 20) or not tail.endswith(MAGIC):
            return False
        (position,) = struct.unpack_from("<Q", tail, _HEAD.size)
        while 0 < position < footer:
            opcode, length = self._head(position)
            body = position + _HEAD.size
            position = body + length
            is_sound = length <= min(footer - body, _LARGEST_RECORD_BYTES) and _is_known(opcode)
            if not is_sound or not self._take_claim(opcode, self._read(body, length)):
                position = footer + 1
        if position not in {0, footer}:
            self._oddities["summaries are damaged"] += 1
        return True

    def _take_claim(self, opcode: int, record: bytes) -> bool:
        try:
            if opcode == _CHUNK_INDEX:
                self._claims.chunks.add(struct.unpack_from("<QQQ", record)[2])
            elif opcode == _STATISTICS:
                self._claims.total, *_, first_ns, last_ns = _STATISTICS_HEAD.unpack_from(record)
                self._claims.times_ns = (first_ns, last_ns)
                size = min(struct.unpack_from("<I", record, _STATISTICS_HEAD.size)[0], len(record)) // 10 * 10
                start = _STATISTICS_HEAD.size + 4
                self._claims.counts = dict(struct.iter_unpack("<HQ", record[start : start + size]))
        except struct.error:
            return False
        return opcode not in {_SCHEMA, _CHANNEL} or self._describe(opcode, record)

    def _compare_with_claims(self) -> None:
        """Notes where the file contradicts itself."""
        claims, index = self._claims, self.index
        found = {number: channel.count for number, channel in index.channels.items()}
        inside = {number: count - self._outside[number] for number, count in found.items()}
        promised = {number: count for number, count in claims.indexed.items() if count > inside.get(number, 0)}
        for what, counts, there in (
            ("its statistics", claims.counts, found),
            ("its indexes", promised, inside),
        ):
            topics = {number: channel.topic for number, channel in index.channels.items()}
            self.damage += by_topic(f"{self.path}: {what}", _named(counts, topics), _named(there, topics))
        total = index.count + index.orphans
        if claims.total not in {None, total}:
            self.damage.append(f"{self.path}: its statistics promise {claims.total} messages, {total} were found")
        elif index.count and claims.total == index.count and _differ(claims.times_ns, (index.first_ns, index.last_ns)):
            self._oddities["statistics give other times than the messages"] += 1
        if claims.total is None and not claims.indexed:
            self._oddities["records are of no kind that is known, and nothing says how many messages there are"] += (
                self._private
            )
        for what, count in self._oddities.items():
            if count:
                self.damage.append(f"{self.path}: contradicts itself ({count} {what}); all messages found were read")


def _is_known(opcode: int) -> bool:
    return 0 < opcode <= _DATA_END or opcode >= _FIRST_PRIVATE


def _differ(claimed_ns: tuple[int, int], found_ns: tuple[int, int]) -> bool:
    """Returns whether times are not those found; writers take a first time of 0, of a simulation, for none."""
    return claimed_ns[1] != found_ns[1] or found_ns[0] not in {0, claimed_ns[0]}


def _text(record: bytes | memoryview, position: int) -> tuple[str, int]:
    """Returns a string of a record, with escapes for what is no UTF-8, and where it ends."""
    (length,) = struct.unpack_from("<I", record, position)
    end = position + 4 + length
    if end > len(record) or length > _LONGEST_NAME_BYTES:
        raise ValueError("a name is longer than its record")
    return bytes(record[position + 4 : end]).decode(errors="backslashreplace"), end


def _reader(contents: bytes) -> _Read:
    view = memoryview(contents)
    return lambda position, size: view[position : position + size]


def _checksum(read: _Read, size: int) -> int:
    found = 0
    for position in range(0, size, _PIECE_BYTES):
        found = zlib.crc32(read(position, min(_PIECE_BYTES, size - position)), found)
    return found


def _named(counts: Mapping[int, int], topics: Mapping[int, str]) -> Counter[str]:
    """Returns counts by topic instead of by channel."""
    found: Counter[str] = Counter()
    for number, count in counts.items():
        found[topics.get(number, f"channel {number}")] += count
    return found

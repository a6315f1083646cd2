"""The records of an MCAP file, and what its summary says. Source: https://mcap.dev/spec."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(0x0B, 0x10)
FIRST_PRIVATE = 0x80
"""Opcodes from here on are a writer's own, to be skipped; those below that the format does not use are damage."""
IN_DATA = frozenset({HEADER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, 0x09, METADATA})
IN_CHUNK = frozenset({SCHEMA, CHANNEL, MESSAGE})
IN_SUMMARY = frozenset({SCHEMA, CHANNEL, CHUNK_INDEX, 0x0A, STATISTICS, METADATA_INDEX, SUMMARY_OFFSET})

HEAD = struct.Struct("<BQ")
"""Of every record: opcode and length."""
MESSAGE_HEAD = struct.Struct("<HIQQ")
"""Channel, sequence number, time of reception and of publication; the payload follows."""
FOOTER_BYTES = HEAD.size + 20 + len(MAGIC)
CHUNK_HEAD_BYTES = 256
"""Enough for the numbers of a chunk and the name of its compression."""
LARGEST_RECORD_BYTES = 2**26
"""Of a schema, a channel or an index; large ones have some kilobytes."""
LONGEST_NAME_BYTES = 2**16
_CHUNK_NUMBERS = struct.Struct("<QQQI")
_STATISTICS_NUMBERS = struct.Struct("<QHIIIIQQ")
_PIECE_BYTES = 2**20

Read = Callable[[int, int], "bytes | memoryview"]
"""Returns so many bytes from a place on, fewer at the end."""


@dataclass(frozen=True)
class Chunk:
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


@dataclass
class Summary:
    """What a file says of itself at its end.

    Attributes:
        descriptions: Opcode and content of the schemas and channels.
        chunks: Where the chunks begin.
        counts: Messages by channel.
        total: Messages of all channels; None without statistics.
        times_ns: When the first and the last of them were received.
        is_whole: Whether all of it can be read.
    """

    descriptions: list[tuple[int, bytes | memoryview]] = field(default_factory=list)
    chunks: set[int] = field(default_factory=set)
    counts: dict[int, int] = field(default_factory=dict)
    total: int | None = None
    times_ns: tuple[int, int] = (0, 0)
    is_whole: bool = True


def is_known(opcode: int) -> bool:
    """Returns whether the format uses an opcode, or leaves it to writers."""
    return 0 < opcode <= DATA_END or opcode >= FIRST_PRIVATE


def head_at(read: Read, position: int) -> tuple[int, int]:
    """Returns opcode and length of the record at a place, of which there are at least as many bytes."""
    opcode, length = HEAD.unpack(read(position, HEAD.size))
    return int(opcode), int(length)


def schema_of(record: bytes | memoryview) -> tuple[int, str]:
    """Returns the number of a schema and the name of its type.

    Raises:
        struct.error: If the record is too short.
        ValueError: If the name is too long.
    """
    (number,) = struct.unpack_from("<H", record)
    name, _ = text_at(record, 2)
    return number, name


def channel_of(record: bytes | memoryview) -> tuple[int, int, str, str]:
    """Returns the number of a channel, that of its schema, its topic and its encoding; raises as `schema_of`."""
    number, schema = struct.unpack_from("<HH", record)
    topic, position = text_at(record, 4)
    encoding, _ = text_at(record, position)
    return number, schema, topic, encoding


def chunk_at(read: Read, body: int, length: int) -> Chunk:
    """Returns the chunk whose record has its content, of which so many bytes are there, at a place.

    Raises:
        struct.error: If there are too few bytes.
        ValueError: If the name of the compression is too long.
    """
    head = read(body, min(length, CHUNK_HEAD_BYTES))
    first_ns, last_ns, size, checksum = _CHUNK_NUMBERS.unpack_from(head)
    compression, position = text_at(head, _CHUNK_NUMBERS.size)
    (packed,) = struct.unpack_from("<Q", head, position)
    offset = position + 8
    return Chunk(body + offset, min(packed, length - offset), (first_ns, last_ns), compression, size, checksum)


def text_at(record: bytes | memoryview, position: int) -> tuple[str, int]:
    """Returns a string of a record, with escapes for what is no UTF-8, and where it ends; raises as `schema_of`."""
    (length,) = struct.unpack_from("<L", record, position)
    end = position + 4 + length
    if end > len(record) or length > LONGEST_NAME_BYTES:
        raise ValueError("a name is longer than its record")
    return bytes(record[position + 4 : end]).decode(errors="backslashreplace"), end


def read_summary(read: Read, size: int) -> Summary | None:
    """Returns what the end of a file says; None if the end is not there.

    Args:
        read: Reads the file.
        size: Of the file, bytes.
    """
    footer = size - FOOTER_BYTES
    tail = bytes(read(footer, FOOTER_BYTES)) if footer >= 0 else b""
    if len(tail) < FOOTER_BYTES or HEAD.unpack_from(tail) != (FOOTER, 20) or not tail.endswith(MAGIC):
        return None
    summary = Summary()
    (position,) = struct.unpack_from("<Q", tail, HEAD.size)
    while 0 < position < footer:
        opcode, length = head_at(read, position)
        body = position + HEAD.size
        position = body + length
        if not is_known(opcode) or length > min(footer - body, LARGEST_RECORD_BYTES):
            break
        try:
            _take_in(summary, opcode, read(body, length))
        except struct.error:
            break
    summary.is_whole = position in {0, footer}
    return summary


def _take_in(summary: Summary, opcode: int, record: bytes | memoryview) -> None:
    if opcode in {SCHEMA, CHANNEL}:
        summary.descriptions.append((opcode, record))
    elif opcode == CHUNK_INDEX:
        summary.chunks.add(struct.unpack_from("<QQQ", record)[2])
    elif opcode == STATISTICS:
        summary.total, *_, first_ns, last_ns = _STATISTICS_NUMBERS.unpack_from(record)
        summary.times_ns = (first_ns, last_ns)
        start = _STATISTICS_NUMBERS.size + 4
        length = min(struct.unpack_from("<L", record, start - 4)[0], len(record) - start) // 10 * 10
        summary.counts = dict(struct.iter_unpack("<HQ", record[start : start + length]))


def checksum_of(read: Read, size: int) -> int:
    """Returns the CRC-32 of so many bytes."""
    found = 0
    for position in range(0, size, _PIECE_BYTES):
        found = zlib.crc32(read(position, min(_PIECE_BYTES, size - position)), found)
    return found

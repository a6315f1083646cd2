"""Damage to MCAP files that knows their records. Source: the MCAP specification."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from random import Random
from zlib import crc32

from fuzz.mutation import mutated, put_edge, rounds

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(0x01, 0x09)
STATISTICS, DATA_END = 0x0B, 0x0F
_NUMBERS = {
    FOOTER: ((0, "<Q"), (8, "<Q"), (16, "<I")),
    SCHEMA: ((0, "<H"), (2, "<I")),
    CHANNEL: ((0, "<H"), (2, "<H"), (4, "<I")),
    MESSAGE: ((0, "<H"), (2, "<I"), (6, "<Q"), (14, "<Q"), (26, "<I"), (30, "<I"), (34, "<I"), (38, "<I")),
    CHUNK: ((0, "<Q"), (8, "<Q"), (16, "<Q"), (24, "<I"), (28, "<I"), (32, "<Q"), (36, "<Q")),
    MESSAGE_INDEX: ((0, "<H"), (2, "<I"), (6, "<Q"), (14, "<Q")),
    CHUNK_INDEX: ((0, "<Q"), (8, "<Q"), (16, "<Q"), (24, "<Q"), (32, "<I"), (36, "<H"), (38, "<Q")),
    STATISTICS: ((0, "<Q"), (8, "<H"), (10, "<I"), (26, "<Q"), (34, "<Q"), (42, "<I"), (46, "<H"), (48, "<Q")),
}  # fmt: skip
"""Where numbers lie in the content of a record, and their types."""


@dataclass
class Record:
    """A record, and where it began in the file it was read from."""

    opcode: int
    content: bytes
    offset: int = -1

    def to_bytes(self) -> bytes:
        """Returns it as it lies in a file."""
        return struct.pack("<BQ", self.opcode, len(self.content)) + self.content


def records_of(data: bytes, offset: int = 0) -> list[Record]:
    """Returns the records of a file behind its magic, or of a chunk, up to the first that is cut off."""
    found = []
    position = 0
    while position + 9 <= len(data):
        opcode, length = struct.unpack_from("<BQ", data, position)
        if position + 9 + length > len(data):
            break
        found.append(Record(opcode, data[position + 9 : position + 9 + length], offset + position))
        position += 9 + length
    return found


def mutated_mcap(random: Random, content: bytes) -> bytes:
    """Returns a file with damaged records, in most cases with lengths and offsets that fit them."""
    records = records_of(content[len(MAGIC) :], len(MAGIC))
    if not records or random.random() < 0.2:
        return mutated(random, content)
    for _ in range(rounds(random)):
        _damage(random, records, is_chunk=False)
    data = _joined(records, keep_offsets=random.random() < 0.2)
    return data[: random.randrange(len(data))] if random.random() < 0.05 else data


def _damage(random: Random, records: list[Record], *, is_chunk: bool) -> None:
    at = random.randrange(len(records))
    record = records[at]
    if record.opcode == CHUNK and not is_chunk and random.random() < 0.5:
        inside = _damaged_chunk(random, record)
        if inside is not None:
            records[at] = inside
            return
    kind = random.randrange(8)
    if kind == 0:
        del records[at : at + random.choice((1, 1, 2, len(records)))]
    elif kind == 1:
        records.insert(random.randrange(len(records) + 1), Record(record.opcode, record.content))
    elif kind == 2:
        records.insert(random.randrange(len(records)), records.pop(at))
    elif kind == 3:
        records[at] = Record(random.choice((*range(0x10), 0x80, 0xFF)), record.content, record.offset)
    elif kind == 4:
        records[at] = Record(record.opcode, mutated(random, record.content), record.offset)
    else:
        records[at] = Record(record.opcode, _with_edge(random, record), record.offset)
    if not records:
        records.append(Record(DATA_END, bytes(4)))


def _with_edge(random: Random, record: Record) -> bytes:
    data = bytearray(record.content)
    at, code = random.choice(_NUMBERS.get(record.opcode, ((0, "<I"),)))
    if random.random() < 0.5 and at + struct.calcsize(code) <= len(data):
        (value,) = struct.unpack_from(code, data, at)
        largest = 2 ** (8 * struct.calcsize(code)) - 1
        struct.pack_into(code, data, at, max(0, min(largest, value + random.choice((-1, 1, 10, -(10**9), 10**9)))))
    else:
        put_edge(random, data, at, code)
    return bytes(data)


def _damaged_chunk(random: Random, record: Record) -> Record | None:
    """Returns a chunk with damaged records in it; None for one that is damaged already."""
    try:
        start, end, _, crc, name, data = unpacked_chunk(record.content)
    except (ValueError, struct.error, zstd.ZstdError):
        return None
    inside = records_of(data)
    if not inside:
        return None
    _damage(random, inside, is_chunk=True)
    data = b"".join(inner.to_bytes() for inner in inside)
    if random.random() < 0.1:
        data = data[:-1]
    packed = zstd.compress(data) if name == b"zstd" else data
    crc = crc32(data) if crc and random.random() < 0.8 else crc
    return Record(CHUNK, packed_chunk(start, end, len(data), crc, name, packed), record.offset)


def unpacked_chunk(content: bytes) -> tuple[int, int, int, int, bytes, bytes]:
    """Returns start and end time, size, checksum, name of the compression and the unpacked records.

    Raises:
        ValueError: If they are not what they claim.
    """
    start, end, size, crc, length = struct.unpack_from("<QQQII", content)
    name = content[32 : 32 + length]
    (count,) = struct.unpack_from("<Q", content, 32 + length)
    packed = content[40 + length : 40 + length + count]
    if len(packed) != count or name not in (b"", b"zstd"):
        raise ValueError("no chunk")
    data = packed if not name else zstd.ZstdDecompressor().decompress(packed, 2**22)
    if len(data) != size or (crc and crc32(data) != crc):
        raise ValueError("no chunk")
    return start, end, size, crc, name, data


def packed_chunk(start: int, end: int, size: int, crc: int, name: bytes, packed: bytes) -> bytes:
    """Returns the content of a chunk's record."""
    head = struct.pack("<QQQI", start, end, size, crc)
    return head + struct.pack("<I", len(name)) + name + struct.pack("<Q", len(packed)) + packed


def _joined(records: list[Record], *, keep_offsets: bool) -> bytes:
    """Returns a file of records; offsets that point to one of them follow it, unless they are kept."""
    places: dict[int, int] = {}
    position = len(MAGIC)
    for record in records:
        places.setdefault(record.offset, position)
        position += 9 + len(record.content)
    parts = [(record if keep_offsets else _moved(record, places)).to_bytes() for record in records]
    return b"".join((MAGIC, *parts, MAGIC))


def _moved(record: Record, places: dict[int, int]) -> Record:
    data = bytearray(record.content)
    for at in {FOOTER: (0, 8), CHUNK_INDEX: (16,)}.get(record.opcode, ()):
        if at + 8 <= len(data):
            (old,) = struct.unpack_from("<Q", data, at)
            struct.pack_into("<Q", data, at, places.get(old, old))
    return Record(record.opcode, bytes(data))

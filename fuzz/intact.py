"""What is intact in a damaged bag, found by other means than the reader's: no index, no metadata, no SQL of rosbags."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fuzz.mcap import CHANNEL, CHUNK, MAGIC, MESSAGE, SCHEMA, Record, records_of, unpacked_chunk

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Message = tuple[str, int, bytes]
"""Topic, time of reception in nanoseconds, and the message as it was serialised."""
_LARGEST_BYTES = 2**24


def intact_messages(bag: Path, types: dict[str, str]) -> set[Message]:
    """Returns the messages that can be read in the files of a bag by whoever knows the formats.

    Args:
        bag: A folder, or one file.
        types: By topic; a message of another type on it is not counted.
    """
    found: set[Message] = set()
    for path in sorted(bag.iterdir()) if bag.is_dir() else [bag]:
        unpacked = _unpacked(path)
        if unpacked.suffix == ".mcap":
            found.update(_in_mcap(unpacked.read_bytes(), types))
        elif unpacked.suffix == ".db3":
            found.update(_in_sqlite(unpacked, types))
        if unpacked != path:
            unpacked.unlink()
    return found


def _unpacked(path: Path) -> Path:
    """Returns a file of its own for what is in a .zstd file, the beginning of it where that is damaged."""
    if path.suffix != ".zstd":
        return path
    target = Path(tempfile.gettempdir()) / f"intact_{path.stem}"
    with target.open("wb") as sink, contextlib.suppress(EOFError, zstd.ZstdError), zstd.open(path) as source:
        while (piece := source.read1(2**20)) and sink.tell() < _LARGEST_BYTES:
            sink.write(piece)
    return target


def _unpacked_message(payload: bytes) -> bytes:
    if payload[:4] != b"\x28\xb5\x2f\xfd":
        return payload
    try:
        return zstd.decompress(payload) if len(payload) < _LARGEST_BYTES else payload
    except zstd.ZstdError:
        return payload


def _in_mcap(data: bytes, types: dict[str, str]) -> Iterator[Message]:
    if not data.startswith(MAGIC):
        return
    records = list(_all_records(data))
    schemas = {one: text for record in records if record.opcode == SCHEMA for one, text in _schema(record)}
    channels: dict[int, str | None] = {}
    for record in records:
        if record.opcode == CHANNEL:
            for number, topic in _channel(record, schemas, types):
                channels[number] = topic if channels.get(number, topic) == topic else None
    for record in records:
        if record.opcode == MESSAGE and len(record.content) >= 22:
            channel, _, time_ns, _ = struct.unpack_from("<HIQQ", record.content)
            topic = channels.get(channel)
            if topic is not None:
                yield topic, time_ns, _unpacked_message(record.content[22:])


def _all_records(data: bytes) -> Iterator[Record]:
    for record in records_of(data[len(MAGIC) :]):
        if record.opcode != CHUNK:
            yield record
            continue
        with contextlib.suppress(ValueError, struct.error, zstd.ZstdError):
            yield from records_of(unpacked_chunk(record.content)[-1])


def _schema(record: Record) -> Iterator[tuple[int, str]]:
    with contextlib.suppress(struct.error, UnicodeDecodeError):
        number, length = struct.unpack_from("<HI", record.content)
        yield number, record.content[6 : 6 + length].decode()


def _channel(record: Record, schemas: dict[int, str], types: dict[str, str]) -> Iterator[tuple[int, str | None]]:
    """Yields the number and the topic of a channel; None for one of another type."""
    with contextlib.suppress(struct.error, UnicodeDecodeError):
        number, schema, length = struct.unpack_from("<HHI", record.content)
        topic = record.content[8 : 8 + length].decode()
        is_whole = len(record.content) >= 8 + length and record.content[8 + length :].startswith(b"\x03\0\0\0cdr")
        yield number, topic if is_whole and types.get(topic) == schemas.get(schema, "") else None


def _in_sqlite(path: Path, types: dict[str, str]) -> Iterator[Message]:
    rows: list[tuple[object, object, object]] = []
    topics: dict[object, str] = {}
    with (
        contextlib.suppress(sqlite3.Error, UnicodeError, OverflowError),
        contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as database,
    ):
        kinds = dict(database.execute("SELECT name, type FROM sqlite_master").fetchall())
        if kinds.get("topics") != "table" or kinds.get("messages") != "table":
            return
        found = database.execute("SELECT id, name, type, serialization_format FROM topics")
        topics = {number: topic for number, topic, *kind in found if kind == [types.get(topic), "cdr"]}
        for row in database.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED"):
            rows.append(row)  # noqa: PERF402 those before an error count
    for number, time_ns, payload in rows:
        if number in topics and isinstance(time_ns, int) and isinstance(payload, bytes):
            yield topics[number], time_ns, _unpacked_message(payload)

"""Owns: of a damaged bag every image that is there is delivered, or something is said; nothing else is ever raised.

Found by `make fuzz`; each row is of a kind. Leaves to others: what is said (test_reader), the limits of unpacking
(test_decompression).
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_bag
import yaml
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from tiny_bag import RED, START_NS, flat

from cnn_perception.bag.reader import Bag
from cnn_perception.errors import BagError

COUNT = 8
STEP_NS = 10**8
MAGIC = b"\x89MCAP0\r\n"
CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX, STATISTICS, DATA_END = 0x04, 0x05, 0x06, 0x07, 0x08, 0x0B, 0x0F


def write(path: Path, storage: StoragePlugin, compression: CompressionMode = CompressionMode.NONE) -> Path:
    """A bag of COUNT images on /camera, and as many words."""
    messages = []
    for number in range(COUNT):
        time_ns = START_NS + number * STEP_NS
        messages += [("/camera", time_ns, tiny_bag.raw(flat(RED), time_ns)), ("/words", time_ns, tiny_bag.string("a"))]
    return tiny_bag.write_bag(path, messages, storage=storage, compression=compression)


def read(path: Path) -> tuple[int, list[str]]:
    """How many images of /camera are delivered, and the damage, or the refusal, that is said."""
    try:
        with Bag(path) as bag:
            count = len(list(bag.images(bag.image_topic("/camera"))))
            return count, bag.damage
    except BagError as error:
        return 0, [str(error)]


def all_or_said(path: Path) -> bool:
    """Whether every image was delivered; where not, something must have been said."""
    count, said = read(path)
    assert count == COUNT or said
    assert not [line for line in said if "\n" in line]
    return count == COUNT


# ---- metadata.yaml


def with_metadata(bag: Path, change: Callable[[dict], object]) -> Path:
    document = yaml.safe_load((bag / "metadata.yaml").read_text())
    change(document["rosbag2_bagfile_information"])
    (bag / "metadata.yaml").write_text(yaml.safe_dump(document))
    return bag


def topic(value: object, *names: str) -> Callable[[dict], object]:
    """Sets a field of the first topic, which is /camera."""

    def change(information: dict) -> None:
        holder = information["topics_with_message_count"][0]
        for name in names[:-1]:
            holder = holder[name]
        holder[names[-1]] = value

    return change


METADATA = {
    "files no list": lambda information: information.update(files="x"),
    "file a text": lambda information: information.update(files=["x"]),
    "file without a name": lambda information: information.update(files=[{"message_count": 3}]),
    "count of a file a text": lambda information: information["files"][0].update(message_count="x"),
    "count of a file wrong": lambda information: information["files"][0].update(message_count=3),
    "start of a file a list": lambda information: information["files"][0].update(starting_time=[1]),
    "start of a file a text": lambda information: information["files"][0].update(starting_time="x"),
    "files not listed": lambda information: information.update(relative_file_paths=[]),
    "another storage": lambda information: information.update(storage_identifier="x"),
    "storage a list": lambda information: information.update(storage_identifier=["mcap"]),
    "start a text": lambda information: information.update(starting_time={"nanoseconds_since_epoch": "x"}),
    "start infinite": lambda information: information.update(starting_time={"nanoseconds_since_epoch": float("inf")}),
    "no compression mode": lambda information: information.update(compression_mode=None),
    "count of all": lambda information: information.update(message_count=3),
    "no topics": lambda information: information.update(topics_with_message_count=[]),
    "topic a number": topic(7, "topic_metadata", "name"),
    "topic a list": topic(["/camera"], "topic_metadata", "name"),
    "topic of another name": topic("/kamera", "topic_metadata", "name"),
    "type a number": topic(7, "topic_metadata", "type"),
    "type of another name": topic("sensor_msgs/msg/Imag", "topic_metadata", "type"),
    "count a text": topic("8", "message_count"),
    "count nothing": topic(None, "message_count"),
    "count too high": topic(9, "message_count"),
    "count 0": topic(0, "message_count"),
    "other quality of service": topic([{}], "topic_metadata", "offered_qos_profiles"),
    "quality of service a number": topic(5, "topic_metadata", "offered_qos_profiles"),
}


@pytest.mark.parametrize("storage", StoragePlugin)
@pytest.mark.parametrize("name", METADATA)
def test_what_metadata_says_costs_no_image_without_a_word(tmp_path, storage, name):
    all_or_said(with_metadata(write(tmp_path / "bag", storage), METADATA[name]))


TEXTS = [
    "",
    "[",
    "a: b: c",
    "rosbag2_bagfile_information: 5",
    "&x [*x]",
    "!!python/object:os.x {}",
    "[" * 3000,
    "\0",
    "- a\n-",
]


@pytest.mark.parametrize("text", TEXTS)
def test_metadata_that_is_none_costs_no_image(tmp_path, text):
    bag = write(tmp_path / "bag", StoragePlugin.MCAP)
    (bag / "metadata.yaml").write_text(text)

    assert all_or_said(bag)


def test_metadata_that_is_no_text_costs_no_image(tmp_path):
    bag = write(tmp_path / "bag", StoragePlugin.MCAP)
    (bag / "metadata.yaml").write_bytes(b"\xff\xfe\x00")

    assert all_or_said(bag)


# ---- MCAP


def records(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    position = len(MAGIC)
    while position + 9 <= len(data) - len(MAGIC):
        opcode, length = struct.unpack_from("<BQ", data, position)
        found.append((opcode, data[position + 9 : position + 9 + length]))
        position += 9 + length
    return found


def joined(found: list[tuple[int, bytes]]) -> bytes:
    return MAGIC + b"".join(struct.pack("<BQ", opcode, len(content)) + content for opcode, content in found) + MAGIC


def in_chunk(data: bytes, change: Callable[[list[tuple[int, bytes]]], object]) -> bytes:
    """Changes the records in the only chunk, whose size may not change, so that all offsets stay."""
    found = records(data)
    at = next(number for number, (opcode, _) in enumerate(found) if opcode == CHUNK)
    content = found[at][1]
    inside = records(MAGIC + content[40:] + MAGIC)
    change(inside)
    changed = content[:40] + joined(inside)[len(MAGIC) : -len(MAGIC)]
    assert len(changed) == len(content)
    found[at] = (CHUNK, changed)
    return joined(found)


def message(inside: list[tuple[int, bytes]], number: int = 4) -> int:
    return [at for at, (opcode, _) in enumerate(inside) if opcode == MESSAGE][number]


def patched(opcode: int, position: int, layout: str, value: int) -> Callable[[bytes], bytes]:
    """Writes a number into every record of a kind outside of chunks."""

    def change(data: bytes) -> bytes:
        found = []
        for one, content in records(data):
            changed = bytearray(content)
            if one == opcode:
                struct.pack_into(layout, changed, position, value)
            found.append((one, bytes(changed)))
        return joined(found)

    return change


def with_opcode(inside: list[tuple[int, bytes]]) -> None:
    at = message(inside)
    inside[at] = (0x10, inside[at][1])


def with_other_channel(inside: list[tuple[int, bytes]]) -> None:
    at = message(inside)
    inside[at] = (MESSAGE, struct.pack("<H", 999) + inside[at][1][2:])


def with_other_time(inside: list[tuple[int, bytes]]) -> None:
    at = message(inside)
    content = inside[at][1]
    inside[at] = (MESSAGE, content[:6] + struct.pack("<Q", START_NS + 10**15) + content[14:])


def with_long_record(data: bytes) -> bytes:
    """Makes a message in the chunk say that it is longer than the chunk."""
    at = data.index(struct.pack("<BQ", MESSAGE, len(records_in_chunk(data)[-1])))
    return data[: at + 1] + struct.pack("<Q", 2**40) + data[at + 9 :]


def records_in_chunk(data: bytes) -> list[bytes]:
    content = next(content for opcode, content in records(data) if opcode == CHUNK)
    return [inner for opcode, inner in records(MAGIC + content[40:] + MAGIC) if opcode == MESSAGE]


MCAP = {
    "message with another opcode": lambda data: in_chunk(data, with_opcode),
    "message on a channel that is not there": lambda data: in_chunk(data, with_other_channel),
    "message outside of its chunk's times": lambda data: in_chunk(data, with_other_time),
    "message longer than its chunk": with_long_record,
    "chunk times": patched(CHUNK, 0, "<Q", START_NS + 10**15),
    "chunk index without the end": patched(CHUNK_INDEX, 8, "<Q", START_NS),
    "chunk index with another start": patched(CHUNK_INDEX, 0, "<Q", START_NS + 4 * STEP_NS),
    "chunk index that leads elsewhere": patched(CHUNK_INDEX, 16, "<Q", 2**40),
    "chunk index of no chunk": patched(CHUNK_INDEX, 16, "<Q", 0),
    "chunk index of another channel": patched(CHUNK_INDEX, 36, "<H", 999),
    "chunk longer than the file": patched(CHUNK, 32, "<Q", 2**63),
    "chunk unpacks to too much": patched(CHUNK, 16, "<Q", 2**40),
    "chunk compressed by nobody": lambda data: data.replace(b"zstd", b"zztd"),
    "statistics too high": patched(STATISTICS, 0, "<Q", 99),
    "statistics without messages": patched(STATISTICS, 0, "<Q", 0),
    "statistics of another channel": patched(STATISTICS, 46, "<H", 999),
    "statistics longer than they are": patched(STATISTICS, 42, "<I", 2**32 - 1),
    "channels of another type": lambda data: data.replace(b"sensor_msgs/msg/Image", b"sensor_msgs/msg/Imagd"),
    "channels of a schema that is not there": patched(CHANNEL, 2, "<H", 999),
    "text longer than its record": patched(CHANNEL, 4, "<I", 2**32 - 1),
    "end in the middle": lambda data: joined([(DATA_END, bytes(4)), *records(data)[1:]]),
    "data end before the chunk": lambda data: joined(
        [
            records(data)[0],
            (DATA_END, bytes(4)),
            *[one for one in records(data)[1:] if one[0] < CHUNK or one[0] == CHUNK],
        ]
    ),
    "no chunk index": lambda data: joined([one for one in records(data) if one[0] != CHUNK_INDEX]),
    "no message index": lambda data: joined([one for one in records(data) if one[0] != MESSAGE_INDEX]),
    "no statistics": lambda data: joined([one for one in records(data) if one[0] != STATISTICS]),
    "no footer": lambda data: joined(records(data)[:-1]),
}


@pytest.mark.parametrize("with_folder", [True, False])
@pytest.mark.parametrize("name", MCAP)
def test_what_is_wrong_in_an_mcap_file_costs_no_image_without_a_word(tmp_path, name, with_folder):
    bag = write(tmp_path / "bag", StoragePlugin.MCAP)
    file = bag / "bag.mcap"
    file.write_bytes(MCAP[name](file.read_bytes()))

    all_or_said(bag if with_folder else file)


@pytest.mark.parametrize("opcode", [0x00, 0x02, DATA_END, 0x10, 0xFF])
def test_message_outside_of_chunks_with_another_opcode_is_missed(tmp_path, opcode):
    bag = write(tmp_path / "bag", StoragePlugin.MCAP)
    file = bag / "bag.mcap"
    header, *_ = records(file.read_bytes())
    chunk = next(content for one, content in records(file.read_bytes()) if one == CHUNK)
    loose = records(MAGIC + chunk[40:] + MAGIC)
    at = message(loose)
    loose[at] = (opcode, loose[at][1])
    file.write_bytes(joined([header, *loose, (DATA_END, bytes(4)), (0x02, bytes(20))]))

    all_or_said(bag)


# ---- SQLite

SQLITE = {
    "definition of an unknown kind": ["UPDATE message_definitions SET encoding = 'x'"],
    "definition of no kind": ["UPDATE message_definitions SET encoding = NULL"],
    "topic without messages": ["UPDATE messages SET topic_id = 99 WHERE id = 1"],
    "topic without a name": ["UPDATE topics SET name = x'ff'"],
    "topic is a number": ["UPDATE topics SET name = 5"],
    "type is no text": ["UPDATE topics SET type = x'ff'"],
    "quality of service is no YAML": ["UPDATE topics SET offered_qos_profiles = '{['"],
    "quality of service is a number": ["UPDATE topics SET offered_qos_profiles = 5"],
    "quality of service is a text": ["UPDATE topics SET offered_qos_profiles = 'abc'"],
    "schema of the future": ["UPDATE schema SET schema_version = 9"],
    "schema is a text": ["ALTER TABLE schema RENAME TO s", "CREATE TABLE schema (schema_version)",
                         "INSERT INTO schema VALUES ('x')"],
    "no schema": ["DELETE FROM schema"],
    "message is a text": ["UPDATE messages SET data = 'text' WHERE id = 1"],
    "message is a number": ["UPDATE messages SET data = 5 WHERE id = 1"],
    "message is empty": ["UPDATE messages SET data = x'' WHERE id = 1"],
    "time is a text": ["UPDATE messages SET timestamp = 'x' WHERE id = 1"],
    "time is no whole number": ["UPDATE messages SET timestamp = 0.5 WHERE id = 1"],
    "time of all is a text": ["UPDATE messages SET timestamp = 'x'"],
    "message is gone": ["DELETE FROM messages WHERE id = 1"],
    "no topics": ["DELETE FROM topics"],
}  # fmt: skip


@pytest.mark.parametrize("name", SQLITE)
def test_what_is_wrong_in_a_database_costs_no_image_without_a_word(tmp_path, name):
    bag = write(tmp_path / "bag", StoragePlugin.SQLITE3)
    with contextlib.closing(sqlite3.connect(bag / "bag.db3")) as database, database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        for statement in SQLITE[name]:
            with contextlib.suppress(sqlite3.IntegrityError):
                database.execute(statement)

    all_or_said(bag)


def test_index_that_lacks_rows_costs_no_image(tmp_path):
    """SQLite itself would answer a query by time from the index alone."""
    bag = write(tmp_path / "bag", StoragePlugin.SQLITE3)
    with contextlib.closing(sqlite3.connect(bag / "bag.db3")) as database, database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'timestamp_idx'").fetchone()
    data = bytearray((bag / "bag.db3").read_bytes())
    at = (page - 1) * 4096 + 3
    struct.pack_into(">H", data, at, 2)  # entries of the page, of 16
    (bag / "bag.db3").write_bytes(data)

    assert all_or_said(bag / "bag.db3")


def test_table_that_lacks_rows_is_missed(tmp_path):
    bag = write(tmp_path / "bag", StoragePlugin.SQLITE3)
    with contextlib.closing(sqlite3.connect(bag / "bag.db3")) as database, database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
    data = bytearray((bag / "bag.db3").read_bytes())
    struct.pack_into(">H", data, (page - 1) * 4096 + 3, 1)
    (bag / "bag.db3").write_bytes(data)

    assert not all_or_said(bag)


# ---- files


@pytest.mark.parametrize("storage", StoragePlugin)
def test_file_that_metadata_does_not_list_is_named(tmp_path, storage):
    bag = write(tmp_path / "bag", storage)
    other = write(tmp_path / "other", storage)
    suffix = ".mcap" if storage == StoragePlugin.MCAP else ".db3"
    (other / f"other{suffix}").rename(bag / f"other{suffix}")

    count, said = read(bag)

    assert count == 2 * COUNT or any(f"other{suffix}" in line for line in said)


@pytest.mark.parametrize("storage", StoragePlugin)
@pytest.mark.parametrize("compression", [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_overwritten_bytes_cost_no_image_without_a_word(tmp_path, storage, compression, share):
    bag = write(tmp_path / "bag", storage, compression)
    (file,) = [path for path in bag.iterdir() if path.name != "metadata.yaml"]
    data = bytearray(file.read_bytes())
    at = int(share * len(data))
    data[at : at + 20] = b"\xff" * 20
    file.write_bytes(data)

    all_or_said(bag)

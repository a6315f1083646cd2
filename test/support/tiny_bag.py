"""Small rosbag2 files with known contents, written with `rosbags`."""

from __future__ import annotations

import contextlib
import io
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from cnn_perception.bag.reader import Bag
from cnn_perception.errors import FrameError

TYPES = get_typestore(Stores.ROS2_HUMBLE)
TYPES.register(get_types_from_msg("string class_id\nfloat64 score\n", "vision_msgs/msg/ObjectHypothesis"))
TYPES.register(
    get_types_from_msg("std_msgs/Header header\nObjectHypothesis[] results\n", "vision_msgs/msg/Classification")
)
_T = TYPES.types

START_NS = 1_700_000_000_000_000_000
RED, GREEN, BLUE = (200, 10, 10), (10, 200, 10), (10, 10, 200)


def header(stamp_ns: int):
    stamp = _T["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return _T["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")


def flat(colour, height: int = 30, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def raw(pixels: np.ndarray, stamp_ns: int, encoding: str = "rgb8", padding: int = 0):
    """sensor_msgs/Image of (H, W, 3) RGB pixels, with `padding` bytes of rubbish behind each row."""
    rows = pixels[:, :, ::-1] if encoding == "bgr8" else pixels
    height, width = rows.shape[:2]
    padded = np.full((height, width * 3 + padding), 255, np.uint8)
    padded[:, : width * 3] = rows.reshape(height, -1)
    image = _T["sensor_msgs/msg/Image"]
    return image(header(stamp_ns), height, width, encoding, 0, padded.shape[1], padded.reshape(-1))


def compressed(pixels: np.ndarray, stamp_ns: int, kind: str = "jpeg"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    data = np.frombuffer(buffer.getvalue(), np.uint8)
    return _T["sensor_msgs/msg/CompressedImage"](header(stamp_ns), kind, data)


def string(text: str):
    return _T["std_msgs/msg/String"](text)


def classification(stamp_ns: int, results: dict[str, float]):
    hypothesis = _T["vision_msgs/msg/ObjectHypothesis"]
    found = [hypothesis(name, score) for name, score in results.items()]
    return _T["vision_msgs/msg/Classification"](header(stamp_ns), found)


def number(value: float, bits: int = 32):
    return _T[f"std_msgs/msg/Float{bits}"](value)


def joint_state(stamp_ns: int, numbers: dict[str, float]):
    nothing = np.empty(0, np.float64)
    position = np.array(list(numbers.values()), np.float64)
    return _T["sensor_msgs/msg/JointState"](header(stamp_ns), list(numbers), position, nothing, nothing)


def write_bag(
    path: Path,
    messages: Iterable[tuple[str, int, object]],
    *,
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
    topics: dict[str, str] | None = None,
) -> Path:
    """Writes (topic, reception time in ns, message) and returns the folder; `topics` may add empty ones, by type."""
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = {
            name: writer.add_connection(name, kind, typestore=TYPES) for name, kind in (topics or {}).items()
        }
        for topic, time_ns, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], time_ns, TYPES.serialize_cdr(message, kind))
    return path


def _mcap_text(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<I", len(data)) + data


def mcap_record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


@dataclass
class McapWriter:
    """Writes MCAP files byte by byte from the specification, with all that a writer may leave out or get wrong.

    `channels` are (topic, message encoding, type, schema encoding), `messages` are (channel, time, payload); channel 1
    is the first. `ends` becomes where the record of each message that lies in no compressed chunk ends.
    """

    channels: Sequence[tuple[str, str, str, str]]
    messages: Sequence[tuple[int, int, bytes]]
    profile: str = "ros2"
    per_chunk: int = 4  # 0 for no chunks
    compression: str = ""
    pack: object = bytes
    checksums: bool = False
    message_index: bool = True
    chunk_index: bool = True
    statistics: bool = True
    repeated: bool = True
    extra: bytes = b""  # records behind the header
    chunk_times: tuple[int, int] | None = None
    counts: dict[int, int] = field(default_factory=dict)  # in place of the true ones
    lost_entries: int = 0  # of each message index
    chunk_offset: int = 0  # by which the chunk index is wrong
    ends: list[int] = field(default_factory=list)

    def write(self, path: Path) -> Path:
        magic = b"\x89MCAP0\r\n"
        described = self._described()
        body = magic + mcap_record(1, _mcap_text(self.profile) + _mcap_text("test")) + self.extra
        indexes = []
        if not self.per_chunk:
            body += described
            for message in self.messages:
                body += self._message(message)
                self.ends.append(len(body))
        for first in range(0, len(self.messages), self.per_chunk) if self.per_chunk else ():
            part = self.messages[first : first + self.per_chunk]
            body = self._with_chunk(body, part, described if first == 0 else b"", indexes)
        body += mcap_record(15, struct.pack("<I", 0))
        summary = described if self.repeated else b""
        summary += self._statistics(len(indexes)) if self.statistics else b""
        summary += b"".join(indexes) if self.chunk_index else b""
        start = len(body) if summary else 0
        path.write_bytes(body + summary + mcap_record(2, struct.pack("<QQI", start, 0, 0)) + magic)
        return path

    def _described(self) -> bytes:
        records = b""
        for number, (topic, encoding, kind, schema_encoding) in enumerate(self.channels, 1):
            schema = _mcap_text(kind) + _mcap_text(schema_encoding) + _mcap_text("")
            records += mcap_record(3, struct.pack("<H", number) + schema)
            channel = _mcap_text(topic) + _mcap_text(encoding) + _mcap_text("")
            records += mcap_record(4, struct.pack("<HH", number, number) + channel)
        return records

    def _message(self, message: tuple[int, int, bytes]) -> bytes:
        channel, time_ns, payload = message
        return mcap_record(5, struct.pack("<HIQQ", channel, 0, time_ns, time_ns) + payload)

    def _with_chunk(self, body: bytes, part, described: bytes, indexes: list[bytes]) -> bytes:
        content = described
        entries: dict[int, bytes] = {}
        ends = []
        for message in part:
            entries[message[0]] = entries.get(message[0], b"") + struct.pack("<QQ", message[1], len(content))
            content += self._message(message)
            ends.append(len(content))
        times = self.chunk_times or (min(m[1] for m in part), max(m[1] for m in part))
        packed = self.pack(content)
        head = struct.pack("<QQQI", *times, len(content), zlib.crc32(content) if self.checksums else 0)
        head += _mcap_text(self.compression) + struct.pack("<Q", len(packed))
        self.ends += [len(body) + 9 + len(head) + end for end in ends]
        chunk = mcap_record(6, head + packed)
        index = b""
        if self.message_index:
            for channel, found in entries.items():
                kept = found[16 * self.lost_entries :]
                index += mcap_record(7, struct.pack("<H", channel) + _mcap_text(kept))
        at = len(body) + self.chunk_offset
        numbers = struct.pack("<QQQQ", *times, at, len(chunk)) + _mcap_text(b"") + struct.pack("<Q", len(index))
        sizes = struct.pack("<QQ", len(packed), len(content))
        indexes.append(mcap_record(8, numbers + _mcap_text(self.compression) + sizes))
        return body + chunk + index

    def _statistics(self, chunks: int) -> bytes:
        true = {number: sum(m[0] == number for m in self.messages) for number in range(1, len(self.channels) + 1)}
        counts = true | self.counts
        times = [time_ns for _, time_ns, _ in self.messages]
        numbers = (sum(counts.values()), len(counts), len(counts), 0, 0, chunks, min(times), max(times))
        table = b"".join(struct.pack("<HQ", number, count) for number, count in counts.items())
        return mcap_record(11, struct.pack("<QHIIIIQQ", *numbers) + _mcap_text(table))


# ---- a camera of twelve frames, in either storage

MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
BOTH = pytest.mark.parametrize("storage", [MCAP, SQLITE], ids=["mcap", "sqlite3"])
SECOND = 10**9
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
TIMES = [START_NS + n * SECOND // 10 for n in range(12)]
CAMERA = ("/camera", "cdr", IMAGE, "ros2msg")


def payload(message) -> bytes:
    return bytes(TYPES.serialize_cdr(message, message.__msgtype__))


def picture(time_ns: int, side: int = 30) -> object:
    return raw(flat(RED, side, side), time_ns)


def images(times=TIMES) -> list[tuple[int, int, bytes]]:
    return [(1, time_ns, payload(picture(time_ns))) for time_ns in times]


def folder(path: Path, storage=MCAP, times=TIMES, **options) -> Path:
    messages = [("/camera", time_ns, picture(time_ns)) for time_ns in times]
    return write_bag(path, messages, storage=storage, **options)


def database(path: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(path / "bag.db3", isolation_level=None))


def read(path: Path, topic: str | None = None) -> tuple[list[int], list[str]]:
    """Log times of the images in the order in which they come, each a good one, and the damage."""
    with Bag(path) as bag:
        found = list(bag.images(bag.image_topic(topic)))
        assert not [image for image in found if isinstance(image.frame, FrameError)]
        assert all("\n" not in line for line in bag.damage)
        return [image.log_time_ns for image in found], bag.damage


def edit(bag: Path, **changes) -> None:
    """Changes metadata.yaml; a value may be a function of the old one."""
    path = bag / "metadata.yaml"
    document = yaml.safe_load(path.read_text())
    information = document["rosbag2_bagfile_information"]
    for name, change in changes.items():
        information[name] = change(information[name]) if callable(change) else change
    path.write_text(yaml.safe_dump(document))

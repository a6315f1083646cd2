"""Owns: which serialised messages are read and what is said of the odd ones. Oracle: ROS 2's own deserialiser (rclpy
with Fast DDS), on messages that are written byte by byte here.

Leaves to others: messages that an evaluation meets (test_pictures, test_live_replay).
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tiny_bag
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny_bag import START_NS, McapWriter

from cnn_perception.bag.cdr import CdrReader
from cnn_perception.bag.message_types import typestore
from cnn_perception.bag.reader import Bag
from cnn_perception.errors import BagError, FrameError
from cnn_perception.image.messages import decode

SECONDS = 1_700_000_000


class Bytes:
    """A message being written: each number at a multiple of its size, as CDR wants it."""

    def __init__(self, kind: int = 1) -> None:
        self.data = bytearray()
        self._order = "<" if kind % 2 else ">"
        self._most = 4 if kind >= 6 else 8
        self._header = bytes([0, kind, 0, 0])

    def add(self, code: str, *numbers: float) -> Bytes:
        for number in numbers:
            size = min(struct.calcsize(code), self._most)
            self.data += bytes(-len(self.data) % size) + struct.pack(self._order + code, number)
        return self

    def text(self, content: bytes) -> Bytes:
        self.add("I", len(content)).data += content
        return self

    def sequence(self, code: str, *numbers: float) -> Bytes:
        return self.add("I", len(numbers)).add(code, *numbers)

    def whole(self) -> bytes:
        return self._header + bytes(self.data)


def begun(kind: int, frame_id: bytes) -> Bytes:
    return Bytes(kind).add("i", SECONDS).add("I", 5).text(frame_id)


def image(kind: int = 1, frame_id: bytes = b"camera\0", text: bytes = b"rgb8\0") -> bytes:
    return begun(kind, frame_id).add("I", 2, 4).text(text).add("B", 0).add("I", 12).sequence("B", *range(24)).whole()


def compressed(kind: int = 1, frame_id: bytes = b"camera\0", text: bytes = b"jpeg\0") -> bytes:
    return begun(kind, frame_id).text(text).sequence("B", 255, 216, 7).whole()


def camera_info(kind: int = 1, frame_id: bytes = b"camera\0", text: bytes = b"plumb_bob\0") -> bytes:
    message = begun(kind, frame_id).add("I", 480, 640).text(text).sequence("d", 0.1, -0.2, 1e-3)
    message.add("d", *range(9)).add("d", *range(9)).add("d", *range(12))
    return message.add("I", 1, 2).add("I", 3, 4, 5, 6).add("B", 1).whole()


def classification(kind: int = 1, frame_id: bytes = b"camera\0", text: bytes = b"cat\0") -> bytes:
    return begun(kind, frame_id).add("I", 2).text(text).add("d", 0.75).text(b"doggie\0").add("d", 0.25).whole()


WRITERS: dict[str, Callable[..., bytes]] = {
    "sensor_msgs/msg/Image": image,
    "sensor_msgs/msg/CompressedImage": compressed,
    "sensor_msgs/msg/CameraInfo": camera_info,
    "vision_msgs/msg/Classification": classification,
}
TEXTS = {
    "plain": b"ab\0",
    "of length 0": b"",
    "a NUL alone": b"\0",
    "without NUL": b"ab",
    "two NULs": b"ab\0\0",
    "a NUL inside": b"a\0b\0",
    "Latin-1": b"caf\xe9\0",
    "garbage": b"\xff\xfe\x80\0",
    "cut UTF-8": b"a\xe2\x82\0",
    "surrogates": b"\xed\xa0\x80\0",
    "UTF-8": "é☃\0".encode(),
}
"""Each of another length behind which other alignments follow."""


@cache
def reader() -> CdrReader:
    return CdrReader(typestore())


def plain(value: Any) -> Any:
    """A message of rclpy or of ours as lists and their like, in which a NaN equals a NaN."""
    if hasattr(value, "get_fields_and_field_types"):
        return [plain(getattr(value, name)) for name in value.get_fields_and_field_types()]
    if hasattr(value, "__dataclass_fields__"):
        return [plain(getattr(value, name)) for name in value.__dataclass_fields__ if name != "__msgtype__"]
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return repr(value)
    return [plain(one) for one in (value.tolist() if hasattr(value, "tolist") else value)]


def ours(data: bytes, kind: str) -> Any:
    try:
        return plain(reader().message(data, kind)[0])
    except BagError:
        return None


@pytest.fixture(scope="module")
def ros() -> ModuleType:
    return pytest.importorskip("rclpy.serialization")


def theirs(ros: ModuleType, data: bytes, kind: str) -> Any:
    package, _, name = kind.partition("/msg/")
    try:
        return plain(ros.deserialize_message(data, getattr(importlib.import_module(f"{package}.msg"), name)))
    except Exception:  # it raises what its C code has no name for
        return None


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("frame_id", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_of_any_bytes_is_read_as_ros_reads_it(ros: ModuleType, kind: str, frame_id: bytes, text: bytes):
    data = WRITERS[kind](frame_id=frame_id, text=text)

    expected = theirs(ros, data, kind)

    assert expected is not None
    assert ours(data, kind) == expected


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("representation", range(16))
@pytest.mark.parametrize("behind", [0, 1, 3, 4, 64])
def test_a_representation_is_read_where_ros_reads_it(ros: ModuleType, kind: str, representation: int, behind: int):
    data = WRITERS[kind](representation, frame_id=b"c\0", text=b"t\0") + bytes(behind)

    expected = theirs(ros, data, kind)

    assert (expected is not None) == (representation in {0, 1, 2, 3, 6, 7, 8, 9, 10, 11})
    assert ours(data, kind) == expected


@pytest.mark.parametrize("kind", WRITERS)
def test_padding_that_the_header_tells_is_none_of_the_message(ros: ModuleType, kind: str):
    for option in range(8):
        for behind in range(5):
            data = WRITERS[kind]()
            data = data[:3] + bytes([option]) + data[4:] + bytes(behind)
            assert ours(data, kind) == theirs(ros, data, kind), (option, behind)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_message_that_is_cut_anywhere_is_refused_with_the_field(ros: ModuleType, kind: str):
    data = WRITERS[kind]()
    for length in range(len(data)):
        assert theirs(ros, data[:length], kind) is None
        with pytest.raises(BagError, match=r"^truncated: \w+ has \d+ of \d+ bytes$|claims|first bytes"):
            reader().message(data[:length], kind)


@pytest.mark.parametrize("kind", WRITERS)
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), min_size=1, max_size=4))
@example(damage=[(16, 255), (17, 255), (18, 255), (19, 255)])
def test_damage_is_taken_or_refused_as_ros_does(ros: ModuleType, kind: str, damage: list[tuple[int, int]]):
    data = bytearray(WRITERS[kind]())
    for place, value in damage:
        data[place % len(data)] = value

    assert ours(bytes(data), kind) == theirs(ros, bytes(data), kind)


@pytest.mark.parametrize("count", [2**31, 2**32 - 1, 10**6, 25])
def test_a_count_beyond_the_message_is_refused_before_anything_is_made(count: int):
    data = bytearray(image())
    data[-28:-24] = struct.pack("<I", count)

    with pytest.raises(BagError, match=f"data claims {count} elements, and 24 bytes are left"):
        reader().message(bytes(data), "sensor_msgs/msg/Image")


def test_pixels_are_a_view_of_the_message():
    data = image()
    message, _ = reader().message(data, "sensor_msgs/msg/Image")
    assert np.shares_memory(message.data, np.frombuffer(data, np.uint8))


def bag_of(folder, *payloads: bytes) -> Bag:
    messages = [(1, START_NS + index, payload) for index, payload in enumerate(payloads)]
    topic = ("/camera", "cdr", "sensor_msgs/msg/Image", "ros2msg")
    return Bag(McapWriter([topic], messages).write(folder / "bag.mcap"))


@pytest.mark.parametrize(
    ("payload", "odd"),
    [
        (image(frame_id=b"cam\xe9ra\0"), "frame_id is no UTF-8"),
        (image(frame_id=b""), "frame_id has no NUL at its end"),
        (image(text=b"rgb8"), "encoding has no NUL at its end"),
        (image(text=b"rgb8\0\0"), "encoding has a NUL before its end"),
        (image() + bytes(4), "bytes behind the message"),
        (image(7), "representation 7 in place of CDR"),
    ],
)
def test_an_odd_message_is_a_picture_and_one_warning_tells_how_many_there_are(tmp_path, payload: bytes, odd: str):
    with bag_of(tmp_path, image(), payload, payload) as bag:
        for _ in range(2):  # a second reading says nothing new
            pictures = [decode(one.frame) for one in bag.images(bag.image_topic())]

    for picture in pictures:
        np.testing.assert_array_equal(picture, np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    warnings = [line for line in bag.warnings if "standard" in line]
    assert len(pictures) == 3
    assert len(warnings) == 1
    assert f"/camera: 2 of 3 messages are not serialised as the standard demands ({odd});" in warnings[0]
    assert bag.damage == []


def test_what_is_as_the_standard_demands_is_no_reason_for_a_warning(tmp_path):
    with bag_of(tmp_path, image(), image(0), image() + bytes(3)) as bag:
        assert not any(isinstance(one.frame, FrameError) for one in bag.images(bag.image_topic()))
    assert not any("standard" in line for line in bag.warnings)


def test_what_rosbags_wrote_is_read_as_rosbags_reads_it():
    box = tiny_bag.TYPES.types
    stamp = tiny_bag.header(START_NS)
    message = box["sensor_msgs/msg/JointState"](stamp, ["a", "", "é"], np.arange(3.0), np.empty(0), np.arange(1.0))
    data = bytes(tiny_bag.TYPES.serialize_cdr(message, "sensor_msgs/msg/JointState"))
    assert ours(data, "sensor_msgs/msg/JointState") == plain(message)

"""Reads stamped images, labels and numbers from a rosbag2, without ROS and in constant memory.

A damaged bag is read as far as it goes; what is missing is said in `Bag.damage`, which an executable turns into an
exit code that is not 0. Nothing is ever left out silently.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
from rosbags.rosbag2 import ReaderError
from rosbags.serde import SerdeError

from cnn_perception.bag.decompression import ZstdError, unpacked_message
from cnn_perception.bag.message_types import CLASSIFICATION_TYPE, COMPRESSED_IMAGE_TYPE, IMAGE_TYPE, typestore
from cnn_perception.bag.salvage import decompressed, readable_copy
from cnn_perception.bag.sqlite_storage import BagReader
from cnn_perception.errors import BagError, FrameError, one_line
from cnn_perception.image.messages import EncodedFile, EncodedImage, encoded_from_message, nanoseconds, way_out
from cnn_perception.label_text import SEPARATOR

IMAGE_TYPES = (IMAGE_TYPE, COMPRESSED_IMAGE_TYPE)
STRING_TYPE = "std_msgs/msg/String"
LABEL_TYPES = (STRING_TYPE, CLASSIFICATION_TYPE)
JOINT_STATE_TYPE = "sensor_msgs/msg/JointState"
NUMBER_TYPES = ("std_msgs/msg/Float32", "std_msgs/msg/Float64", JOINT_STATE_TYPE)

_READ_ERRORS = (
    ReaderError, apsw.Error, ZstdError, struct.error, OSError, EOFError, TypeError, ValueError, RuntimeError
)  # fmt: skip
"""What rosbags, SQLite and the decompressors raise on bytes that are not as they should be."""


@dataclass(frozen=True)
class Topic:
    """A topic of a bag: its name, its message type such as `sensor_msgs/msg/Image`, and its number of messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class StampedImage:
    """One image message of a bag.

    Attributes:
        stamp_ns: The header's stamp, nanoseconds; 0 where the message cannot be read.
        log_time_ns: When the recorder received it, nanoseconds.
        frame: The image, or why its message cannot be read.
    """

    stamp_ns: int
    log_time_ns: int
    frame: EncodedImage | EncodedFile | FrameError


@dataclass(frozen=True)
class LabelTrack:
    """The classes that a label topic gives: from each time on, the images are of the class.

    Attributes:
        changes: (time in nanoseconds, class); an empty class means unlabelled.
        is_stamped: Whether the times are those of headers, to be compared with the images' stamps; else they are
            times of reception.
    """

    changes: tuple[tuple[int, str], ...]
    is_stamped: bool


@dataclass(frozen=True)
class NumberTrack:
    """The numbers that a topic gives, such as the true values of a regression.

    Attributes:
        rows: (time in nanoseconds, number by name); the name is empty where the type has none.
        is_stamped: As in `LabelTrack`.
    """

    rows: tuple[tuple[int, dict[str, float]], ...]
    is_stamped: bool


class Bag:
    """An open rosbag2: a folder with metadata.yaml, or a single .mcap or .db3 file.

    Attributes:
        path: Where it is.
        topics: What it holds.
        start_ns: When the first message of any topic was received, nanoseconds.
        damage: What could not be read, one line each; grows while reading.
    """

    def __init__(self, path: Path) -> None:
        """Opens the bag.

        Raises:
            BagError: If there is no bag, or no message in it.
        """
        self.path = path
        self.damage: list[str] = []
        self._stack = ExitStack()
        self._types = typestore()
        try:
            self._readers = self._open()
            self.topics = self._topics()
            if not any(topic.count for topic in self.topics):
                raise BagError(f"{path}: the bag has no messages{self._damage_note()}; record it again")
            self.start_ns = min(reader.start_time for reader in self._readers)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files; temporary copies of damaged ones are deleted."""
        self._stack.close()

    def image_topic(self, name: str | None = None) -> Topic:
        """Returns the topic to read images from.

        Args:
            name: The topic, with or without the leading slash; None takes the only one there is.

        Raises:
            BagError: If there is no such topic, it holds no images, or the choice is not clear.
        """
        images = [topic for topic in self.topics if topic.type in IMAGE_TYPES]
        found = ", ".join(f"{topic.name} ({topic.count})" for topic in images) or "none"
        hints = {way_out(topic.type): topic.name for topic in self.topics if way_out(topic.type)}
        found += "".join(f"; {name}: {hint}" for hint, name in hints.items())
        if name is not None:
            return self._topic(name, IMAGE_TYPES, f"image topics in it: {found}")
        filled = [topic for topic in images if topic.count]
        if len(filled) != 1:
            raise BagError(
                f"{self.path}: cannot choose the image topic; name one with --topic; image topics in it: {found}"
            )
        return filled[0]

    def images(self, topic: Topic) -> Iterator[StampedImage]:
        """Yields every image of a topic once, in the order of reception; stops early where the bag is damaged."""
        for log_time_ns, payload in self._payloads(topic):
            try:
                message = self._message(payload, topic)
                frame = encoded_from_message(message)
            except FrameError as error:
                yield StampedImage(0, log_time_ns, error)
            else:
                yield StampedImage(nanoseconds(message.header.stamp), log_time_ns, frame)

    def label_track(self, name: str, several: bool = False) -> LabelTrack:
        """Returns the labels of a topic: std_msgs/String, or the best result of vision_msgs/Classification.

        Args:
            name: The topic, with or without the leading slash.
            several: Whether all results of a Classification are meant, and not only the best; `label_text.SEPARATOR`
                then stands between them.

        Raises:
            BagError: If there is no such topic, it holds no labels, or a label cannot be read.
        """
        topic = self._track_topic(name, LABEL_TYPES, "label topics")
        is_stamped = topic.type == CLASSIFICATION_TYPE
        changes = []
        for log_time_ns, message in self._messages(topic):
            if is_stamped:
                ranked = sorted(message.results, key=lambda result: -float(result.score))
                names = [str(result.class_id) for result in (ranked if several else ranked[:1])]
                changes.append((nanoseconds(message.header.stamp), SEPARATOR.join(names)))
            else:
                changes.append((log_time_ns, str(message.data)))
        return LabelTrack(tuple(changes), is_stamped)

    def number_track(self, name: str) -> NumberTrack:
        """Returns the numbers of a topic: std_msgs/Float32 or Float64, or the positions of sensor_msgs/JointState.

        Raises:
            BagError: If there is no such topic, it holds no numbers, or a message cannot be read.
        """
        topic = self._track_topic(name, NUMBER_TYPES, "topics of numbers")
        is_stamped = topic.type == JOINT_STATE_TYPE
        rows: list[tuple[int, dict[str, float]]] = []
        for log_time_ns, message in self._messages(topic):
            if is_stamped:
                pairs = zip(message.name, message.position, strict=False)
                numbers = {str(joint): float(position) for joint, position in pairs}
                rows.append((nanoseconds(message.header.stamp), numbers))
            else:
                rows.append((log_time_ns, {"": float(message.data)}))
        return NumberTrack(tuple(rows), is_stamped)

    def _track_topic(self, name: str, types: tuple[str, ...], kind: str) -> Topic:
        found = ", ".join(topic.name for topic in self.topics if topic.type in types) or "none"
        return self._topic(name, types, f"{kind} in it: {found}")

    def _messages(self, topic: Topic) -> Iterator[tuple[int, Any]]:
        for log_time_ns, payload in self._payloads(topic):
            try:
                yield log_time_ns, self._message(payload, topic)
            except FrameError as error:
                raise BagError(f"{self.path}: {topic.name}: {error}") from None

    def _open(self) -> list[BagReader]:
        if not self.path.exists():
            raise BagError(f"{self.path}: there is no such bag; name a rosbag2 folder, or an .mcap or .db3 file")
        try:
            return [self._stack.enter_context(BagReader(self.path))]
        except _READ_ERRORS as error:
            return self._open_damaged(one_line(error))

    def _open_damaged(self, reason: str) -> list[BagReader]:
        """Returns readers of the storage files of a bag, each as far as it can be read."""
        files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        files = [file for file in files if {".mcap", ".db3"} & set(file.suffixes)]
        if not files:
            raise BagError(f"{self.path}: is no rosbag2: there is no .mcap or .db3 file in it")
        if not self.path.is_dir() or (self.path / "metadata.yaml").is_file():
            self.damage.append(f"{self.path}: the bag is damaged ({reason})")
        else:
            self.damage.append(f"{self.path}: there is no metadata.yaml; repair with `ros2 bag reindex {self.path}`")
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cnn_perception_bag_")))
        opened = [self._open_file(file, folder) for file in files]
        readers = [reader for reader in opened if reader is not None]
        if not readers:
            raise BagError("; ".join(self.damage))
        return sorted(readers, key=lambda reader: reader.start_time)

    def _open_file(self, file: Path, folder: Path) -> BagReader | None:
        """Returns a reader of as much of a file as can be read; None if that is nothing. The damage is noted."""
        try:
            unpacked, is_complete = decompressed(file, folder)
            try:
                reader = self._stack.enter_context(BagReader(unpacked))
            except _READ_ERRORS:
                is_complete = False
                reader = self._stack.enter_context(BagReader(readable_copy(unpacked, folder)))
        except (BagError, *_READ_ERRORS) as error:
            self.damage.append(f"{file}: cannot be read at all ({one_line(error)})")
            return None
        if not is_complete:
            count = reader.message_count
            self.damage.append(
                f"{file}: is truncated; its first {count} messages were read; repair with `ros2 bag reindex`"
            )
        return reader

    def _topics(self) -> tuple[Topic, ...]:
        counts: dict[tuple[str, str], int] = {}
        for reader in self._readers:
            for connection in reader.connections:
                key = (connection.topic, connection.msgtype)
                counts[key] = counts.get(key, 0) + connection.msgcount
        return tuple(Topic(name, kind, count) for (name, kind), count in sorted(counts.items()))

    def _topic(self, name: str, types: tuple[str, ...], choices: str) -> Topic:
        name = "/" + name.lstrip("/")
        matches = [topic for topic in self.topics if topic.name == name]
        if not matches:
            raise BagError(f"{self.path}: there is no topic {name}{self._damage_note()}; {choices}")
        usable = [topic for topic in matches if topic.type in types]
        if not usable:
            raise BagError(f"{self.path}: {name} is {matches[0].type}, not {' or '.join(types)}; {choices}")
        if not usable[0].count:
            raise BagError(f"{self.path}: {name} has no messages{self._damage_note()}; {choices}")
        return usable[0]

    def _payloads(self, topic: Topic) -> Iterator[tuple[int, bytes]]:
        """Yields (reception time, serialised message); a damage met on the way ends its file and is noted."""
        for reader in self._readers:
            connections = [c for c in reader.connections if (c.topic, c.msgtype) == (topic.name, topic.type)]
            if not connections:  # rosbags would take none for all
                continue
            count = 0
            try:
                for _, log_time_ns, payload in reader.messages(connections):
                    yield log_time_ns, payload
                    count += 1
            except _READ_ERRORS as error:
                where = f"{reader.path}: {topic.name}"
                line = f"{where}: reading stopped after {count} messages ({one_line(error)})"
                if line not in self.damage:
                    self.damage.append(line)

    def _message(self, payload: bytes, topic: Topic) -> Any:  # noqa: ANN401 rosbags makes its classes at run time
        try:
            return self._types.deserialize_cdr(memoryview(unpacked_message(payload)), topic.type)
        except (SerdeError, IndexError, ZstdError) as error:
            raise FrameError(
                "message", f"a message cannot be deserialised ({one_line(error)}); it was dropped"
            ) from None

    def _damage_note(self) -> str:
        """Returns the damage in brackets, for the end of an error; empty where there is none."""
        return f" ({'; '.join(self.damage)})" if self.damage else ""

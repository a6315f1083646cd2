"""Writes a rosbag2 (mcap) message by message: what was flushed is there even after a kill (`ros2 bag reindex`)."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rosbags.typesys.store import Typestore

from cnn_perception import files
from cnn_perception.bag.mcap_writer import McapWriter
from cnn_perception.bag.metadata import FILE_NAME

TOPIC_BYTES = 4096
"""A little more than a bag needs for a topic: its type's definition and its metadata, both twice."""
MESSAGE_BYTES = 256
"""The same for a message beside its own bytes, where each is flushed: the records of chunk and index."""
_LARGEST_CHUNK_BYTES = 2**20
_VERSION = 9
"""Of metadata.yaml, that of ROS 2 Jazzy; rosbag2 reads all versions before its own."""


class BagWriter:
    """A new bag; used by one thread at a time.

    Attributes:
        path: Its folder.
        count: How many messages were written.
    """

    def __init__(self, path: Path, types: Typestore, custom_data: Mapping[str, str]) -> None:
        """Makes the folder and begins the file.

        Args:
            path: Of the folder, which is not there yet; the file is called NAME/NAME.mcap.
            types: The types of the messages to come.
            custom_data: What stands in metadata.yaml besides.

        Raises:
            OSError: If the folder is there already or cannot be made.
        """
        self.path = path
        self.count = 0
        self._types = types
        self._custom_data = dict(custom_data)
        self._schemas: dict[str, int] = {}
        self._topics: set[str] = set()
        self._channels: dict[tuple[str, str], int] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._times_ns: tuple[int, int] | None = None
        path.mkdir(parents=True)
        try:
            self._file = McapWriter(path / f"{path.name}.mcap")
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            raise

    def set_custom_data(self, key: str, value: str) -> None:
        """Adds to what stands in metadata.yaml once the bag is closed."""
        self._custom_data[key] = value

    def cost(self, topic: str, payload: bytes) -> int:
        """Returns a little more than the bytes that a message adds to the bag, those included that closing writes."""
        return len(payload) + MESSAGE_BYTES + (0 if topic in self._topics else TOPIC_BYTES)

    def write(self, topic: str, kind: str, log_time_ns: int, payload: bytes) -> None:
        """Appends a message.

        Args:
            topic: Its topic; of a name that has messages of several types each type is a topic of its own.
            kind: Its type, such as `sensor_msgs/msg/Image`.
            log_time_ns: When it was received, nanoseconds.
            payload: The message as CDR; nobody may change it any more.

        Raises:
            OSError: If the disk is full.
        """
        if (topic, kind) not in self._channels:
            self._channels[topic, kind] = self._file.add_channel(topic, self._schema(kind))
            self._topics.add(topic)
        self._file.write(self._channels[topic, kind], log_time_ns, payload)
        first_ns, last_ns = self._times_ns or (log_time_ns, log_time_ns)
        self._times_ns = min(first_ns, log_time_ns), max(last_ns, log_time_ns)
        self._counts[topic, kind] += 1
        self.count += 1
        if self._file.waiting_bytes > _LARGEST_CHUNK_BYTES:
            self.flush()

    def _schema(self, kind: str) -> int:
        if kind not in self._schemas:
            definition, _ = self._types.generate_msgdef(kind, ros_version=2)
            self._schemas[kind] = self._file.add_schema(kind, definition)
        return self._schemas[kind]

    def flush(self) -> None:
        """Hands what was written to the system, so that a kill loses none of it.

        Raises:
            OSError: If the disk is full.
        """
        self._file.end_chunk()

    def close(self) -> None:
        """Writes the index and the metadata; a bag without a message is removed.

        What was written is on the disk then: no power cut loses it.

        Raises:
            OSError: If the disk is full; the messages are there.
        """
        if not self.count:
            self.abandon()
            return
        information = self._information()
        self._file.finish(yaml.safe_dump(information))
        try:
            with files.replacing(self.path / FILE_NAME, waits=False) as file:
                file.write(yaml.safe_dump({"rosbag2_bagfile_information": information}).encode())
        except BaseException:
            self._file.abandon()
            raise
        self._file.close()  # last: it takes as long as the disk does, and a process that ends meanwhile loses nothing
        for written in (self.path / FILE_NAME, self.path, self.path.parent):
            files.flush(written)

    def abandon(self) -> None:
        """Leaves the bag as a kill would; one in which nothing was flushed is removed."""
        self._file.abandon()
        if not self._file.is_handed_over:
            shutil.rmtree(self.path, ignore_errors=True)

    def _information(self) -> dict[str, Any]:
        """Returns what metadata.yaml says of the bag."""
        name = f"{self.path.name}.mcap"
        return {
            "version": _VERSION,
            "storage_identifier": "mcap",
            "relative_file_paths": [name],
            **self._span(),
            "topics_with_message_count": [self._topic(topic, kind) for topic, kind in self._channels],
            "compression_format": "",
            "compression_mode": "",
            "files": [{"path": name, **self._span()}],
            "custom_data": self._custom_data or None,
            "ros_distro": "unknown",
        }

    def _span(self) -> dict[str, Any]:
        first_ns, last_ns = self._times_ns or (0, 0)
        return {
            "starting_time": {"nanoseconds_since_epoch": first_ns},
            "duration": {"nanoseconds": last_ns - first_ns},
            "message_count": self.count,
        }

    def _topic(self, topic: str, kind: str) -> dict[str, Any]:
        about = {
            "name": topic,
            "type": kind,
            "serialization_format": "cdr",
            "offered_qos_profiles": [],
            "type_description_hash": self._types.hash_rihs01(kind),
        }
        return {"topic_metadata": about, "message_count": self._counts[topic, kind]}


def free_path(folder: Path, name: str) -> Path:
    """Returns a path of that name, with a number from 2 added where there is one already."""
    path = folder / name
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    return path

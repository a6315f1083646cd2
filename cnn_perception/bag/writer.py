"""Writes a rosbag2 (mcap) message by message: what was flushed is there even after a kill (`ros2 bag reindex`)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys.store import Typestore

TOPIC_BYTES = 4096
"""A little more than a bag needs for a topic: its type's definition and its metadata, both twice."""
MESSAGE_BYTES = 256
"""The same for a message beside its own bytes, where each is flushed: the records of chunk and index."""


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
            OSError: If the folder cannot be made.
        """
        self.path = path
        self.count = 0
        self._types = types
        self._connections: dict[str, Connection] = {}
        self._is_on_disk = False
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        for key, value in custom_data.items():
            self._writer.set_custom_data(key, value)
        try:
            self._writer.open()
        except OSError:
            self.abandon()
            raise

    def set_custom_data(self, key: str, value: str) -> None:
        """Adds to what stands in metadata.yaml once the bag is closed."""
        self._writer.set_custom_data(key, value)

    def cost(self, topic: str, payload: bytes) -> int:
        """Returns a little more than the bytes that a message adds to the bag, those included that closing writes."""
        return len(payload) + MESSAGE_BYTES + (0 if topic in self._connections else TOPIC_BYTES)

    def write(self, topic: str, kind: str, log_time_ns: int, payload: bytes) -> None:
        """Appends a message.

        Args:
            topic: Its topic; each topic has messages of one type.
            kind: Its type, such as `sensor_msgs/msg/Image`.
            log_time_ns: When it was received, nanoseconds.
            payload: The message as CDR.

        Raises:
            OSError: If the disk is full.
        """
        connection = self._connections.get(topic)
        if connection is None:
            connection = self._writer.add_connection(topic, kind, typestore=self._types)
            self._connections[topic] = connection
        self._writer.write(connection, log_time_ns, payload)
        self.count += 1

    def flush(self) -> None:
        """Hands what was written to the system, so that a kill loses none of it; rosbags collects a megabyte.

        Raises:
            OSError: If the disk is full.
        """
        storage = self._writer.storage
        assert isinstance(storage, McapWriter)
        if storage.chunk.msgs:
            storage.close_chunk()
        storage.bio.flush()
        self._is_on_disk = self.count > 0

    def close(self) -> None:
        """Writes the index and the metadata; a bag without a message is removed.

        Raises:
            OSError: If the disk is full; the messages are there.
        """
        if self.count:
            self._writer.close()
        else:
            self.abandon()

    def abandon(self) -> None:
        """Leaves the bag as a kill would; one in which nothing was flushed is removed."""
        with suppress(OSError):  # what could not be written cannot be flushed either
            self._writer.abort()
        if not self._is_on_disk:
            shutil.rmtree(self.path, ignore_errors=True)


def free_path(folder: Path, name: str) -> Path:
    """Returns a path of that name, with a number from 2 added where there is one already."""
    path = folder / name
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    return path

"""Unsure frames as a rosbag2 (mcap) for each session: `<folder>/<UTC time>_<first 12 digits of the model's SHA-256>`.

Every image is there as it came, on its own topic, and below it, on `<topic>/classification`, all classes with their
scores: not on the node's topic, so that a bag that is played never speaks for the node. Each frame is a chunk of its
own and flushed: a kill leaves a bag without an index, but with every frame before it (`ros2 bag reindex`).
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter

from cnn_perception.background.selection import Origin, UnsureFrame
from cnn_perception.bag.message_types import (
    CLASSIFICATION_TYPE,
    COMPRESSED_IMAGE_TYPE,
    HYPOTHESIS_TYPE,
    IMAGE_TYPE,
    typestore,
)
from cnn_perception.image.messages import EncodedFile
from cnn_perception.model.spec import UNKNOWN

_TOPIC_BYTES = 4096
_FRAME_BYTES = 512
"""A little more than a bag needs for a topic (its type's definition and its metadata, both twice), and for a frame
beside its two messages (the chunk's record and its index)."""


class RecordedBag:
    """The bag of one session; used by one thread."""

    def __init__(self, folder: Path, sha256: str) -> None:
        """Reads the message types; nothing is written before the first frame.

        Args:
            folder: Of all sessions.
            sha256: Hex digest of the model's file.
        """
        self._folder = folder
        self._sha256 = sha256
        self._types = typestore()
        self._writer: Writer | None = None
        self._connections: dict[str, Connection] = {}
        self._is_empty = True

    def write(self, frame: UnsureFrame, room_bytes: int) -> int:
        """Writes an image and its classification.

        Args:
            frame: What to keep.
            room_bytes: How much may be written.

        Returns:
            Bytes written, those included that closing will write; 0 if they would be more than `room_bytes`.

        Raises:
            OSError: If the disk is full or the folder cannot be written; the next call begins another bag.
        """
        topic = frame.origin.topic
        messages = {topic: self._image(frame), f"{topic}/classification": self._classification(frame)}
        payloads = {name: self._types.serialize_cdr(m, m.__msgtype__) for name, m in messages.items()}
        added = [name for name in messages if name not in self._connections]
        size = sum(map(len, payloads.values())) + _FRAME_BYTES + len(added) * _TOPIC_BYTES
        if size > room_bytes:
            return 0
        try:
            writer = self._writer or self._open()
            for name in added:
                self._connections[name] = writer.add_connection(name, messages[name].__msgtype__, typestore=self._types)
            for name, payload in payloads.items():
                writer.write(self._connections[name], frame.received_ns, payload)
            _flush(writer)
            self._is_empty = False
        except OSError:
            self._abandon()
            raise
        return size

    def close(self) -> None:
        """Writes the bag's index and metadata.

        Raises:
            OSError: If the disk is full; the frames are there.
        """
        writer = self._writer
        self._writer = None
        self._connections = {}
        if writer is not None:
            writer.close()

    def _open(self) -> Writer:
        name = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}_{self._sha256[:12]}"
        path = _free_path(self._folder, name)
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_custom_data("model", self._sha256)
        self._is_empty = True
        self._writer.open()
        return self._writer

    def _abandon(self) -> None:
        """Leaves the bag as a kill would; one without a frame is removed."""
        writer = self._writer
        self._writer = None
        self._connections = {}
        if writer is None:
            return
        with suppress(OSError):  # what could not be written cannot be flushed either
            writer.abort()
        if self._is_empty:
            shutil.rmtree(writer.path, ignore_errors=True)

    def _header(self, origin: Origin) -> Any:  # noqa: ANN401 rosbags makes its classes at run time
        seconds, nanoseconds = divmod(origin.stamp_ns, 10**9)
        stamp = self._types.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
        return self._types.types["std_msgs/msg/Header"](stamp=stamp, frame_id=origin.frame_id)

    def _image(self, frame: UnsureFrame) -> Any:  # noqa: ANN401
        header = self._header(frame.origin)
        encoded = frame.encoded
        data = np.frombuffer(encoded.data, np.uint8)
        if isinstance(encoded, EncodedFile):
            return self._types.types[COMPRESSED_IMAGE_TYPE](header=header, format=encoded.format, data=data)
        return self._types.types[IMAGE_TYPE](
            header=header,
            height=encoded.height,
            width=encoded.width,
            encoding=encoded.encoding,
            is_bigendian=int(encoded.is_bigendian),
            step=encoded.step,
            data=data,
        )

    def _classification(self, frame: UnsureFrame) -> Any:  # noqa: ANN401
        prediction = frame.prediction
        hypothesis = self._types.types[HYPOTHESIS_TYPE]
        scores = sorted(zip(prediction.class_names, prediction.scores.tolist(), strict=True), key=lambda pair: -pair[1])
        answers = [(UNKNOWN, 1.0), *scores] if prediction.unknown else scores
        results = [hypothesis(class_id=name, score=score) for name, score in answers]
        return self._types.types[CLASSIFICATION_TYPE](header=self._header(frame.origin), results=results)


def _free_path(folder: Path, name: str) -> Path:
    """Returns a path of that name, with a number from 2 added where there is one already."""
    path = folder / name
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    return path


def _flush(writer: Writer) -> None:
    """Hands what was written to the system, so that a kill loses none of it; rosbags collects a megabyte."""
    storage = writer.storage
    assert isinstance(storage, McapWriter)
    storage.close_chunk()
    storage.bio.flush()

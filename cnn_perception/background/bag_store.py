"""Unsure frames as a rosbag2 (mcap) for each session: `<folder>/<UTC time>_<first 12 digits of the model's SHA-256>`.

Every image is there as it came, on its own topic, and below it, on `<topic>/classification`, all classes with their
scores: not on the node's topic, so that a bag that is played never speaks for the node. Each frame is a chunk of its
own and flushed: a kill leaves a bag without an index, but with every frame before it (`ros2 bag reindex`).
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from cnn_perception.background.selection import UnsureFrame
from cnn_perception.bag.message_types import COMPRESSED_IMAGE_TYPE, IMAGE_TYPE
from cnn_perception.bag.messages import Messages
from cnn_perception.bag.writer import BagWriter, free_path
from cnn_perception.image.messages import EncodedFile
from cnn_perception.model.spec import UNKNOWN


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
        self._messages = Messages()
        self._writer: BagWriter | None = None

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
        header = self._messages.header(frame.origin.stamp_ns, frame.origin.frame_id)
        messages = {topic: self._image(frame, header), f"{topic}/classification": self._classification(frame, header)}
        payloads = {name: self._messages.serialized(message) for name, message in messages.items()}
        try:
            writer = self._writer or self._begin()
            size = sum(writer.cost(name, payload) for name, payload in payloads.items())
            if size > room_bytes:
                return 0
            for name, payload in payloads.items():
                writer.write(name, messages[name].__msgtype__, frame.received_ns, payload)
            writer.flush()
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
        if writer is not None:
            writer.close()

    def _begin(self) -> BagWriter:
        name = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}_{self._sha256[:12]}"
        path = free_path(self._folder, name)
        self._writer = BagWriter(path, self._messages.types, {"model": self._sha256})
        return self._writer

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
        self._writer = None

    def _image(self, frame: UnsureFrame, header: Any) -> Any:  # noqa: ANN401 rosbags makes its classes at run time
        encoded = frame.encoded
        data = np.frombuffer(encoded.data, np.uint8)
        if isinstance(encoded, EncodedFile):
            return self._messages.of(COMPRESSED_IMAGE_TYPE, header=header, format=encoded.format, data=data)
        return self._messages.of(
            IMAGE_TYPE,
            header=header,
            height=encoded.height,
            width=encoded.width,
            encoding=encoded.encoding,
            is_bigendian=int(encoded.is_bigendian),
            step=encoded.step,
            data=data,
        )

    def _classification(self, frame: UnsureFrame, header: Any) -> Any:  # noqa: ANN401
        prediction = frame.prediction
        scores = sorted(zip(prediction.class_names, prediction.scores.tolist(), strict=True), key=lambda pair: -pair[1])
        return self._messages.classification(header, [(UNKNOWN, 1.0), *scores] if prediction.unknown else scores)

"""Makes the ROS messages that are written into bags, without ROS: rosbags' classes, and their serialised bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_perception.bag.message_types import (
    CLASSIFICATION_TYPE,
    COMPRESSED_IMAGE_TYPE,
    DIAGNOSTICS_TYPE,
    HEADER_TYPE,
    HYPOTHESIS_TYPE,
    JOINT_STATE_TYPE,
    KEY_VALUE_TYPE,
    STATUS_TYPE,
    STRING_TYPE,
    TIME_TYPE,
    typestore,
)
from cnn_perception.image.jpeg_encoding import JPEG_FORMAT


@dataclass(frozen=True)
class Status:
    """One diagnosis.

    Attributes:
        name: What it is about.
        level: 0 is in order, 1 a warning, 2 an error, as in diagnostic_msgs/DiagnosticStatus.
        text: The diagnosis in one line.
        values: Figures by their names.
    """

    name: str
    level: int
    text: str
    values: Mapping[str, str]


class Messages:
    """Makes messages; used by any number of threads.

    Attributes:
        types: The message types it knows.
    """

    def __init__(self) -> None:
        """Reads the message types."""
        self.types = typestore()

    # rosbags makes its classes at run time: all of them are Any.

    def of(self, kind: str, **fields: Any) -> Any:  # noqa: ANN401
        """Returns a message of a type with all of its fields."""
        return self.types.types[kind](**fields)

    def time(self, stamp_ns: int) -> Any:  # noqa: ANN401
        """Returns nanoseconds as a builtin_interfaces/Time."""
        seconds, nanoseconds = divmod(stamp_ns, 10**9)
        return self.of(TIME_TYPE, sec=seconds, nanosec=nanoseconds)

    def header(self, stamp_ns: int, frame_id: str) -> Any:  # noqa: ANN401
        """Returns a header."""
        return self.of(HEADER_TYPE, stamp=self.time(stamp_ns), frame_id=frame_id)

    def string(self, text: str) -> Any:  # noqa: ANN401
        """Returns a text."""
        return self.of(STRING_TYPE, data=text)

    def classification(self, header: Any, ranked: Sequence[tuple[str, float]]) -> Any:  # noqa: ANN401
        """Returns (class, score) pairs, best first."""
        results = [self.of(HYPOTHESIS_TYPE, class_id=name, score=score) for name, score in ranked]
        return self.of(CLASSIFICATION_TYPE, header=header, results=results)

    def numbers(self, header: Any, names: Sequence[str], values: npt.ArrayLike) -> Any:  # noqa: ANN401
        """Returns numbers with their names, as the positions of joints."""
        nothing = np.empty(0, np.float64)
        position = np.asarray(values, np.float64)
        joints = {"name": list(names), "position": position, "velocity": nothing, "effort": nothing}
        return self.of(JOINT_STATE_TYPE, header=header, **joints)

    def jpeg(self, header: Any, content: bytes) -> Any:  # noqa: ANN401
        """Returns the bytes of a JPEG file of colours, as image_transport calls it."""
        data = np.frombuffer(content, np.uint8)
        return self.of(COMPRESSED_IMAGE_TYPE, header=header, format=JPEG_FORMAT, data=data)

    def diagnostics(self, header: Any, statuses: Sequence[Status]) -> Any:  # noqa: ANN401
        """Returns diagnoses as one message."""
        return self.of(DIAGNOSTICS_TYPE, header=header, status=[self._status(status) for status in statuses])

    def _status(self, status: Status) -> Any:  # noqa: ANN401
        values = [self.of(KEY_VALUE_TYPE, key=key, value=value) for key, value in status.values.items()]
        return self.of(
            STATUS_TYPE,
            level=status.level,
            name=status.name,
            message=status.text,
            hardware_id=status.name.partition(":")[0],
            values=values,
        )

    def serialized(self, message: Any) -> bytes:  # noqa: ANN401
        """Returns a message as CDR."""
        return bytes(self.types.serialize_cdr(message, message.__msgtype__))

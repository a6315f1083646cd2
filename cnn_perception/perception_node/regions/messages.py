"""Boxes and the answers to them as ROS messages, and what can be read of a message without deserialising it."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Pose, PoseArray, Quaternion
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.serialization import deserialize_message
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, ObjectHypothesis, ObjectHypothesisWithPose

from cnn_perception.errors import FrameError, one_line
from cnn_perception.geometry.camera_model import CameraModel
from cnn_perception.regions.box import Box
from cnn_perception.tasks.prediction import Prediction

_STAMP = 4
"""Bytes before the stamp of a serialised message that begins with a header: how it is encoded."""
MOST_IN_MESSAGE = 20_000
"""Boxes of a message that is read at all: that keeps Python from all else for 30 microseconds a box."""
MOST_BYTES = 2**23
"""Of such a message, whose results take as long: 100 boxes, each with the scores of 200 classes, have less."""
TOO_MANY = "rois_too_many"
"""The reason for which messages of more are dropped."""
_NOT_READABLE = (rclpy_implementation.RMWError, rclpy_implementation.RCLError, UnicodeDecodeError)


@dataclass(frozen=True)
class SerializedHeader:
    """What the header of a serialised message says.

    Attributes:
        stamp_ns: Nanoseconds; 0 where the message is broken.
        frame_id: Empty where it is.
        nanosec: The field of that name of the stamp.
    """

    stamp_ns: int
    frame_id: str
    nanosec: int = 0

    @classmethod
    def of(cls, payload: bytes) -> SerializedHeader:
        """Returns it of a message that begins with a header."""
        text = _STAMP + 12
        if len(payload) < text:
            return cls(0, "")
        order = "<" if payload[1] & 1 else ">"
        seconds, nanoseconds, length = struct.unpack_from(f"{order}iII", payload, _STAMP)
        frame_id = payload[text : text + length].rstrip(b"\0").decode(errors="replace")
        return cls(int(seconds) * 10**9 + int(nanoseconds), frame_id, int(nanoseconds))


def require_few(payload: bytes) -> None:
    """Makes sure that a serialised Detection2DArray can be deserialised in a moment.

    Raises:
        FrameError: If it holds more boxes or bytes than that; one that is broken may pass.
    """
    if len(payload) > MOST_BYTES:
        raise FrameError(TOO_MANY, f"a message of boxes has {len(payload)} bytes; at most {MOST_BYTES} are read")
    count = _boxes_in(payload)
    if count > MOST_IN_MESSAGE:
        raise FrameError(TOO_MANY, f"a message has {count} boxes; those of at most {MOST_IN_MESSAGE} are read")


def _boxes_in(payload: bytes) -> int:
    """Returns how many boxes a serialised Detection2DArray says it holds; 0 where it is broken."""
    order = "<" if payload[1:2] and payload[1] & 1 else ">"
    try:
        (length,) = struct.unpack_from(f"{order}I", payload, _STAMP + 8)
        # numbers are aligned to their size, counted from the stamp
        (count,) = struct.unpack_from(f"{order}I", payload, _STAMP + 12 + (length + 3) // 4 * 4)
    except struct.error:
        return 0
    return int(count)


def deserialized(payload: bytes, kind: type[Any]) -> Any:  # noqa: ANN401 messages share no base
    """Returns a message from its bytes.

    Raises:
        FrameError: If they are none of its type; its sender has built it so.
    """
    try:
        return deserialize_message(payload, kind)
    except _NOT_READABLE as error:
        raise FrameError("message", f"a {kind.__name__} cannot be deserialised ({one_line(error)})") from None


def to_detections(
    asked: Detection2DArray, answers: Sequence[Prediction | FrameError], top_k: int, threshold: float
) -> Detection2DArray:
    """Returns the message of boxes with our results in place of the detector's: headers, boxes, ids and order stay.

    `class_id` and `score` are those of a classification, see `perception_node.messages.to_classification`. A box that
    was not answered has no results. The pose of a result stays unset: one image tells no distance.

    Args:
        asked: The boxes; changed and returned.
        answers: Of each box.
        top_k: Most classes of a box.
        threshold: Least score of its classes, in [0, 1].
    """
    for detection, answer in zip(asked.detections, answers, strict=True):
        ranked = [] if isinstance(answer, FrameError) else answer.ranked(top_k, threshold)
        detection.results = [
            ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=name, score=score)) for name, score in ranked
        ]
    return asked


def to_rays(header: Header, boxes: Sequence[Box], camera: CameraModel) -> PoseArray:
    """Returns the ray through the centre of each box, in their order, in the camera's optical frame.

    A pose is where its ray begins, the camera's centre, turned so that its x axis points along the ray, as RViz draws
    the arrows of a PoseArray. A box without a ray has NaN in its orientation.
    """
    return PoseArray(header=header, poses=[_pose(_ray(box, camera)) for box in boxes])


def _ray(box: Box, camera: CameraModel) -> npt.NDArray[np.float64] | None:
    # A box counts from the edge of the first pixel, a camera model from its centre.
    return camera.ray(box.x - 0.5, box.y - 0.5) if math.isfinite(box.x) and math.isfinite(box.y) else None


def _pose(direction: npt.NDArray[np.float64] | None) -> Pose:
    if direction is None:
        return Pose(orientation=Quaternion(x=math.nan, y=math.nan, z=math.nan, w=math.nan))
    x, y, z = direction.tolist()
    # The shortest turn from (1, 0, 0) to the direction: about their cross product (0, -z, y).
    if x <= -1.0 + 1e-12:
        return Pose(orientation=Quaternion(x=0.0, y=0.0, z=1.0, w=0.0))
    w = math.sqrt((1.0 + x) / 2.0)
    return Pose(orientation=Quaternion(x=0.0, y=-z / (2.0 * w), z=y / (2.0 * w), w=w))

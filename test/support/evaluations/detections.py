"""Messages of boxes for tests of bags, with the field definitions of vision_msgs 4.1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rosbags.typesys import get_types_from_msg
from tiny_bag import TYPES, header

from cnn_perception.regions.box import Box

for _name, _fields in {
    "Point2D": "float64 x\nfloat64 y\n",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta\n",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "ObjectHypothesisWithPose": "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
    "Detection2D": "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nstring id\n",
    "Detection2DArray": "std_msgs/Header header\nDetection2D[] detections\n",
}.items():
    TYPES.register(get_types_from_msg(_fields, f"vision_msgs/msg/{_name}"))
_T = TYPES.types


def detections(stamp_ns: int, boxes: Sequence[Box], classes: Sequence[str] = ()):
    """vision_msgs/Detection2DArray; each box has one result, whose class may be given."""
    names = classes or ["thing"] * len(boxes)
    found = [_detection(stamp_ns, box, name) for box, name in zip(boxes, names, strict=True)]
    return _T["vision_msgs/msg/Detection2DArray"](header(stamp_ns), found)


def _detection(stamp_ns: int, box: Box, name: str):
    centre = _T["vision_msgs/msg/Pose2D"](_T["vision_msgs/msg/Point2D"](box.x, box.y), box.theta)
    point = _T["geometry_msgs/msg/Point"](0.0, 0.0, 0.0)
    pose = _T["geometry_msgs/msg/Pose"](point, _T["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0))
    result = _T["vision_msgs/msg/ObjectHypothesisWithPose"](
        _T["vision_msgs/msg/ObjectHypothesis"](name, 1.0 if box.score == -math.inf else box.score),
        _T["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
    )
    bbox = _T["vision_msgs/msg/BoundingBox2D"](centre, box.width, box.height)
    return _T["vision_msgs/msg/Detection2D"](header(stamp_ns), [result], bbox, box.id)

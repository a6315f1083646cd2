"""Messages of boxes for tests: what another detector publishes."""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import PoseWithCovariance
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
)

from cnn_perception.regions.box import Box


def boxes_message(header: Header, boxes: Sequence[Box]) -> Detection2DArray:
    return Detection2DArray(header=header, detections=[_detection(header, box) for box in boxes])


def _detection(header: Header, box: Box) -> Detection2D:
    centre = Pose2D(position=Point2D(x=float(box.x), y=float(box.y)), theta=float(box.theta))
    hypothesis = ObjectHypothesis(class_id="thing", score=float(box.score))
    pose = PoseWithCovariance()
    pose.pose.position.x = 3.0
    return Detection2D(
        header=header,
        id=box.id,
        bbox=BoundingBox2D(center=centre, size_x=float(box.width), size_y=float(box.height)),
        results=[ObjectHypothesisWithPose(hypothesis=hypothesis, pose=pose)],
    )

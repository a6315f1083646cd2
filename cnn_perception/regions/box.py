"""A box of a detector, without ROS: where it is in its image, and how sure the detector was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Box:
    """A rectangle in an image, unchecked: what a detector sends may be anything.

    Lengths are pixels. 0 is the left or upper edge of the first pixel, so that the whole image of W columns is the box
    with the centre W / 2 and the width W, as detectors count.

    Attributes:
        x: Column of the centre.
        y: Row of the centre.
        width: Of the box, along its own x axis.
        height: The same along its own y axis.
        theta: By how much it is turned about its centre, radians, counterclockwise as one sees the image.
        score: The detector's own, of its best result; -inf without one.
        id: By which the detector knows the object again; may be empty.
    """

    x: float
    y: float
    width: float
    height: float
    theta: float = 0.0
    score: float = -math.inf
    id: str = ""

    @classmethod
    def from_message(cls, detection: Any) -> Box:  # noqa: ANN401 - rclpy's and rosbags' messages share no base
        """Takes the fields of a vision_msgs/Detection2D."""
        bbox = detection.bbox
        centre = bbox.center
        return cls(
            x=float(centre.position.x),
            y=float(centre.position.y),
            width=float(bbox.size_x),
            height=float(bbox.size_y),
            theta=float(centre.theta),
            score=max((_score(result) for result in detection.results), default=-math.inf),
            id=str(detection.id),
        )

    def overlap(self, other: Box) -> float:
        """Returns the intersection over union with another box, as if neither was turned, in [0, 1]."""
        across = min(self.x + self.width / 2, other.x + other.width / 2)
        across -= max(self.x - self.width / 2, other.x - other.width / 2)
        down = min(self.y + self.height / 2, other.y + other.height / 2)
        down -= max(self.y - self.height / 2, other.y - other.height / 2)
        if not (across > 0.0 and down > 0.0):
            return 0.0
        union = self.width * self.height + other.width * other.height - across * down
        return across * down / union if math.isfinite(union) and union > 0.0 else 0.0


def _score(result: Any) -> float:  # noqa: ANN401
    score = float(result.hypothesis.score)
    return -math.inf if math.isnan(score) else score

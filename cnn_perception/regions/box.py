"""A box of a detector, without ROS: where it is in its image, and how sure the detector was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

_Point = tuple[float, float]


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

    @property
    def corners(self) -> list[_Point]:
        """The (x, y) of its corners in pixels, neighbours one after the other; of a box of finite numbers."""
        cosine, sine = math.cos(self.theta), math.sin(self.theta)
        # A turn is counterclockwise as one sees the image, whose y points down.
        return [
            (self.x + u * cosine + v * sine, self.y - u * sine + v * cosine)
            for u, v in (
                (-self.width / 2, -self.height / 2),
                (self.width / 2, -self.height / 2),
                (self.width / 2, self.height / 2),
                (-self.width / 2, self.height / 2),
            )
        ]

    def overlap(self, other: Box) -> float:
        """Returns the intersection over union with another box, in [0, 1]; 0 where either has NaN, Inf or no size."""
        if not (self._is_sound and other._is_sound):
            return 0.0
        is_turned = self.theta != 0.0 or other.theta != 0.0
        shared = self._shared_turned(other) if is_turned else self._shared_upright(other)
        union = self.width * self.height + other.width * other.height - shared
        return min(shared / union, 1.0) if math.isfinite(union) and union > 0.0 else 0.0

    @property
    def _is_sound(self) -> bool:
        is_finite = math.isfinite(self.x + self.y + self.width + self.height + self.theta)
        return is_finite and self.width > 0.0 and self.height > 0.0

    def _shared_upright(self, other: Box) -> float:
        """Returns the area of the intersection of two boxes that are not turned, square pixels."""
        across = min(self.x + self.width / 2, other.x + other.width / 2)
        across -= max(self.x - self.width / 2, other.x - other.width / 2)
        down = min(self.y + self.height / 2, other.y + other.height / 2)
        down -= max(self.y - self.height / 2, other.y - other.height / 2)
        return across * down if across > 0.0 and down > 0.0 else 0.0

    def _shared_turned(self, other: Box) -> float:
        """Returns the same of boxes of which one is turned at least."""
        # Seen from the other box, whose sides are then along the axes; numbers about its centre keep their precision.
        cosine, sine = math.cos(other.theta), math.sin(other.theta)
        offsets = [(x - other.x, y - other.y) for x, y in self.corners]
        seen = [(x * cosine - y * sine, x * sine + y * cosine) for x, y in offsets]
        for axis, reach in ((0, other.width / 2), (1, other.height / 2)):
            seen = _up_to(seen, axis, reach, 1.0)
            seen = _up_to(seen, axis, reach, -1.0)
        return _area(seen)


def _score(result: Any) -> float:  # noqa: ANN401
    score = float(result.hypothesis.score)
    return -math.inf if math.isnan(score) else score


def _up_to(polygon: list[_Point], axis: int, limit: float, sign: float) -> list[_Point]:
    """Returns the part of a convex polygon where sign * coordinate is at most a limit.

    Source: Sutherland and Hodgman 1974, Reentrant polygon clipping, one of its steps.
    """
    kept: list[_Point] = []
    for start, end in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        before, after = sign * start[axis] - limit, sign * end[axis] - limit
        if before <= 0.0:
            kept.append(start)
        if (before <= 0.0) != (after <= 0.0):
            part = before / (before - after)
            kept.append((start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])))
    return kept


def _area(polygon: list[_Point]) -> float:
    """Returns the area of a simple polygon, by the shoelace formula."""
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return abs(sum(x * below - right * y for (x, y), (right, below) in pairs)) / 2.0

"""The controller of follow_node: classifications and rays to velocities, zero when in doubt. No ROS in here.

The robot moves only while a recent frame has both a certain classification of the followed class and a ray to it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import UNKNOWN

Cause = Literal["answers", "rays", "stamps", "classes", "view"]
"""What makes the robot stand still: answers that do not come, or rays; frames of another time; classes that the model
does not know; or what is seen, as it should."""
_UNIT_TOLERANCE = 0.01
"""A ray whose length is further from 1 is no ray; an unset message has the length 0."""
_MOST_NAMES = 10
"""Of classes in one line, where none is similar to the one that is named."""
_LEAST_HORIZONTAL = 1e-3
"""A ray with less of its length in the horizontal plane points up or down, which is no direction to turn to."""


@dataclass(frozen=True)
class ControllerConfig:
    """When the robot moves, and how fast.

    Attributes:
        follow: Name of the class that is followed.
        stop_classes: Names of classes in whose presence nothing moves, wherever they rank in an answer.
        min_score: Least score of a class that counts as seen, in [0, 1].
        linear: Speed forward in m/s, at least 0.
        gain: Turning speed per radian of bearing, 1/s, at least 0.
        max_angular: Largest turning speed, rad/s, at least 0.
        forward_within: Largest bearing, rad, at which the robot also drives forward.
        timeout_s: Age from which a classification is too old to move on, seconds.

    Raises:
        ConfigError: If no class can be followed.
    """

    follow: str
    stop_classes: frozenset[str]
    min_score: float
    linear: float
    gain: float
    max_angular: float
    forward_within: float
    timeout_s: float

    def __post_init__(self) -> None:
        if self.follow in ("", UNKNOWN):
            raise ConfigError(f"follow is {self.follow!r}; name the class to drive to, as in the model's label_info")
        if self.follow in self.stop_classes:
            raise ConfigError(f"follow is {self.follow!r}, which is also one of stop_classes; take it out of one")


@dataclass(frozen=True)
class StampedClassification:
    """What the perception node recognised in one frame.

    Attributes:
        stamp_ns: Of the frame, nanoseconds.
        results: (class, score), best first.
        arrived_s: When it arrived, seconds of a monotonic clock.
    """

    stamp_ns: int
    results: Sequence[tuple[str, float]]
    arrived_s: float


@dataclass(frozen=True)
class Ray:
    """The direction in which the best class of one frame was seen.

    Attributes:
        stamp_ns: Of the frame, nanoseconds.
        direction: Unit vector in the camera's optical frame: x right, y down, z forward (REP 103).
    """

    stamp_ns: int
    direction: tuple[float, float, float]


@dataclass(frozen=True)
class VelocityCommand:
    """A velocity, and the reason for it.

    Attributes:
        linear: Forward, m/s.
        angular: To the left, rad/s (REP 103).
        reason: One line.
        cause: What kind of reason it is to stand still; None where it moves, or begins or ends.
    """

    linear: float
    angular: float
    reason: str
    cause: Cause | None = None

    @property
    def moves(self) -> bool:
        """Whether it is anything but standing still."""
        return self.linear != 0.0 or self.angular != 0.0


def stop(reason: str, cause: Cause | None = None) -> VelocityCommand:
    """Returns the command to stand still."""
    return VelocityCommand(0.0, 0.0, reason, cause)


class FollowController:
    """Computes velocities from the newest classification, and from the ray of the same frame.

    A classification that forbids to move does so at once, before its ray is there. One that allows it is acted upon
    only when a ray has the same stamp; until then the frame before counts, for as long as that one is recent.
    """

    def __init__(self) -> None:
        self._classification: StampedClassification | None = None
        self._classes = frozenset[str]()
        self._ray: Ray | None = None
        self._matched: tuple[StampedClassification, Ray] | None = None

    def update_classification(self, classification: StampedClassification) -> None:
        """Takes the newest classification."""
        self._classification = classification
        self._match_stamps()

    def update_classes(self, names: frozenset[str]) -> None:
        """Takes the names of all classes that the model can answer; empty where they are not known."""
        self._classes = names

    def update_ray(self, ray: Ray) -> None:
        """Takes the newest ray."""
        self._ray = ray
        self._match_stamps()

    def _match_stamps(self) -> None:
        if self._classification is None or self._ray is None:
            return
        if self._classification.stamp_ns == self._ray.stamp_ns:
            self._matched = (self._classification, self._ray)

    def compute_command(self, config: ControllerConfig, now_s: float, now_ns: int) -> VelocityCommand:
        """Returns the velocity for this moment.

        Args:
            config: When to move.
            now_s: Seconds of the monotonic clock of `StampedClassification.arrived_s`.
            now_ns: Nanoseconds of the clock of the stamps.
        """
        if self._classification is None:
            return stop("no answer has arrived yet", "answers")
        if _is_stale(silence_s := now_s - self._classification.arrived_s, config):
            return stop(f"no answer for {silence_s:.2f} s", "answers")
        if reason := _unknown_class(config, self._classes):
            return stop(reason, "classes")
        if reason := _stop_reason(self._classification.results, config):
            return stop(reason, "view")
        if self._matched is None:
            return stop("no ray with the stamp of an answer has arrived yet", "rays")
        classification, ray = self._matched
        if _is_stale(silence_s := now_s - classification.arrived_s, config):
            return stop(f"no ray with the stamp of an answer for {silence_s:.2f} s", "rays")
        if _is_stale(age_s := (now_ns - classification.stamp_ns) / 1e9, config):
            return stop(f"the frame's stamp is {age_s:.2f} s old; its clock may differ from this node's", "stamps")
        return _velocity_towards(ray.direction, config)


def _is_stale(age_s: float, config: ControllerConfig) -> bool:
    """Returns whether an age is above the limit, or so far below 0 that one of the clocks is wrong."""
    return not -config.timeout_s <= age_s <= config.timeout_s


def _unknown_class(config: ControllerConfig, classes: Collection[str]) -> str:
    """Returns which class that is named the model can never answer, and those that may be meant; empty if none is.

    A robot would never stop for such a class of `stop_classes`, so it does not move at all.
    """
    named = [("stop_classes", name) for name in sorted(config.stop_classes - {UNKNOWN})]
    for parameter, name in [*named, ("follow", config.follow)]:
        if classes and name not in classes:
            meant = difflib.get_close_matches(name, classes, 3) or sorted(classes)[:_MOST_NAMES]
            return f"{parameter} names {name!r}, which the model does not know; it knows {', '.join(meant)}"
    return ""


def _stop_reason(results: Sequence[tuple[str, float]], config: ControllerConfig) -> str:
    """Returns why a classification forbids to move; empty if it does not."""
    if not results:
        return "nothing is recognised"
    if not all(math.isfinite(score) for _, score in results):
        return "a score is not finite"
    for name, score in results:
        if name == UNKNOWN or (name in config.stop_classes and score >= config.min_score):
            return f"{name} is seen"
    name, score = results[0]  # the ray belongs to the best class
    if name != config.follow:
        return f"{name} is seen, not {config.follow}"
    return "" if score >= config.min_score else f"{name} has a score of {score:.2f} only"


def _velocity_towards(direction: tuple[float, float, float], config: ControllerConfig) -> VelocityCommand:
    right, _, forward = direction
    if not abs(math.hypot(*direction) - 1.0) <= _UNIT_TOLERANCE:  # also where it is NaN
        return stop("the ray is no unit vector", "view")
    if math.hypot(right, forward) < _LEAST_HORIZONTAL:
        return stop("the ray points straight up or down", "view")
    bearing = math.atan2(right, forward)
    angular = max(-config.max_angular, min(config.max_angular, -config.gain * bearing))
    linear = config.linear if abs(bearing) <= config.forward_within else 0.0
    return VelocityCommand(linear, angular, f"{config.follow} at {math.degrees(bearing):.0f} degrees to the right")

"""What was recognised, and where, as a velocity: towards the followed class, and nowhere when in doubt. No ROS in here.

Standing still is the answer to everything that is not a fresh, certain, complete sight of the followed class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import UNKNOWN

_UNIT_TOLERANCE = 0.01
"""A ray whose length is further from 1 is no ray; an unset message has the length 0."""
_LEAST_HORIZONTAL = 1e-3
"""A ray with less of its length in the horizontal plane points up or down, which is no direction to turn to."""


@dataclass(frozen=True)
class Rule:
    """When to move, and how fast.

    Attributes:
        follow: Name of the class that is followed.
        stop_classes: Names of classes in whose presence nothing moves, wherever they rank.
        min_score: Least score of a class that counts as seen, in [0, 1].
        linear: Speed forward in m/s, at least 0.
        gain: Turning speed per radian of bearing, 1/s, at least 0.
        max_angular: Largest turning speed, rad/s, at least 0.
        forward_within: Largest bearing, rad, at which the robot also drives forward.
        timeout_s: Age from which an answer is too old to be acted upon, seconds.

    Raises:
        ConfigError: If no class can be followed under this rule.
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
class Answer:
    """What the perception node said of one frame.

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
    """Where in one frame it was.

    Attributes:
        stamp_ns: Of the frame, nanoseconds.
        direction: Unit vector in the camera's optical frame: x right, y down, z forward (REP 103).
    """

    stamp_ns: int
    direction: tuple[float, float, float]


@dataclass(frozen=True)
class Command:
    """A velocity, and the reason for it.

    Attributes:
        linear: Forward, m/s.
        angular: To the left, rad/s (REP 103).
        why: One line.
    """

    linear: float
    angular: float
    why: str

    @property
    def moves(self) -> bool:
        """Whether it is anything but standing still."""
        return self.linear != 0.0 or self.angular != 0.0


def stop(why: str) -> Command:
    """Returns the command to stand still."""
    return Command(0.0, 0.0, why)


class Follower:
    """Joins answers and rays of the same frame, and decides how to move.

    An answer that forbids to move does so at once, before its ray is there. One that allows it is acted upon only when
    its ray has the same stamp; until then the frame before counts, for as long as that one is fresh.
    """

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._ray: Ray | None = None
        self._sight: tuple[Answer, Ray] | None = None

    def hear(self, answer: Answer) -> None:
        """Takes the newest answer."""
        self._answer = answer
        self._join()

    def look(self, ray: Ray) -> None:
        """Takes the newest ray."""
        self._ray = ray
        self._join()

    def _join(self) -> None:
        if self._answer is not None and self._ray is not None and self._answer.stamp_ns == self._ray.stamp_ns:
            self._sight = self._answer, self._ray

    def decide(self, rule: Rule, now_s: float, now_ns: int) -> Command:
        """Returns what to do now.

        Args:
            rule: When to move.
            now_s: Seconds of the monotonic clock of `Answer.arrived_s`.
            now_ns: Nanoseconds of the clock of the stamps.
        """
        if self._answer is None:
            return stop("no answer has arrived yet")
        if _is_old(silence_s := now_s - self._answer.arrived_s, rule):
            return stop(f"no answer for {silence_s:.2f} s")
        if objection := _objection(self._answer.results, rule):
            return stop(objection)
        if self._sight is None:
            return stop("no ray with the stamp of an answer has arrived yet")
        answer, ray = self._sight
        if _is_old(silence_s := now_s - answer.arrived_s, rule):
            return stop(f"no ray with the stamp of an answer for {silence_s:.2f} s")
        if _is_old(age_s := (now_ns - answer.stamp_ns) / 1e9, rule):
            return stop(f"the frame's stamp is {age_s:.2f} s old; its clock may differ from this node's")
        return _towards(ray.direction, rule)


def _is_old(age_s: float, rule: Rule) -> bool:
    """Older than the limit, or so far from the future that one of the clocks is wrong."""
    return not -rule.timeout_s <= age_s <= rule.timeout_s


def _objection(results: Sequence[tuple[str, float]], rule: Rule) -> str:
    """Says why an answer forbids to move; empty if it does not."""
    if not results:
        return "nothing is recognised"
    if not all(math.isfinite(score) for _, score in results):
        return "a score is not finite"
    for name, score in results:
        if name == UNKNOWN or (name in rule.stop_classes and score >= rule.min_score):
            return f"{name} is seen"
    name, score = results[0]  # the ray belongs to the best class
    if name != rule.follow:
        return f"{name} is seen, not {rule.follow}"
    return "" if score >= rule.min_score else f"{name} has a score of {score:.2f} only"


def _towards(direction: tuple[float, float, float], rule: Rule) -> Command:
    right, _, forward = direction
    if not abs(math.hypot(*direction) - 1.0) <= _UNIT_TOLERANCE:  # also where it is NaN
        return stop("the ray is no unit vector")
    if math.hypot(right, forward) < _LEAST_HORIZONTAL:
        return stop("the ray points straight up or down")
    bearing = math.atan2(right, forward)
    angular = max(-rule.max_angular, min(rule.max_angular, -rule.gain * bearing))
    linear = rule.linear if abs(bearing) <= rule.forward_within else 0.0
    return Command(linear, angular, f"{rule.follow} at {math.degrees(bearing):.0f} degrees to the right")

"""One answer of a node as its message says it, and whether it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cnn_perception.errors import DataError
from cnn_perception.image.messages import nanoseconds
from cnn_perception.label_text import NONE_OF_THESE, Truth, text_of
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.tasks.rules import TaskRules

AnswerKind = Literal["class", "classes", "numbers"]
"""Whether an answer is its first class, all of its classes, or its numbers."""


@dataclass(frozen=True)
class Answer:
    """One message of answers.

    Attributes:
        stamp_ns: Of its header, which is the image's, nanoseconds.
        time_s: When it was received, seconds on the time axis of the labels.
        results: (class, score in [0, 1]) in the order of the message, the answer first; or (name, value) of numbers.
    """

    stamp_ns: int
    time_s: float
    results: tuple[tuple[str, float], ...]

    @property
    def is_unknown(self) -> bool:
        """Whether the model's rule said that the image shows none of its classes."""
        return [name for name, _ in self.results] == [UNKNOWN]

    def text(self, kind: AnswerKind) -> str:
        """Returns the answer as label files hold it; empty where no class reached the threshold."""
        names = [name for name, _ in self.results]
        if kind == "numbers":
            return text_of(tuple(value for _, value in self.results))
        if kind == "classes":
            return text_of(frozenset(names))
        return names[0] if names else ""

    def is_right(self, kind: AnswerKind, truth: Truth) -> bool:
        """Returns whether the classes are the known ones, or `unknown` where it is known that none of them is there."""
        return self.text(kind) == (UNKNOWN if truth == NONE_OF_THESE else text_of(truth))

    def values(self, names: Sequence[str]) -> tuple[float, ...]:
        """Returns the numbers of these names; a single one without a name is meant whatever its name.

        Raises:
            DataError: If there is no such number.
        """
        found = dict(self.results)
        if len(names) == 1 and set(found) == {""}:
            return (found[""],)
        missing = [name for name in names if name not in found]
        if missing:
            raise DataError(f"the answers have no number {missing[0]!r}; they have {', '.join(map(repr, found))}")
        return tuple(found[name] for name in names)


def answer_from_message(message: Any, time_s: float) -> Answer:  # noqa: ANN401 of rclpy or of a bag reader
    """Returns what a vision_msgs/Classification or a sensor_msgs/JointState says.

    Args:
        message: Either, of any library.
        time_s: When it was received, seconds.
    """
    if hasattr(message, "results"):
        results = tuple((str(one.class_id), float(one.score)) for one in message.results)
    else:
        pairs = zip(message.name, message.position, strict=False)
        results = tuple((str(name), float(value)) for name, value in pairs)
    return Answer(nanoseconds(message.header.stamp), time_s, results)


def kind_of(task: TaskRules) -> AnswerKind:
    """Returns how the answers of a task are read."""
    if not task.has_classes:
        return "numbers"
    return "class" if task.is_exclusive else "classes"

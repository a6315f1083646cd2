"""One answer of a node as its message says it, and how it is read: as a class, as several, or as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnn_perception.errors import DataError
from cnn_perception.image.messages import nanoseconds
from cnn_perception.label_text import NONE_OF_THESE, Truth, text_of
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.stream.stamps import has_too_many
from cnn_perception.tasks.rules import TaskRules


@dataclass(frozen=True)
class Answer:
    """One message of answers.

    Attributes:
        stamp_ns: Of its header, which is the image's, nanoseconds.
        time_s: When it was received, seconds on the time axis of the labels.
        results: (class, score in [0, 1]) in the order of the message, the answer first; or (name, value) of numbers.
        has_time: Whether the stamp is a time, see `bag.reader.StampedImage`.

    Raises:
        DataError: If a score or a number is not finite.
    """

    stamp_ns: int
    time_s: float
    results: tuple[tuple[str, float], ...]
    has_time: bool = False

    def __post_init__(self) -> None:
        for name, value in self.results:
            if not math.isfinite(value):
                raise DataError(
                    f"the answer with the stamp {self.stamp_ns} ns says {value} of {name!r}; mend what published it"
                )

    @property
    def is_unknown(self) -> bool:
        """Whether the model's rule said that the image shows none of its classes."""
        return [name for name, _ in self.results] == [UNKNOWN]


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
    stamp_ns = nanoseconds(message.header.stamp)
    has_time = stamp_ns > 0 and not has_too_many(int(message.header.stamp.nanosec))
    return Answer(stamp_ns, time_s, results, has_time)


@dataclass(frozen=True)
class Reading:
    """How answers are read; see `TaskRules`, whose rules these are for messages alone.

    Attributes:
        has_classes: Whether they are classes; numbers otherwise.
        is_exclusive: Whether the first class is the answer; otherwise all of them are.
        names: Of the numbers, in the order of what is known; empty for classes.
    """

    has_classes: bool = True
    is_exclusive: bool = True
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: TaskRules, names: Sequence[str]) -> Reading:
        """Returns how the answers of a model are read.

        Args:
            task: Of the model.
            names: Its classes, or the names of its numbers.
        """
        return cls(task.has_classes, task.is_exclusive, () if task.has_classes else tuple(names))

    def text(self, answer: Answer) -> str:
        """Returns an answer as label files hold it; empty where no class reached the threshold."""
        if not self.has_classes:
            return text_of(self.values(answer))
        names = [name for name, _ in answer.results]
        if not self.is_exclusive:
            return text_of(frozenset(names))
        return names[0] if names else ""

    def is_right(self, answer: Answer, truth: Truth) -> bool:
        """Returns whether the classes are the known ones, or `unknown` where it is known that none of them is there."""
        return self.text(answer) == (UNKNOWN if truth == NONE_OF_THESE else text_of(truth))

    def badness(self, answer: Answer, truth: Truth) -> float:
        """Returns how bad an answer is, as far as its message tells, see `TaskRules.badness`.

        Sure mistakes are the worst (1 to 2), sure right answers the best (0 to 1); of numbers it is the largest
        absolute error.
        """
        if not self.has_classes:
            return self.deviation(answer, truth)
        score = answer.results[0][1] if answer.results else 0.0
        return 1.0 - score if self.is_right(answer, truth) else 1.0 + score

    def deviation(self, answer: Answer, truth: Truth) -> float:
        """Returns the largest absolute error of the numbers, see `TaskRules.deviation`.

        Raises:
            DataError: As `values`.
        """
        return float(np.abs(np.array(self.values(answer)) - np.array(truth, np.float64)).max())

    def values(self, answer: Answer) -> tuple[float, ...]:
        """Returns the numbers of an answer in the order of `names`; of a single one the name does not matter.

        Raises:
            DataError: If there is no such number.
        """
        found = dict(answer.results)
        if len(self.names) == 1 and len(found) == 1:
            return tuple(found.values())
        missing = [name for name in self.names if name not in found]
        if missing:
            raise DataError(f"the answers have no number {missing[0]!r}; they have {', '.join(map(repr, found))}")
        return tuple(found[name] for name in self.names)

"""Which answer belongs to which frame: that with the frame's stamp, to the nanosecond."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cnn_perception.answers.answer import Answer
from cnn_perception.label_text import Truth


@dataclass(frozen=True)
class AskedFrame:
    """One frame of a recording.

    Attributes:
        index: Its position in the topic, from 0.
        stamp_ns: Of its header, nanoseconds; 0 where it was not set.
        time_s: When it was received or published, seconds on the time axis of the labels.
        truth: What is known of it; None for nothing.
        has_time: Whether the stamp is a time, see `bag.reader.StampedImage`.
    """

    index: int
    stamp_ns: int
    time_s: float
    truth: Truth | None
    has_time: bool = False


@dataclass(frozen=True)
class Matching:
    """The answers by frame.

    Attributes:
        answers: Of each frame; None where there is none, or nobody can tell which it is.
        strangers: Answers with a stamp that no frame has.
        repeated: Answers beyond the first to the same frame.
        ambiguous: Frames that share their stamp with others, of which not all were answered.
    """

    answers: tuple[Answer | None, ...]
    strangers: int
    repeated: int
    ambiguous: int


def matched(frames: Sequence[AskedFrame], answers: Sequence[Answer]) -> Matching:
    """Returns which answer belongs to which frame.

    Frames of the same stamp, such as 0, are told apart by their order, if each of them was answered.

    Args:
        frames: In order.
        answers: In the order in which they came.
    """
    of_stamp: dict[int, list[Answer]] = defaultdict(list)
    for answer in answers:
        of_stamp[answer.stamp_ns].append(answer)
    sharing: dict[int, list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        sharing[frame.stamp_ns].append(place)
    found: list[Answer | None] = [None] * len(frames)
    repeated = ambiguous = 0
    for stamp_ns, places in sharing.items():
        given = of_stamp.pop(stamp_ns, [])
        if len(places) == 1 and given:
            found[places[0]] = given[0]
            repeated += len(given) - 1
        elif len(places) == len(given):
            for place, answer in zip(places, given, strict=True):
                found[place] = answer
        elif given:
            ambiguous += len(places)
    return Matching(tuple(found), sum(map(len, of_stamp.values())), repeated, ambiguous)

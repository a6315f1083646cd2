"""What is known of a recording, read without a model: whatever classes or numbers the labels name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.answers.answer import Answer, Reading
from cnn_perception.bag.message_types import NUMBER_TYPES
from cnn_perception.bag.reader import Bag, Topic
from cnn_perception.errors import DataError
from cnn_perception.evaluation.labels import (
    Interval,
    Labels,
    Measurements,
    bag_column,
    labels_from_changes,
    measurements_from_messages,
    read_labels,
    read_measurements,
)
from cnn_perception.evaluation.recording.known_answers import KnownAnswers, LabelStamps, require_topic
from cnn_perception.label_table import is_table, read_table
from cnn_perception.label_text import NONE_OF_THESE, UNLABELLED, Truth

_TIME = "time_s"
_MOST_NAMES = 10


@dataclass(frozen=True)
class TruthTrack:
    """What is known over time.

    Attributes:
        known: The labels, and their clock.
        reading: How answers are compared with them.
    """

    known: KnownAnswers
    reading: Reading


def read_truth(
    bag: Bag, labels: str, answered: Sequence[str], images: Topic | None, origin_ns: int | None = None
) -> TruthTrack:
    """Returns what a CSV file or a topic of a bag says.

    Args:
        bag: The open bag.
        labels: A CSV file (*.csv) or a topic; empty for none.
        answered: Names of the numbers that are answered; empty for classes.
        images: The image topic; None where there is none.
        origin_ns: What is 0 s in a CSV file; None for the first image or answer.

    Raises:
        DataError: If the labels cannot be read, or are no numbers where the answers are, or the other way round.
    """
    if not labels:
        return TruthTrack(KnownAnswers(origin_ns=origin_ns), _of_numbers(answered) if answered else Reading())
    if not is_table(labels):
        require_topic(bag, labels)
    is_measured = _is_measured(bag, labels)
    if is_measured != bool(answered):
        kinds = ("numbers", "classes") if is_measured else ("classes", "numbers")
        raise DataError(f"{labels}: holds {kinds[0]}, the answers are {kinds[1]}; name labels of the same kind")
    if not is_table(labels):
        known = _numbers_of_topic if is_measured else _classes_of_topic
        return known(bag, labels, answered, images)
    truth: Labels | Measurements
    if is_measured:
        truth, reading = _numbers_of_file(Path(labels), answered, bag.path)
    else:
        truth, reading = _classes(read_labels(Path(labels), bag.path))
    return TruthTrack(KnownAnswers(truth, labels, origin_ns), reading)


def _is_measured(bag: Bag, labels: str) -> bool:
    if is_table(labels):
        return _TIME in read_table(Path(labels), "name a CSV file or a label topic").header
    name = "/" + labels.lstrip("/")
    return any(topic.type in NUMBER_TYPES for topic in bag.topics if "/" + topic.name.lstrip("/") == name)


def _numbers_of_file(path: Path, answered: Sequence[str], bag: Path) -> tuple[Measurements, Reading]:
    table = read_table(path, "name a CSV file or a topic of numbers")
    others = ("", _TIME, bag_column(table))
    names = _shared([name for name in table.header if name not in others], answered)
    return read_measurements(path, names, bag), _of_numbers(names)


def _numbers_of_topic(bag: Bag, topic: str, answered: Sequence[str], images: Topic | None) -> TruthTrack:
    track = bag.number_track(topic, images)
    names = _shared(list(dict.fromkeys(name for _, numbers in track.rows for name in numbers)), answered)
    zero_ns = 0 if track.is_stamped else bag.start_ns
    rows = [(time_ns - zero_ns, numbers) for time_ns, numbers in track.rows]
    measured = measurements_from_messages(rows, names, f"{bag.path}: {topic}")
    return TruthTrack(KnownAnswers(measured, topic, bag.start_ns, LabelStamps.of(track)), _of_numbers(names))


def _shared(known: Sequence[str], answered: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the numbers that are compared: those that both have, or the only one of either."""
    if list(known) == [""]:
        return tuple(answered[:1])
    shared = tuple(name for name in known if name in answered)
    return shared or tuple(known)


def _of_numbers(names: Sequence[str]) -> Reading:
    return Reading(has_classes=False, names=tuple(names))


def _classes_of_topic(bag: Bag, topic: str, _answered: Sequence[str], images: Topic | None) -> TruthTrack:
    track = bag.label_track(topic, images=images)
    zero_ns = 0 if track.is_stamped else bag.start_ns
    truth, reading = _classes(labels_from_changes((time_ns - zero_ns, name) for time_ns, name in track.changes))
    return TruthTrack(KnownAnswers(truth, topic, bag.start_ns, LabelStamps.of(track)), reading)


def _classes(labels: Labels) -> tuple[Labels, Reading]:
    """Returns labels whose texts name one class each, or several where any does."""
    known = [one for one in labels.intervals if str(one.truth) not in ("", UNLABELLED)]
    texts = [re.split("[;|]", str(one.truth)) for one in known]
    if all(len(names) == 1 for names in texts):
        return Labels(tuple(known)), Reading()
    sets = [frozenset(name.strip() for name in names) - {""} for names in texts]
    intervals = (Interval(one.start_ns, one.end_ns, found) for one, found in zip(known, sets, strict=True))
    return Labels(tuple(intervals)), Reading(is_exclusive=False)


def never_answered(truths: Iterable[Truth | None], answers: Iterable[Answer]) -> list[str]:
    """Says which known classes no answer ever names, so that they are perhaps called otherwise; a line or none.

    Args:
        truths: What is known of the frames.
        answers: All answers, which are classes.
    """
    named = {name for answer in answers for name, _ in answer.results}
    known: set[str] = set()
    for truth in truths:
        known |= truth if isinstance(truth, frozenset) else {truth} if isinstance(truth, str) else set()
    missing = sorted(name for name in known if name not in named and name != NONE_OF_THESE)
    if not missing or not named:
        return []
    return [
        f"no answer ever names {', '.join(map(repr, missing[:_MOST_NAMES]))}, as labels do; the answers name "
        f"{', '.join(map(repr, sorted(named)[:_MOST_NAMES]))}: are they called alike?"
    ]

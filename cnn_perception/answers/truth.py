"""What is known of a recording, read without a model: whatever classes or numbers the labels name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.answers.answer import Reading
from cnn_perception.bag.message_types import NUMBER_TYPES
from cnn_perception.bag.reader import Bag
from cnn_perception.errors import DataError
from cnn_perception.evaluation.labels import (
    Interval,
    Labels,
    Measurements,
    labels_from_changes,
    measurements_from_messages,
    read_labels,
    read_measurements,
)
from cnn_perception.label_table import is_table, read_table
from cnn_perception.label_text import UNLABELLED, Truth

_TIME = "time_s"


@dataclass(frozen=True)
class TruthTrack:
    """What is known over time.

    Attributes:
        truth: None without labels.
        is_stamped: Whether its times are those of headers; else they are seconds since the time axis begins.
        reading: How answers are compared with it.
    """

    truth: Labels | Measurements | None
    is_stamped: bool
    reading: Reading

    def at(self, stamp_ns: int, time_s: float) -> Truth | None:
        """Returns what is known of a frame by its stamp, or by its time on the labels' axis; None for nothing."""
        if self.truth is None:
            return None
        return self.truth.at(stamp_ns if self.is_stamped else round(time_s * 1e9))


def read_truth(bag: Bag, labels: str, answered: Sequence[str]) -> TruthTrack:
    """Returns what a CSV file or a topic of a bag says.

    Args:
        bag: The open bag.
        labels: A CSV file (*.csv) or a topic; empty for none.
        answered: Names of the numbers that are answered; empty for classes.

    Raises:
        DataError: If the labels cannot be read, or are no numbers where the answers are, or the other way round.
    """
    if not labels:
        return TruthTrack(None, is_stamped=False, reading=_of_numbers(answered) if answered else Reading())
    is_measured = _is_measured(bag, labels)
    if is_measured != bool(answered):
        kinds = ("numbers", "classes") if is_measured else ("classes", "numbers")
        raise DataError(f"{labels}: holds {kinds[0]}, the answers are {kinds[1]}; name labels of the same kind")
    if is_measured:
        is_file = is_table(labels)
        return _numbers_of_file(Path(labels), answered) if is_file else _numbers_of_topic(bag, labels, answered)
    return _classes_of_file(Path(labels)) if is_table(labels) else _classes_of_topic(bag, labels)


def _is_measured(bag: Bag, labels: str) -> bool:
    if is_table(labels):
        return _TIME in read_table(Path(labels), "name a CSV file or a label topic").header
    name = "/" + labels.lstrip("/")
    return any(topic.type in NUMBER_TYPES for topic in bag.topics if "/" + topic.name.lstrip("/") == name)


def _numbers_of_file(path: Path, answered: Sequence[str]) -> TruthTrack:
    header = read_table(path, "name a CSV file or a topic of numbers").header
    names = _shared([name for name in header if name not in ("", _TIME)], answered)
    return TruthTrack(read_measurements(path, names), is_stamped=False, reading=_of_numbers(names))


def _numbers_of_topic(bag: Bag, topic: str, answered: Sequence[str]) -> TruthTrack:
    track = bag.number_track(topic)
    names = _shared(list(dict.fromkeys(name for _, numbers in track.rows for name in numbers)), answered)
    zero_ns = 0 if track.is_stamped else bag.start_ns
    rows = [(time_ns - zero_ns, numbers) for time_ns, numbers in track.rows]
    return TruthTrack(
        measurements_from_messages(rows, names, f"{bag.path}: {topic}"), track.is_stamped, _of_numbers(names)
    )


def _shared(known: Sequence[str], answered: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the numbers that are compared: those that both have, or the only one of either."""
    if list(known) == [""]:
        return tuple(answered[:1])
    shared = tuple(name for name in known if name in answered)
    return shared or tuple(known)


def _of_numbers(names: Sequence[str]) -> Reading:
    return Reading(has_classes=False, names=tuple(names))


def _classes_of_file(path: Path) -> TruthTrack:
    return _classes(read_labels(path), is_stamped=False)


def _classes_of_topic(bag: Bag, topic: str) -> TruthTrack:
    track = bag.label_track(topic)
    zero_ns = 0 if track.is_stamped else bag.start_ns
    return _classes(labels_from_changes((time_ns - zero_ns, name) for time_ns, name in track.changes), track.is_stamped)


def _classes(labels: Labels, is_stamped: bool) -> TruthTrack:
    """Returns labels whose texts name one class each, or several where any does."""
    known = [one for one in labels.intervals if str(one.truth) not in ("", UNLABELLED)]
    texts = [re.split("[;|]", str(one.truth)) for one in known]
    if all(len(names) == 1 for names in texts):
        return TruthTrack(Labels(tuple(known)), is_stamped, Reading())
    sets = [frozenset(name.strip() for name in names) - {""} for names in texts]
    intervals = (Interval(one.start_ns, one.end_ns, found) for one, found in zip(known, sets, strict=True))
    return TruthTrack(Labels(tuple(intervals)), is_stamped, Reading(is_exclusive=False))

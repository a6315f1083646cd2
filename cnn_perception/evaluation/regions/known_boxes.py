"""What is known of the boxes in a recording: by their ids, or by the boxes of a topic that knows better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cnn_perception.bag.message_types import DETECTIONS_TYPE
from cnn_perception.bag.reader import Bag
from cnn_perception.errors import DataError
from cnn_perception.evaluation.labels import require_names, rows_of_bag
from cnn_perception.image.messages import nanoseconds
from cnn_perception.label_table import Row, is_table, read_table
from cnn_perception.label_text import SEPARATOR
from cnn_perception.regions.box import Box
from cnn_perception.regions.matching import is_same_frame

LEAST_OVERLAP = 0.5
"""Intersection over union from which two boxes are of one object. Source: Everingham et al. 2010, The Pascal VOC
Challenge."""
_ID, _CLASS, _STAMP = "id", "class", "stamp_ns"


class KnownBoxes(Protocol):
    """Who says what the boxes of an image show."""

    def texts(self, stamp_ns: int, boxes: Sequence[Box]) -> list[str]:
        """Returns what each box shows, written as in label files; empty where nothing is known."""

    def unused(self) -> str:
        """Says which labels are of no box; empty where each is of one."""

    def unfound(self) -> int:
        """How many known boxes the detector has not found, which says nothing about the answers."""


class NothingKnown:
    """Without labels."""

    def texts(self, stamp_ns: int, boxes: Sequence[Box]) -> list[str]:
        """As `KnownBoxes`."""
        return [""] * len(boxes)

    def unused(self) -> str:
        """As `KnownBoxes`."""
        return ""

    def unfound(self) -> int:
        """As `KnownBoxes`."""
        return 0


class KnownIds:
    """The classes of a table, by the boxes' ids: of one image where it has a column `stamp_ns`, else of all."""

    def __init__(self, path: Path, bag: Path) -> None:
        """Reads the table.

        Raises:
            DataError: If it cannot be used.
        """
        table = rows_of_bag(read_table(path, "name a CSV file"), bag)
        require_names(table.header, (_ID, _CLASS), str(path))
        self._path = path
        self._has_stamps = _STAMP in table.header
        self._classes: dict[tuple[str, str], str] = {}
        self._used: set[tuple[str, str]] = set()
        for row in table.rows:
            self._add(row)

    def _add(self, row: Row) -> None:
        key = (row.cells[_STAMP] if self._has_stamps else "", row.cells[_ID])
        if not key[1]:
            raise row.wrong(_ID, "is empty; name the box")
        if self._classes.setdefault(key, row.cells[_CLASS]) != row.cells[_CLASS]:
            raise row.wrong(_CLASS, f"is another one than above for the id {key[1]!r}; keep one")

    def texts(self, stamp_ns: int, boxes: Sequence[Box]) -> list[str]:
        """As `KnownBoxes`."""
        keys = [(str(stamp_ns) if self._has_stamps else "", box.id) for box in boxes]
        self._used.update(key for key in keys if key in self._classes)
        return [self._classes.get(key, "") for key in keys]

    def unused(self) -> str:
        """As `KnownBoxes`."""
        left = [name for stamp, name in self._classes if (stamp, name) not in self._used]
        return f"{self._path}: no box has {len(left)} of the ids, such as {left[0]!r}" if left else ""

    def unfound(self) -> int:
        """As `KnownBoxes`."""
        return 0


@dataclass(frozen=True)
class _Known:
    """A box of the topic that knows better, and what it shows."""

    box: Box
    text: str


class KnownTopic:
    """The classes of a topic's boxes: of the same id, else of the box that covers most of the same pixels."""

    def __init__(self, bag: Bag, topic: str, is_exclusive: bool, frame_ids: Mapping[int, Sequence[str]]) -> None:
        """Reads the topic; what is of another frame_id than the image of its stamp is another camera's.

        Args:
            bag: The open bag.
            topic: Of vision_msgs/Detection2DArray.
            is_exclusive: Whether only the best result of a box is meant, and not all of them.
            frame_ids: Of the images of each stamp.

        Raises:
            DataError: If there is no such topic, or a message cannot be read.
        """
        self._found = 0
        self._known: dict[int, list[_Known]] = {}
        for _, message in bag.stamped_messages(topic, (DETECTIONS_TYPE,), "topics of boxes"):
            stamp_ns = nanoseconds(message.header.stamp)
            images = frame_ids.get(stamp_ns, ())
            if images and not is_same_frame(str(message.header.frame_id), images[0]):
                continue
            known = [_Known(Box.from_message(one), _text(one.results, is_exclusive)) for one in message.detections]
            self._known.setdefault(stamp_ns, known)

    def texts(self, stamp_ns: int, boxes: Sequence[Box]) -> list[str]:
        """As `KnownBoxes`."""
        known = self._known.get(stamp_ns, [])
        places = matched(boxes, [one.box for one in known])
        self._found += len(set(places.values()))
        return [known[places[place]].text if place in places else "" for place in range(len(boxes))]

    def unused(self) -> str:
        """As `KnownBoxes`."""
        return ""

    def unfound(self) -> int:
        """As `KnownBoxes`."""
        return sum(map(len, self._known.values())) - self._found


def matched(boxes: Sequence[Box], known: Sequence[Box]) -> Mapping[int, int]:
    """Returns which known box each box of an image is, by their places; those that are none are left out.

    It is the one of the same id where just one of either has it, else the one with the largest overlap of
    `LEAST_OVERLAP` or more; each is taken once.
    """
    ours, theirs = (Counter(box.id for box in some if box.id) for some in (boxes, known))
    once = {name for name, count in ours.items() if count == theirs[name] == 1}
    place_of = {box.id: place for place, box in enumerate(known) if box.id in once}
    found = {place: place_of[box.id] for place, box in enumerate(boxes) if box.id in once}
    taken = set(found.values())
    overlaps = sorted(
        (-box.overlap(other), place, number)
        for place, box in enumerate(boxes)
        for number, other in enumerate(known)
        if place not in found and number not in taken and box.overlap(other) >= LEAST_OVERLAP
    )
    for _, place, number in overlaps:
        if place not in found and number not in taken:
            found[place] = number
            taken.add(number)
    return found


def _text(results: Sequence[Any], is_exclusive: bool) -> str:
    """Returns what a box shows as label files hold it; empty without a result."""
    best = sorted((one.hypothesis for one in results), key=lambda one: -float(one.score))
    names = [str(one.class_id) for one in best]
    return SEPARATOR.join(names[:1] if is_exclusive else names)


def known_boxes(
    bag: Bag, labels: str, truth: str, is_exclusive: bool, frame_ids: Mapping[int, Sequence[str]]
) -> KnownBoxes:
    """Returns what is known of the boxes of a bag.

    Args:
        bag: The open bag.
        labels: A CSV file of ids; empty for none.
        truth: A topic of boxes; empty for none.
        is_exclusive: Whether an image has one class.
        frame_ids: Of the images of each stamp.

    Raises:
        DataError: If they cannot be used.
    """
    if labels and not is_table(labels):
        raise DataError(f"--labels {labels}: of boxes, name a CSV file with id and class; a topic of boxes is --truth")
    if labels:
        return KnownIds(Path(labels), bag.path)
    return KnownTopic(bag, truth, is_exclusive, frame_ids) if truth else NothingKnown()

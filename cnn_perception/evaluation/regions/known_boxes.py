"""What is known of the boxes in a recording: by their ids, or by the boxes of a topic that knows better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cnn_perception.bag.reader import Bag, best_first
from cnn_perception.errors import DataError
from cnn_perception.evaluation.labels import require_names, rows_of_bag
from cnn_perception.evaluation.regions.recorded_boxes import detections_of_images
from cnn_perception.label_table import Row, is_table, read_table
from cnn_perception.label_text import SEPARATOR, UNLABELLED
from cnn_perception.regions.box import Box
from cnn_perception.regions.cropping import refused
from cnn_perception.regions.refusals import Refusals

LEAST_OVERLAP = 0.5
"""Intersection over union from which two boxes are of one object. Source: Everingham et al. 2010, The Pascal VOC
Challenge."""
_NEAR_NS = 200_000_000
"""Images so near in time show a thing at places that overlap, unless it is fast and small."""
_ID, _CLASS, _STAMP = "id", "class", "stamp_ns"


@dataclass(frozen=True)
class Doubt:
    """That some of what is known of boxes cannot be right.

    Attributes:
        text: How much of it, why, and what to do, on one line.
        prevails: Whether that is more than half of it, so that the rest is hardly right either.
    """

    text: str
    prevails: bool


class KnownBoxes(Protocol):
    """Who says what the boxes of an image show."""

    def texts(self, stamp_ns: int, boxes: Sequence[Box]) -> list[str]:
        """Returns what each box shows, written as in label files; empty where nothing is known."""

    def unused(self) -> str:
        """Says which labels are of no box; empty where each is of one."""

    def ignored(self) -> Mapping[str, int]:
        """Returns how much of what is known says nothing about the answers, by the reason."""

    def doubts(self) -> Sequence[Doubt]:
        """Returns what of it cannot be right, of the boxes that were asked for."""


class NothingKnown:
    """Without labels."""

    def texts(self, stamp_ns: int, boxes: Sequence[Box]) -> list[str]:
        """As `KnownBoxes`."""
        return [""] * len(boxes)

    def unused(self) -> str:
        """As `KnownBoxes`."""
        return ""

    def ignored(self) -> Mapping[str, int]:
        """As `KnownBoxes`."""
        return {}

    def doubts(self) -> Sequence[Doubt]:
        """As `KnownBoxes`."""
        return ()


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
        self._latest: dict[str, tuple[int, Box]] = {}
        self._steps = self._jumps = 0
        for row in table.rows:
            self._add(row)

    def _add(self, row: Row) -> None:
        key = (row.cells[_STAMP] if self._has_stamps else "", row.cells[_ID])
        if not key[1]:
            raise row.wrong(_ID, "is empty; name the box")
        if not row.cells[_CLASS]:
            raise row.wrong(_CLASS, f"is empty; write {UNLABELLED!r} for a box that is not to be scored")
        if self._classes.setdefault(key, row.cells[_CLASS]) != row.cells[_CLASS]:
            raise row.wrong(_CLASS, f"is another one than above for the id {key[1]!r}; keep one")

    def texts(self, stamp_ns: int, boxes: Sequence[Box]) -> list[str]:
        """As `KnownBoxes`."""
        keys = [(str(stamp_ns) if self._has_stamps else "", box.id) for box in boxes]
        self._used.update(key for key in keys if key in self._classes)
        if not self._has_stamps:
            self._follow(stamp_ns, [box for key, box in zip(keys, boxes, strict=True) if key in self._classes])
        return [self._classes.get(key, "") for key in keys]

    def _follow(self, stamp_ns: int, boxes: Sequence[Box]) -> None:
        """Counts the boxes of an image, and those wholly apart from the box of their id in the image just before."""
        for box in boxes:
            before_ns, before = self._latest.get(box.id, (0, box))
            if 0 < stamp_ns - before_ns <= _NEAR_NS and refused(box) is None and refused(before) is None:
                self._steps += 1
                self._jumps += not box.overlap(before) > 0.0
            self._latest[box.id] = stamp_ns, box

    def unused(self) -> str:
        """As `KnownBoxes`."""
        left = [name for stamp, name in self._classes if (stamp, name) not in self._used]
        return f"{self._path}: no box has {len(left)} of the ids, such as {left[0]!r}" if left else ""

    def ignored(self) -> Mapping[str, int]:
        """As `KnownBoxes`."""
        return {}

    def doubts(self) -> Sequence[Doubt]:
        """As `KnownBoxes`."""
        if self._jumps <= self._steps / 2:
            return ()
        text = (
            f"{self._path}: {self._jumps} of {self._steps} boxes lie wholly apart from the box of their id in the image"
        )
        text += f" just before: where ids are given anew in each image, give each a class with a column {_STAMP!r}"
        return (Doubt(text, prevails=False),)


@dataclass(frozen=True)
class _Known:
    """A box of the topic that knows better, and what it shows."""

    box: Box
    text: str


class KnownTopic:
    """The classes of a topic's boxes, see `matched`: of the same id and place, else of the same place."""

    def __init__(self, bag: Bag, topic: str, is_exclusive: bool, frame_ids: Mapping[int, Sequence[str]]) -> None:
        """Reads the topic; what is of another frame_id than the image of its stamp is another camera's.

        Args:
            bag: The open bag.
            topic: Of vision_msgs/Detection2DArray.
            is_exclusive: Whether only the best result of a box is meant, and not all of them.
            frame_ids: Of the images of each stamp.

        Raises:
            DataError: If there is no such topic, a message cannot be read, or a score is not finite.
        """
        self._topic = topic
        self._ignored: Counter[str] = Counter()
        self._refusals = Refusals()
        self._found = self._same_id = self._contradicted = self._lost = 0
        messages = detections_of_images(bag, topic, frame_ids, self._ignored, "known boxes")
        where = f"{bag.path}: {topic}"
        self._known = {
            stamp_ns: list(self._usable(found, is_exclusive, f"{where}: a box stamped {stamp_ns} ns"))
            for stamp_ns, found in messages.items()
        }

    def _usable(self, detections: Sequence[Any], is_exclusive: bool, where: str) -> Iterator[_Known]:
        """Yields the known boxes of an image that have a place, and counts the others."""
        for one in detections:
            box = Box.from_message(one)
            if (refusal := refused(box)) is None:
                yield _Known(box, _text(one.results, is_exclusive, where))
            else:
                self._refusals.add(refusal)

    def texts(self, stamp_ns: int, boxes: Sequence[Box]) -> list[str]:
        """As `KnownBoxes`."""
        known = self._known.get(stamp_ns, [])
        found = matched(boxes, [one.box for one in known])
        places = found.places
        self._found += len(set(places.values()))
        self._same_id += found.same_id
        self._contradicted += found.contradicted
        self._lost += found.lost
        return [known[places[place]].text if place in places else "" for place in range(len(boxes))]

    def unused(self) -> str:
        """As `KnownBoxes`."""
        return ""

    def ignored(self) -> Mapping[str, int]:
        """As `KnownBoxes`."""
        unfound = sum(map(len, self._known.values())) - self._found
        return self._ignored + Counter({"known boxes that the detector has not found": unfound})

    def doubts(self) -> Sequence[Doubt]:
        """As `KnownBoxes`."""
        usable = sum(map(len, self._known.values()))
        unusable = self._refusals.total
        found = []
        if unusable:
            text = f"{self._topic}: {unusable} of {usable + unusable} known boxes cannot be used"
            text += f" {self._refusals.in_words()}"
            found.append(Doubt(text, unusable > usable))
        if self._contradicted:
            share = f"{self._contradicted} of {self._same_id} boxes"
            text = f"{self._topic}: {share} lie elsewhere than the known box of their id"
            text += " and were matched by place alone: both sides must number the same things alike, or leave ids empty"
            found.append(Doubt(text, self._lost > self._same_id / 2))
        return found


@dataclass(frozen=True)
class Matches:
    """Which known box each box of an image is.

    Attributes:
        places: The place of the known box by that of the box; those that are none are left out.
        same_id: How many boxes there are whose id one known box has, and whose place can be compared with its.
        contradicted: How many of these do not overlap with it, or overlap more with another.
        lost: How many of them are matched with none, for their places fit none either.
    """

    places: Mapping[int, int]
    same_id: int
    contradicted: int
    lost: int


def matched(boxes: Sequence[Box], known: Sequence[Box]) -> Matches:
    """Returns which known box each box of an image is.

    It is the one of the same id where just one of either has it, they overlap, and neither overlaps more with another,
    by `LEAST_OVERLAP` at least: detectors may number the boxes of each image anew. Else it is the one with the largest
    overlap of `LEAST_OVERLAP` or more. Each is taken once. A box that has no place, see `cropping.refused`, contradicts
    no id.
    """
    ours, theirs = (Counter(box.id for box in some if box.id) for some in (boxes, known))
    once = {name for name, count in ours.items() if count == theirs[name] == 1}
    place_of = {box.id: place for place, box in enumerate(known) if box.id in once}
    pairs = {place: place_of[box.id] for place, box in enumerate(boxes) if box.id in once}
    placed = {place for place in pairs if refused(boxes[place]) is None}
    contradicted = {place for place in placed if _is_contradicted(place, pairs[place], boxes, known)}
    found = {place: number for place, number in pairs.items() if place not in contradicted}
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
    return Matches(found, len(placed), len(contradicted), len(contradicted - found.keys()))


def _is_contradicted(place: int, number: int, boxes: Sequence[Box], known: Sequence[Box]) -> bool:
    """Whether the places of a box and of the known box of its id say that they are not the same thing."""
    own = boxes[place].overlap(known[number])
    others = [boxes[place].overlap(one) for one in known] + [one.overlap(known[number]) for one in boxes]
    best = max(others)
    return own == 0.0 or (best > own and best >= LEAST_OVERLAP)


def _text(results: Sequence[Any], is_exclusive: bool, where: str) -> str:
    """Returns what a box shows as label files hold it; empty without a result."""
    names = best_first((one.hypothesis for one in results), where)
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

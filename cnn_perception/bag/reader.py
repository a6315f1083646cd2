"""Reads stamped images, labels and numbers from a rosbag2, without ROS and in constant memory.

Every message that is in the files is read, whatever metadata.yaml, indexes and statistics say: these are promises, with
which the messages found are compared. What is missing, and where the time axis may not be true, is said in
`Bag.damage`, which an executable turns into an exit code that is not 0. Nothing is ever left out silently.
"""

from __future__ import annotations

import math
import stat
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_perception.bag.cdr import CdrOddities, CdrReader
from cnn_perception.bag.decompression import TemporaryFolder, ZstdError, unpacked_message
from cnn_perception.bag.message_types import (
    CLASSIFICATION_TYPE,
    IMAGE_TYPES,
    JOINT_STATE_TYPE,
    LABEL_TYPES,
    NUMBER_TYPES,
    foreign_way_out,
    stored_topic,
    typestore,
)
from cnn_perception.bag.metadata import Metadata, contradictions, read_metadata
from cnn_perception.bag.storage import (
    MOST_LINES,
    AxisCheck,
    CameraCheck,
    Channel,
    StampCheck,
    StorageFile,
    axis_notes,
    clock_notes,
    reception_order,
)
from cnn_perception.bag.storage_files import JOINED, open_files, packing, reindexing, storage_paths, without_storage
from cnn_perception.errors import BagError, FrameError, one_line, printable
from cnn_perception.image.messages import EncodedFile, EncodedImage, encoded_from_message, nanoseconds, way_out
from cnn_perception.label_text import SEPARATOR
from cnn_perception.stream.stamps import has_too_many, invalid_text

_NOT_A_PICTURE = ("32FC", "64FC")
"""Beginnings of encodings that no camera sends: depth, and the activations that a perception node publishes."""


@dataclass(frozen=True)
class Topic:
    """A topic of a bag: its name, its message type such as `sensor_msgs/msg/Image`, and its number of messages.

    Names that differ in slashes before them are one, whose first character is the only slash.

    A name that was recorded with two types is two topics.
    """

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class StampedImage:
    """One image message of a bag.

    Attributes:
        stamp_ns: The header's stamp, nanoseconds; 0 where the message cannot be read.
        log_time_ns: When the recorder received it, nanoseconds.
        frame: The image, or why its message cannot be read.
        frame_id: Of the header; empty where the message cannot be read.
        type: Of the message.
        payload: The serialised message as the bag has it, compressed by itself or not.
        has_time: Whether the stamp is a time: it is set, and no `stamp_invalid` as the node counts them.
    """

    stamp_ns: int
    log_time_ns: int
    frame: EncodedImage | EncodedFile | FrameError
    frame_id: str = ""
    type: str = ""
    payload: bytes = b""
    has_time: bool = False


@dataclass(frozen=True, eq=False)
class Recorded:
    """One message of a bag as it was recorded.

    Attributes:
        log_time_ns: When the recorder received it, nanoseconds.
        type: Such as `sensor_msgs/msg/Image`.
        payload: The serialised message, unpacked.
        stamp_ns: The stamp of its header, nanoseconds; None where the message cannot be read.
        has_time: As in `StampedImage`.
    """

    log_time_ns: int
    type: str
    payload: bytes
    stamp_ns: int | None
    has_time: bool = False


@dataclass(frozen=True)
class LabelTrack:
    """The classes that a label topic gives: from each time on, the images are of the class.

    Attributes:
        changes: (time in nanoseconds, class without blanks around it); an empty class means unlabelled.
        is_stamped: Whether the times are those of headers, to be compared with the images' stamps; else they are
            times of reception.
        lag_ns: Median time from a stamp to its reception; 0 without stamps.
    """

    changes: tuple[tuple[int, str], ...]
    is_stamped: bool
    lag_ns: int = 0


@dataclass(frozen=True)
class NumberTrack:
    """The numbers that a topic gives, such as the true values of a regression.

    Attributes:
        rows: (time in nanoseconds, number by name); the name is empty where the type has none.
        is_stamped: As in `LabelTrack`.
        lag_ns: As in `LabelTrack`.
    """

    rows: tuple[tuple[int, dict[str, float]], ...]
    is_stamped: bool
    lag_ns: int = 0


class Bag:
    """An open rosbag2: a folder with metadata.yaml, or a single .mcap or .db3 file.

    Attributes:
        path: Where it is.
        topics: What it holds.
        start_ns: When the first message of any topic was received, nanoseconds.
        damage: What could not be read, one line each; grows while reading.
        warnings: What is odd about its files, and about the messages of topics that were read to the last one, one line
            each.
    """

    def __init__(self, path: Path) -> None:
        """Opens the bag.

        Raises:
            BagError: If there is no bag, or no message in it.
        """
        self.path = path
        self.damage: list[str] = []
        self.warnings: list[str] = []
        self._stack = ExitStack()
        self._reader = CdrReader(typestore())
        try:
            self._files = self._open()
            self.topics = self._topics()
            if not any(topic.count for topic in self.topics):
                raise BagError(f"{path}: the bag has no messages{self._damage_note()}")
            self.start_ns = min(file.index.first_ns for file in self._files)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files; temporary copies of damaged ones are deleted."""
        self._stack.close()

    def image_topic(self, name: str | None = None) -> Topic:
        """Returns the topic to read images from.

        Args:
            name: The topic, with or without the leading slash; None takes the only one that holds pictures.

        Returns:
            The topic with the messages of all image types that its name was recorded with.

        Raises:
            BagError: If there is no such topic, it holds no images, or the choice is not clear.
        """
        images = [topic for topic in self.topics if topic.type in IMAGE_TYPES]
        encodings = {topic: self._encoding(topic) if name is None and topic.count else "" for topic in images}
        is_picture = {topic: not encodings[topic].startswith(_NOT_A_PICTURE) for topic in images}
        notes = {topic: "" if is_picture[topic] else f", {encodings[topic]}" for topic in images}
        found = ", ".join(f"{topic.name} ({topic.count}{notes[topic]})" for topic in images) or "none"
        if name is None and not images and self.topics:
            others = [f"{topic.name} ({topic.type or 'of an unknown type'})" for topic in self.topics[:MOST_LINES]]
            found += f", only {', '.join(others)}{', ...' if len(self.topics) > MOST_LINES else ''}"
        ways_out = {topic: way_out(topic.type) or foreign_way_out(topic.type) for topic in self.topics}
        hints = {hint: topic.name for topic, hint in ways_out.items() if hint}
        found += "".join(f"; {topic}: {hint}" for hint, topic in hints.items())
        if name is not None:
            topic = self._topic(name, IMAGE_TYPES, f"image topics in it: {found}")
            return Topic(topic.name, topic.type, sum(other.count for other in images if other.name == topic.name))
        filled = sorted({topic.name for topic in images if topic.count and is_picture[topic]})
        if len(filled) != 1:
            raise BagError(
                f"{self.path}: cannot choose the image topic; name one with --topic; image topics in it: {found}"
            )
        return self.image_topic(filled[0])

    def images(self, topic: Topic) -> Iterator[StampedImage]:
        """Yields every image of a topic once, of either type, in the order of log times; see `reception_order`."""
        self._note_other_types(topic, IMAGE_TYPES)
        axis = AxisCheck()
        cameras = CameraCheck()
        stamps = StampCheck()
        oddities = CdrOddities()
        for log_time_ns, kind, payload in self._payloads(topic, IMAGE_TYPES):
            try:
                message = self._message(payload, kind, oddities)
                frame = encoded_from_message(message)
            except FrameError as error:
                yield StampedImage(0, log_time_ns, error, type=kind, payload=payload)
            else:
                header = message.header
                stamp_ns = nanoseconds(header.stamp)
                has_time = stamps.add(header.stamp, log_time_ns)
                axis.add(log_time_ns, stamp_ns if has_time else 0)
                cameras.add(str(header.frame_id))
                yield StampedImage(stamp_ns, log_time_ns, frame, str(header.frame_id), kind, payload, has_time)
        self._warn(topic.name, axis.warning(), stamps.warning(), cameras.warning(), oddities.warning())

    def recorded(self, name: str, types: Sequence[str]) -> Iterator[Recorded]:
        """Yields every message of some types with a header on a topic, as it is; in the order of `images`.

        Args:
            name: The topic, as `topics` has it.
            types: Of `message_types.READ_TYPES`.
        """
        axis = AxisCheck()
        stamps = StampCheck()
        oddities = CdrOddities()
        for log_time_ns, kind, payload in self._payloads(Topic(stored_topic(name), "", 0), types):
            stamp_ns = None
            has_time = False
            try:
                payload = bytes(unpacked_message(payload))
                stamp = self._message(payload, kind, oddities).header.stamp
                stamp_ns = nanoseconds(stamp)
                has_time = stamps.add(stamp, log_time_ns)
                axis.add(log_time_ns, stamp_ns if has_time else 0)
            except (FrameError, ZstdError):
                pass  # who gets it sees that it cannot be read
            yield Recorded(log_time_ns, kind, payload, stamp_ns, has_time)
        axis_warning = axis.warning() if set(types) <= set(IMAGE_TYPES) else ""
        self._warn(name, axis_warning, stamps.warning(), oddities.warning())

    def stamped_messages(self, name: str, types: tuple[str, ...], kind: str) -> Iterator[tuple[int, Any]]:
        """Yields (reception time in nanoseconds, message) of a topic.

        Args:
            name: The topic, with or without the leading slash.
            types: What it may hold.
            kind: What topics of these types are called in an error, such as `label topics`.

        Raises:
            BagError: If there is no such topic, it holds something else, or a message cannot be read.
        """
        yield from self._messages(self._track_topic(name, types, kind))

    def of_camera(
        self, name: str, messages: Sequence[tuple[int, Any]], images: Topic | None
    ) -> Sequence[tuple[int, Any]]:
        """Returns the messages that are of the camera of some images, where their frame_ids name several cameras.

        One frame_id alone tells nothing, for it may be that of the robot; nor does an empty one.

        Args:
            name: Of their topic, for errors.
            messages: (reception time in nanoseconds, message with a header).
            images: The image topic, as `image_topic` returns it; None where there are none.

        Raises:
            BagError: If they are of several cameras, and none of this one.
        """
        found = [str(message.header.frame_id).lstrip("/") for _, message in messages]
        cameras = {*found} - {""}
        if len(cameras) < 2:
            return messages
        ours = self._frame_id(images)
        if ours not in cameras:
            names = ", ".join(sorted(cameras)[:MOST_LINES])
            raise BagError(
                f"{self.path}: {name}: its messages are of several frame_ids ({names}), and none is of the images' "
                f"({ours or 'unknown'}); publish each camera's on a topic of its own, or with its frame_id"
            )
        return [one for one, frame_id in zip(messages, found, strict=True) if frame_id in ("", ours)]

    def label_track(self, name: str, several: bool = False, images: Topic | None = None) -> LabelTrack:
        """Returns the labels of a topic: std_msgs/String, or the best result of vision_msgs/Classification.

        Args:
            name: The topic, with or without the leading slash.
            several: Whether all results of a Classification are meant, and not only the best; `label_text.SEPARATOR`
                then stands between them.
            images: What is labelled, see `of_camera`.

        Raises:
            BagError: If there is no such topic, it holds no labels, or a label cannot be read, has no stamp or one
                that is no time, a score that is not finite, or is of nobody knows which camera.
        """
        topic = self._track_topic(name, LABEL_TYPES, "label topics")
        is_stamped = topic.type == CLASSIFICATION_TYPE
        changes = []
        stamps = []
        messages = list(self._messages(topic))
        for log_time_ns, message in self.of_camera(topic.name, messages, images) if is_stamped else messages:
            if is_stamped:
                stamp_ns = nanoseconds(message.header.stamp)
                stamps.append((message.header.stamp, log_time_ns))
                names = best_first(message.results, f"{self.path}: {topic.name}: the label stamped {stamp_ns} ns")
                changes.append((stamp_ns, SEPARATOR.join(names if several else names[:1])))
            else:
                changes.append((log_time_ns, str(message.data).strip()))
        self._warn_of_contradictions(topic, changes)
        return LabelTrack(tuple(changes), is_stamped, self._lag_ns(topic, stamps, "std_msgs/String"))

    def number_track(self, name: str, images: Topic | None = None) -> NumberTrack:
        """Returns the numbers of a topic: std_msgs/Float32 or Float64, or the positions of sensor_msgs/JointState.

        Args:
            name: The topic, with or without the leading slash.
            images: What they are true of, see `of_camera`.

        Raises:
            BagError: If there is no such topic, it holds no numbers, or a message cannot be read, has no stamp or one
                that is no time, or is of nobody knows which camera.
        """
        topic = self._track_topic(name, NUMBER_TYPES, "topics of numbers")
        is_stamped = topic.type == JOINT_STATE_TYPE
        rows: list[tuple[int, dict[str, float]]] = []
        stamps = []
        messages = list(self._messages(topic))
        for log_time_ns, message in self.of_camera(topic.name, messages, images) if is_stamped else messages:
            if is_stamped:
                stamps.append((message.header.stamp, log_time_ns))
                pairs = zip(message.name, message.position, strict=False)
                numbers = {str(joint): float(position) for joint, position in pairs}
                rows.append((nanoseconds(message.header.stamp), numbers))
            else:
                rows.append((log_time_ns, {"": float(message.data)}))
        return NumberTrack(tuple(rows), is_stamped, self._lag_ns(topic, stamps, "std_msgs/Float64"))

    def _warn_of_contradictions(self, topic: Topic, said: Sequence[tuple[int, str]]) -> None:
        """Warns of labels that say different things of one time, as of two publishers, or of several objects."""
        found: dict[int, set[str]] = {}
        for time_ns, text in said:
            found.setdefault(time_ns, set()).add(text)
        if count := sum(len(texts) > 1 for texts in found.values()):
            self._warn(topic.name, f"different labels have the same time {count} times: the last of each counts")

    def _lag_ns(self, topic: Topic, stamps: Sequence[tuple[Any, int]], unstamped: str) -> int:
        """Returns the median time from a stamp to its reception; 0 without stamps.

        Args:
            topic: On which they were published.
            stamps: (stamp as builtin_interfaces/Time, reception in nanoseconds) of its messages.
            unstamped: A type that has no stamps.

        Raises:
            BagError: If a stamp is not set or no time: of when such a message is, nobody knows.
        """
        found = [(nanoseconds(stamp), received_ns) for stamp, received_ns in stamps]
        if missing := sum(stamp_ns <= 0 for stamp_ns, _ in found):
            raise BagError(
                f"{self.path}: {topic.name}: {missing} of {len(stamps)} messages have no stamp; stamp them as the "
                f"images are, or publish {unstamped}, which counts from its reception"
            )
        if invalid := [int(stamp.nanosec) for stamp, _ in stamps if has_too_many(int(stamp.nanosec))]:
            raise BagError(
                f"{self.path}: {topic.name}: stamp_invalid in {len(invalid)} of {len(stamps)} messages: "
                f"{invalid_text(invalid[0])}, or publish {unstamped}, which counts from its reception"
            )
        return statistics.median_low(received_ns - stamp_ns for stamp_ns, received_ns in found) if found else 0

    def _track_topic(self, name: str, types: tuple[str, ...], kind: str) -> Topic:
        found = ", ".join(topic.name for topic in self.topics if topic.type in types) or "none"
        return self._topic(name, types, f"{kind} in it: {found}")

    def _messages(self, topic: Topic) -> Iterator[tuple[int, Any]]:
        self._note_other_types(topic, (topic.type,))
        oddities = CdrOddities()
        for log_time_ns, kind, payload in self._payloads(topic, (topic.type,)):
            try:
                yield log_time_ns, self._message(payload, kind, oddities)
            except FrameError as error:
                raise BagError(f"{self.path}: {topic.name}: {error}") from None
        self._warn(topic.name, oddities.warning())

    def _open(self) -> list[StorageFile]:
        try:
            files, metadata = self._open_files()
        except OSError as error:
            raise BagError(f"{self.path}: cannot be read ({error.strerror})") from None
        filled = [file for file in files if file.index.count]
        self._note(*clock_notes(filled), *(f"{self.path}: {line}" for line in axis_notes(filled)))
        if metadata is not None and filled:
            is_whole = {file.path.name for file in filled} >= set(metadata.files)
            found = contradictions(metadata, files, packing(filled) if is_whole else "")
            self._note(*(f"{self.path}: {line}" for line in found))
        return files

    def _open_files(self) -> tuple[list[StorageFile], Metadata | None]:
        if not _is_there(self.path):
            raise BagError(f"{self.path}: there is no such bag; name a rosbag2 folder, or an .mcap or .db3 file")
        metadata = self._metadata() if self.path.is_dir() else None
        paths, notes = storage_paths(self.path, metadata.files if metadata else ())
        if not paths:
            advice = without_storage(self.path)
            raise BagError(f"{self.path}: is no rosbag2: there is no .mcap or .db3 file in it{advice}")
        self._note(*notes)
        files, notes = open_files(paths, TemporaryFolder(self._stack), self._stack)
        self._note(*notes)
        if not files:
            raise BagError("; ".join(self.damage))
        for path, count in Counter(file.path for file in files).items():
            if count > 1:
                self.warnings.append(printable(f"{path}: {JOINED.format(count=count)}"))
        return files, metadata

    def _metadata(self) -> Metadata | None:
        repair = reindexing(self.path)
        try:
            metadata = read_metadata(self.path)
        except BagError as error:
            self._note(f"{self.path}: {error}; {repair}")
            return None
        if metadata is None:
            self._note(f"{self.path}: there is no metadata.yaml; {repair}")
        return metadata

    def _channels(self) -> Iterator[tuple[StorageFile, Channel]]:
        for file in self._files:
            for channel in file.index.channels.values():
                yield file, channel

    def _topics(self) -> tuple[Topic, ...]:
        counts: Counter[tuple[str, str]] = Counter()
        for _, channel in self._channels():
            counts[channel.topic, channel.type] += channel.count
        return tuple(Topic(name, kind, count) for (name, kind), count in sorted(counts.items()))

    def _topic(self, name: str, types: tuple[str, ...], choices: str) -> Topic:
        name = stored_topic(name)
        matches = [topic for topic in self.topics if topic.name == name]
        if not matches:
            raise BagError(f"{self.path}: there is no topic {name}{self._damage_note()}; {choices}")
        usable = [topic for topic in matches if topic.type in types]
        if not usable:
            raise BagError(f"{self.path}: {name} is {matches[0].type}, not {' or '.join(types)}; {choices}")
        most = max(usable, key=lambda topic: topic.count)
        if not most.count:
            raise BagError(f"{self.path}: {name} has no messages{self._damage_note()}; {choices}")
        return most

    def _encoding(self, topic: Topic) -> str:
        """Returns the encoding of the first image of a topic that can be read; empty for a CompressedImage."""
        return str(getattr(self._first_message(topic, (topic.type,)), "encoding", ""))

    def _frame_id(self, images: Topic | None) -> str:
        """Returns the frame_id of the first image of a topic that can be read; empty for none."""
        first = None if images is None else self._first_message(images, IMAGE_TYPES)
        return "" if first is None else str(first.header.frame_id).lstrip("/")

    def _first_message(self, topic: Topic, types: Sequence[str]) -> Any:  # noqa: ANN401 rosbags makes its classes
        """Returns the first message of some types on a topic that can be read; None without one."""
        for _, kind, payload in self._payloads(topic, types):
            try:
                return self._message(payload, kind, CdrOddities())
            except FrameError:
                continue
        return None

    def _note_other_types(self, topic: Topic, types: Sequence[str]) -> None:
        for other in self.topics:
            if other.name == topic.name and other.type not in types and other.count:
                kind = other.type or "an unknown type"
                self._note(f"{self.path}: {topic.name}: {other.count} messages of {kind} on it were not read")

    def _payloads(self, topic: Topic, types: Sequence[str]) -> Iterator[tuple[int, str, bytes]]:
        """Yields (reception time, type, serialised message); what cannot be read is noted."""
        channels = [
            (file, channel)
            for file, channel in self._channels()
            if channel.topic == topic.name and channel.type in types and channel.count
        ]
        times_ns = [channel.times_ns for _, channel in channels]
        places = [channel.places for _, channel in channels]
        lost: Counter[tuple[Path, str]] = Counter()
        for number, row in reception_order(channels):
            file, channel = channels[number]
            try:
                payload = file.message(places[number][row])
            except BagError as error:
                lost[file.path, str(error)] += 1
                continue
            yield int(times_ns[number][row]), channel.type, payload
        for (path, reason), count in lost.items():
            self._note(f"{path}: {topic.name}: {count} messages are lost ({reason})")

    def _message(self, payload: bytes, kind: str, oddities: CdrOddities) -> Any:  # noqa: ANN401 rosbags makes its classes
        """Returns a message as a subscriber would get it; adds to the oddities what is not as the standard demands.

        Raises:
            FrameError: `message` or `size`, if it cannot be read.
        """
        try:
            message, found = self._reader.message(unpacked_message(payload), kind)
        except (BagError, ZstdError) as error:
            raise FrameError(
                "message", f"a message cannot be deserialised ({one_line(error)}); it was dropped"
            ) from None
        oddities.add(found)
        return message

    def _note(self, *lines: str) -> None:
        """Adds to the damage what was not noted in an earlier reading."""
        for line in map(printable, lines):
            if line not in self.damage:
                self.damage.append(line)

    def _warn(self, topic: str, *texts: str) -> None:
        """Adds to the warnings what was not said in an earlier reading; empty texts say nothing."""
        for text in filter(None, texts):
            line = printable(f"{self.path}: {topic}: {text}")
            if line not in self.warnings:
                self.warnings.append(line)

    def _damage_note(self) -> str:
        """Returns the damage in brackets, for the end of an error; empty where there is none."""
        return f" ({'; '.join(self.damage)})" if self.damage else ""


def best_first(hypotheses: Iterable[Any], where: str) -> list[str]:
    """Returns the classes of vision_msgs/ObjectHypothesis without blanks around them, that of the largest score first.

    Args:
        hypotheses: What a message says of one thing.
        where: Names it in errors.

    Raises:
        BagError: If a score is not finite: which class is the best, nobody knows.
    """
    found = [(float(one.score), str(one.class_id).strip()) for one in hypotheses]
    for score, name in found:
        if not math.isfinite(score):
            raise BagError(f"{where} gives {name!r} the score {score}; mend what published it")
    return [name for _, name in sorted(found, key=lambda one: -one[0])]


def _is_there(path: Path) -> bool:
    """Returns whether there is a file or a folder.

    Raises:
        OSError: If that cannot be known, which `Path.is_file` of Python 3.14 takes for no.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # no path has a NUL
        return False
    return stat.S_ISDIR(mode) or stat.S_ISREG(mode)

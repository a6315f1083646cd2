"""What the files of a bag have in common, whatever their storage format: an index of their messages."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnn_perception.bag.message_types import IMAGE_TYPES, READ_TYPES, stored_topic
from cnn_perception.errors import BagError
from cnn_perception.image.messages import nanoseconds
from cnn_perception.stream.stamps import InvalidStamps

MOST_MESSAGES = 2**24
"""Indexed of a file: 77 hours of a camera at 60 Hz, in half a gigabyte of memory."""
LONGEST_PAUSE_NS = 30 * 86400 * 10**9
"""Between two messages of a file or of two files; beyond it the clock was set. A recorder may pause for a weekend."""
LARGEST_STEP_BACK_NS = 5 * 10**8
"""Between two messages of a channel; beyond it the clock was set, or what one file holds overlaps what another does.

A recorder's threads explain less. Steps of tenths of a second to some seconds are those of a machine that has found its
time server: ntpd steps beyond 0.128 s, chrony beyond what `makestep` says, such as 1 s.
"""
MOST_LINES = 5
"""Of one kind about one file."""
_FEWEST_OF_ONE_TIME = 3
"""Messages that one log time says something of: two may come in one tick of a simulated clock."""
_FEWEST_IMAGES = 10
_SHORTEST_STEP_NS = 10**6
"""Between images of one topic on average, from `_FEWEST_IMAGES` on; fewer may all have waited for the recorder."""
_SAME_SPAN = 1.5
_MOST_WAITED_NS = 10**9
_MOST_DELAYED_NS = 2 * 10**9
"""By which factor and difference the span of log times may differ from that of the stamps; see `AxisCheck.warning`."""
_LARGEST_TIME_NS = 2**63 - 1
_LONGEST_NAME = 80
"""Characters of a frame_id that are compared and shown."""


@dataclass(eq=False)
class Channel:
    """The messages of one type on one topic in one file, in the file's order.

    Attributes:
        topic: As `message_types.stored_topic` returns it.
        type: As `message_types.stored_type` returns it.
        place_size: How many numbers say where a message lies.
        count: How many messages there are.
        last_ns: When the last of them was received, nanoseconds.
    """

    topic: str
    type: str
    place_size: int
    count: int = 0
    last_ns: int = 0
    _times_ns: array[int] = field(default_factory=lambda: array("q"))
    _places: array[int] = field(default_factory=lambda: array("q"))

    @property
    def times_ns(self) -> npt.NDArray[np.int64]:
        """Returns when each message was received, nanoseconds; of READ_TYPES only, else nothing."""
        return _numbers(self._times_ns)

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Returns where each message lies, (messages, place_size), for `StorageFile.message`."""
        return _numbers(self._places).reshape(-1, self.place_size)

    def append(self, time_ns: int, place: tuple[int, ...]) -> None:
        """Adds a message to the index."""
        self._times_ns.append(time_ns)
        self._places.extend(place)


class MessageIndex:
    """The messages of a file by channel; it grows while the file is scanned.

    Attributes:
        channels: What the file holds, by the file's own number.
        count: Messages of all channels.
        orphans: Messages whose channel the file does not describe; they are not in `count`.
        first_ns: When the first message of all was received, nanoseconds.
        last_ns: When the last one was.
        clock_note: That the clock was set while recording; empty if not.
        checks_clock: Whether messages are added in the file's order, so that a step of the clock can be seen.
    """

    def __init__(self, place_size: int) -> None:
        self.channels: dict[int, Channel] = {}
        self.count = 0
        self.orphans = 0
        self.first_ns = _LARGEST_TIME_NS
        self.last_ns = -_LARGEST_TIME_NS
        self.clock_note = ""
        self.checks_clock = True
        self._place_size = place_size
        self._indexed = 0
        self._previous_ns: int | None = None

    def describe(self, number: int, topic: str, kind: str) -> bool:
        """Adds a channel; returns whether it agrees with what is known of this number, which stays.

        Args:
            number: Of the channel, the file's own.
            topic: Its name, as a recorder or converter wrote it.
            kind: Its type; empty where the file does not say, until it does.
        """
        topic = stored_topic(topic)
        known = self.channels.get(number)
        if known is None or not (known.type or known.count):
            known = self.channels[number] = Channel(topic, kind, self._place_size)
        return (known.topic, known.type) == (topic, kind)

    def add(self, number: int, time_ns: int, *place: int) -> None:
        """Adds a message.

        Raises:
            BagError: If there are more than `MOST_MESSAGES`.
        """
        channel = self.channels.get(number)
        if channel is None:
            self.orphans += 1
            return
        time_ns = min(time_ns, _LARGEST_TIME_NS)
        self._check_clock(channel, time_ns)
        if time_ns < self.first_ns:
            self.first_ns = time_ns
        if time_ns > self.last_ns:
            self.last_ns = time_ns
        self.count += 1
        channel.count += 1
        channel.last_ns = time_ns
        self._previous_ns = time_ns
        if channel.type in READ_TYPES:
            self._indexed += 1
            if self._indexed > MOST_MESSAGES:
                raise BagError(f"more than {MOST_MESSAGES} messages; split the recording")
            channel.append(time_ns, place)

    def _check_clock(self, channel: Channel, time_ns: int) -> None:
        if self._previous_ns is None or self.clock_note or not self.checks_clock:
            return
        if channel.count and channel.last_ns - time_ns > LARGEST_STEP_BACK_NS:
            self.clock_note = clock_note(channel.last_ns, time_ns)
        elif time_ns - self._previous_ns > LONGEST_PAUSE_NS:
            self.clock_note = clock_note(self._previous_ns, time_ns)


class StorageFile(Protocol):
    """An open file of a bag.

    Attributes:
        path: Where the user has it.
        storage: What rosbag2 calls its format: `mcap` or `sqlite3`.
        index: What is in it.
        damage: What could not be read, and what the file claims of itself that is not so, a line each.
    """

    path: Path
    storage: str
    index: MessageIndex
    damage: list[str]

    def message(self, place: npt.NDArray[np.int64]) -> bytes:
        """Returns a serialised message.

        Args:
            place: A row of `Channel.places`.

        Raises:
            BagError: If it cannot be read.
        """
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


def _numbers(found: array[int]) -> npt.NDArray[np.int64]:
    """Returns numbers without a copy; `found` cannot grow while they are in use."""
    return np.frombuffer(found, np.int64) if found else np.empty(0, np.int64)


def clock_note(before_ns: int, after_ns: int) -> str:
    """Returns what is said of a jump of the clock, from one log time to another, nanoseconds."""
    order = ", and messages are read in the order of log times, not of recording" if after_ns < before_ns else ""
    return (
        f"the clock was set while recording: log times jump from {_seconds(before_ns)} to {_seconds(after_ns)} "
        f"({_duration(after_ns - before_ns)}); seconds since the start are those of the clock{order}"
    )


def clock_notes(files: list[StorageFile]) -> list[str]:
    """Returns what is said of a clock that was set within a file or between two of them, which are in order of time."""
    notes = [f"{file.path}: {file.index.clock_note}" for file in files if file.index.clock_note]
    last_ns = files[0].index.last_ns if files else 0
    ends_ns: dict[tuple[str, str], int] = {}  # of each topic and type in the files so far
    for file in files:
        if file.index.first_ns - last_ns > LONGEST_PAUSE_NS:
            notes.append(f"{file.path}: {clock_note(last_ns, file.index.first_ns)}")
        last_ns = max(last_ns, file.index.last_ns)
        notes += _overlap_notes(file, ends_ns)
    return notes


def _overlap_notes(file: StorageFile, ends_ns: dict[tuple[str, str], int]) -> list[str]:
    """Returns what is said of a topic that begins in a file before it ended in the ones before; brings `ends_ns` up."""
    notes: list[str] = []
    latest_ns = dict(ends_ns)
    for channel in file.index.channels.values():
        times_ns = channel.times_ns
        if not len(times_ns):
            continue
        key = channel.topic, channel.type
        first_ns = int(times_ns.min())
        if latest_ns.get(key, first_ns) - first_ns > LARGEST_STEP_BACK_NS and not notes:
            overlap_s = (latest_ns[key] - first_ns) / 1e9
            notes.append(
                f"{file.path}: {channel.topic} begins in it {overlap_s:.1f} s before it ended in the file before: the "
                "clock was set between them, or the files are of two recordings; messages are read in the order of log "
                "times, not of recording"
            )
        ends_ns[key] = max(ends_ns.get(key, first_ns), int(times_ns.max()))
    return notes


def axis_notes(files: Sequence[StorageFile]) -> list[str]:
    """Returns what is said of topics of images whose log times are no time axis, a line each.

    Log times that a converter did not set are all alike, and those that it set in microseconds or milliseconds come
    faster than images can. On such an axis all messages belong to the first label, or to none.
    """
    found: dict[tuple[str, str], list[npt.NDArray[np.int64]]] = {}
    for file in files:
        for channel in file.index.channels.values():
            # of others, such as latched texts, some at once are nothing odd
            if channel.type in IMAGE_TYPES and len(channel.times_ns):
                found.setdefault((channel.topic, channel.type), []).append(channel.times_ns)
    lines = []
    for (topic, _), parts in sorted(found.items()):
        count = sum(map(len, parts))
        first_ns = min(int(part.min()) for part in parts)
        span_ns = max(int(part.max()) for part in parts) - first_ns
        if count >= _FEWEST_OF_ONE_TIME and span_ns == 0:
            lines.append(
                f"all {count} images of {topic} have the log time {_seconds(first_ns)}: the bag has no time axis"
            )
        elif count >= _FEWEST_IMAGES and span_ns < (count - 1) * _SHORTEST_STEP_NS:
            lines.append(
                f"the {count} images of {topic} have log times within {span_ns / 1e9:.6f} s, faster than any camera: "
                "they are in another unit than nanoseconds, or were not kept; the bag has no time axis"
            )
    return shortened(lines)


class AxisCheck:
    """Compares how long the images of a topic take by their stamps and by their log times.

    Only where the stamps are a time axis: all set, and rising but for the steps that threads explain.
    """

    def __init__(self) -> None:
        self._log_ns = (_LARGEST_TIME_NS, -_LARGEST_TIME_NS)
        self._stamp_ns = (0, 0)  # of the first image and of the latest one
        self._count = 0
        self._is_rising = True

    def add(self, log_time_ns: int, stamp_ns: int) -> None:
        """Takes in the next image in the order of log times; both times in nanoseconds."""
        first_ns, last_ns = self._stamp_ns if self._count else (stamp_ns, stamp_ns)
        self._is_rising &= stamp_ns > 0 and -LARGEST_STEP_BACK_NS <= stamp_ns - last_ns <= LONGEST_PAUSE_NS
        self._stamp_ns = first_ns, max(last_ns, stamp_ns)
        self._log_ns = min(self._log_ns[0], log_time_ns), max(self._log_ns[1], log_time_ns)
        self._count += 1

    def warning(self) -> str:
        """Returns what is said of images that take another time by their stamps than by their log times; else nothing.

        Log times that are shorter by a second are not explained by what waited when the recorder began. Longer ones
        are by a slow link, whose delay grows by a second or two, else by a replay at another speed.
        """
        if not self._is_rising or self._count < _FEWEST_OF_ONE_TIME:
            return ""
        by_stamp_ns, by_log_ns = self._stamp_ns[1] - self._stamp_ns[0], self._log_ns[1] - self._log_ns[0]
        is_shorter = by_stamp_ns > _SAME_SPAN * by_log_ns and by_stamp_ns - by_log_ns > _MOST_WAITED_NS
        is_longer = by_log_ns > _SAME_SPAN * by_stamp_ns and by_log_ns - by_stamp_ns > _MOST_DELAYED_NS
        if not (is_shorter or is_longer):
            return ""
        return (
            f"its {self._count} images take {by_stamp_ns / 1e9:.6g} s by their stamps and {by_log_ns / 1e9:.6g} s by "
            "their log times: they were recorded of a replay at another speed, or those times were not kept; seconds "
            "of labels are those of the log times"
        )


class StampCheck:
    """Finds out which stamps of a topic are times."""

    def __init__(self) -> None:
        self._invalid = InvalidStamps()
        self._count = self._found = 0
        self._text = ""

    def add(self, stamp: Any, log_time_ns: int) -> bool:  # noqa: ANN401 rosbags makes its classes
        """Takes in a builtin_interfaces/Time, and when its message was received; returns whether it is a time."""
        text = self._invalid.observe(int(stamp.nanosec), log_time_ns)
        self._count += 1
        self._found += bool(text)
        self._text = text or self._text
        return not text and nanoseconds(stamp) > 0

    def warning(self) -> str:
        """Returns what is said of stamps that are no time; else nothing."""
        if not self._found:
            return ""
        return (
            f"stamp_invalid in {self._found} of {self._count} messages: {self._text}; their time is that of their "
            "reception"
        )


class CameraCheck:
    """Finds out whether the images of a topic are of several cameras: a camera has one frame_id."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, frame_id: str) -> None:
        """Takes in the frame_id of an image; an empty one tells nothing."""
        if frame_id.strip("/"):
            self._counts[frame_id.lstrip("/")[:_LONGEST_NAME]] += 1

    def warning(self) -> str:
        """Returns what is said of several frame_ids on one topic; else nothing."""
        if len(self._counts) < 2:
            return ""
        shown = [f"{frame_id} ({count} images)" for frame_id, count in self._counts.most_common(MOST_LINES)]
        others = len(self._counts) - len(shown)
        names = ", ".join(shown) + (f" and {others} others" if others else "")
        return (
            f"its images are of several frame_ids, {names}: if these are cameras, labels and figures are of all of them"
        )


def shortened(lines: Sequence[str], who: str = "") -> list[str]:
    """Returns the first of some lines, one a topic, and of how many others the same could be said, by whom."""
    others = len(lines) - MOST_LINES
    return list(lines) if others <= 0 else [*lines[:MOST_LINES], f"{who}the same of {others} other topics"]


def by_topic(who: str, promised: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """Returns what is said where messages were promised that are not there, or the other way round: a line a topic."""
    lines = [
        f"{who}: {topic}: {count} messages are promised, {found.get(topic, 0)} were found"
        for topic, count in sorted(promised.items())
        if count != found.get(topic, 0)
    ]
    return shortened(lines, f"{who}: ")


def reception_order(channels: list[tuple[StorageFile, Channel]]) -> npt.NDArray[np.int64]:
    """Returns the rows (channel, message) of channels in the order of their log times.

    Messages of one time stay in the order of the files. Compressed chunks that overlap each other in time much are
    read one after the other, each in its own order of time, so that none is unpacked more than a few times.
    """
    times_ns = np.concatenate([channel.times_ns for _, channel in channels])
    rows = np.concatenate([_rows(number, channel) for number, (_, channel) in enumerate(channels)])
    chunks = _chunk_numbers(channels)
    order = np.argsort(times_ns, kind="stable")
    packed = chunks[order][chunks[order] >= 0]
    if np.count_nonzero(np.diff(packed)) > 4 * len(np.unique(packed)):
        order = np.lexsort((times_ns, _first_times(times_ns, chunks)))
    return rows[order]


def _rows(number: int, channel: Channel) -> npt.NDArray[np.int64]:
    count = len(channel.times_ns)
    return np.stack([np.full(count, number), np.arange(count)], axis=1)


def _chunk_numbers(channels: list[tuple[StorageFile, Channel]]) -> npt.NDArray[np.int64]:
    """Returns a number of its own for the chunk of each message; -1 where it lies in none that is compressed."""
    found = []
    files: dict[int, int] = {}
    for file, channel in channels:
        base = files.setdefault(id(file), len(files)) << 40
        chunks = channel.places[:, 0] if channel.place_size > 1 else np.full(len(channel.times_ns), -1)
        found.append(np.where(chunks < 0, -1, base + chunks))
    return np.concatenate(found)


def _first_times(times_ns: npt.NDArray[np.int64], chunks: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Returns for each message the first time in its chunk; its own where it lies in none."""
    firsts = times_ns.copy()
    _, inverse = np.unique(chunks, return_inverse=True)
    earliest = np.full(inverse.max() + 1, _LARGEST_TIME_NS)
    np.minimum.at(earliest, inverse, times_ns)
    is_packed = chunks >= 0
    firsts[is_packed] = earliest[inverse][is_packed]
    return firsts


def _seconds(time_ns: int) -> str:
    return f"{time_ns / 1e9:.3f} s"


def _duration(duration_ns: int) -> str:
    years = duration_ns / 1e9 / 86400 / 365.25
    if abs(years) >= 0.05:
        return f"{years:+.1f} years"
    return f"{duration_ns / 1e9:+.{0 if abs(duration_ns) >= 60 * 10**9 else 1}f} s"

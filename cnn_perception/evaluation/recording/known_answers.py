"""What is known of a recording over time: on which clock, which of it belongs to no frame, and what cannot be right."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cnn_perception.bag.reader import Bag, LabelTrack, NumberTrack
from cnn_perception.errors import DataError
from cnn_perception.evaluation.labels import LARGEST_GAP_S, Labels, Measurements
from cnn_perception.label_table import ENDINGS, is_table
from cnn_perception.label_text import UNLABELLED, Truth

_LARGEST_SHIFT_S = 2.0
"""By more no camera and no annotator on one clock differ; GPS time is 18 s, TAI 37 s before UTC, local time hours."""


class Timed(Protocol):
    """A frame as its labels find it: its header's stamp, whether that is a time, and seconds on the labels' axis."""

    @property
    def stamp_ns(self) -> int:
        """Nanoseconds."""

    @property
    def has_time(self) -> bool:
        """Of the stamp."""

    @property
    def time_s(self) -> float:
        """Of its reception."""


@dataclass(frozen=True)
class LabelStamps:
    """How the labels of a topic are stamped.

    Attributes:
        count: How many there are.
        last_ns: The latest stamp.
        lag_ns: Median time from a stamp to its reception.
        differ: Whether they name several classes one after the other; False for numbers.
    """

    count: int
    last_ns: int
    lag_ns: int
    differ: bool

    @classmethod
    def of(cls, track: LabelTrack | NumberTrack) -> LabelStamps | None:
        """Returns those of a topic; None where its times are those of reception."""
        times_ns = [time_ns for time_ns, _ in (track.changes if isinstance(track, LabelTrack) else track.rows)]
        if not track.is_stamped or not times_ns:
            return None
        differ = False
        if isinstance(track, LabelTrack):
            names = [name for _, name in sorted(track.changes, key=lambda change: change[0])]
            known = itertools.dropwhile(lambda name: name in ("", UNLABELLED), names)
            differ = len(set(known)) > 1
        return cls(len(times_ns), max(times_ns), track.lag_ns, differ)


@dataclass(frozen=True)
class KnownAnswers:
    """What is known of a recording, and the clock on which it is known.

    Attributes:
        truth: None without labels.
        labels: The table or topic that says it, as `--labels` names it; empty for none.
        origin_ns: What is 0 s on the time axis of the labels; None for the reception of the first frame.
        stamps: How they are stamped, for the truth's times are stamps then; None where they are times of reception,
            since `origin_ns`.
    """

    truth: Labels | Measurements | None = None
    labels: str = ""
    origin_ns: int | None = None
    stamps: LabelStamps | None = None

    def at(self, stamp_ns: int | None, since_ns: int) -> Truth | None:
        """Returns what is known of a frame.

        Args:
            stamp_ns: Its stamp; None where that is no time, or cannot be read: then it is known by its reception.
            since_ns: When it was received, since what is 0 s.
        """
        if self.truth is None:
            return None
        return self.truth.at(self._as_stamp(stamp_ns, since_ns) if self.stamps else since_ns)

    def unmet(self, frames: Sequence[Timed]) -> list[str]:
        """Says which labels belong to none of these frames, a line or none.

        Of a table that is each without a frame. A topic goes on beside the images, and says the same many times: only
        where all its classes are from before the first frame, though they differ, they are of another clock.
        """
        if not frames or self.truth is None:
            return []
        if self.stamps is not None:
            first_ns = min(map(self._stamp_of, frames))
            if not self.stamps.differ or self.stamps.last_ns >= first_ns:
                return []
            early_s = (first_ns - self.stamps.last_ns) / 1e9
            return [
                f"{self.labels}: all {self.stamps.count} labels are stamped before the first frame, the last by "
                f"{early_s:.1f} s, and they differ: their clock is not that of the images; stamp them as the images are"
            ]
        return self._unmet_of_table(frames) if is_table(self.labels) else []

    def _unmet_of_table(self, frames: Sequence[Timed]) -> list[str]:
        times_ns = map(_since_ns, frames)
        if isinstance(self.truth, Measurements):
            moments = self.truth.unused(times_ns)
            first = [f"{time_ns / 1e9:g} s" for time_ns in moments[:1]]
            what = f"is within {LARGEST_GAP_S:g} s of {len(moments)} of {len(self.truth.times_ns)} measured times"
        else:
            assert self.truth is not None
            unused = self.truth.unused(times_ns)
            first = [f"{one.start_ns / 1e9:g} to {one.end_ns / 1e9:g} s" for one in unused[:1]]
            what = f"lies in {len(unused)} of {len(self.truth.intervals)} labelled intervals"
        return [f"{self.labels}: no frame {what}, such as {one}; see --labels-start, or remove them" for one in first]

    def doubts(self, frames: Sequence[Timed]) -> list[str]:
        """Says what is odd about the labels of these frames, a line for each kind: numbers, and clocks."""
        found = self.truth.not_finite if isinstance(self.truth, Measurements) else 0
        text = f"{self.labels}: {found} messages hold nan or inf: frames nearest to them are unlabelled"
        return [*([text] if found else []), *self._doubts_of_clocks(frames)]

    def _doubts_of_clocks(self, frames: Sequence[Timed]) -> list[str]:
        """Says how far the stamps of labels and frames are apart where they were received together, a line or none.

        A label that holds for all frames may have been published long before the recorder was started.
        """
        if self.stamps is None or not frames or self.unmet(frames):
            return []
        lag_ns = statistics.median_low(_since_ns(one) + (self.origin_ns or 0) - self._stamp_of(one) for one in frames)
        behind_s = (self.stamps.lag_ns - lag_ns) / 1e9
        is_same = self.stamps.count == 1 or (isinstance(self.truth, Labels) and not self.stamps.differ)
        is_latched = is_same and behind_s > 0
        if abs(behind_s) <= _LARGEST_SHIFT_S or is_latched:
            return []
        return [
            f"{self.labels}: by when they were received, the labels' stamps are {abs(behind_s):.1f} s "
            f"{'behind' if behind_s > 0 else 'ahead of'} those of the images: unless published late, they are of "
            "another clock (GPS 18 s, TAI 37 s, local time), and frames near a change have the wrong label"
        ]

    def _stamp_of(self, frame: Timed) -> int:
        return self._as_stamp(frame.stamp_ns if frame.has_time else None, _since_ns(frame))

    def _as_stamp(self, stamp_ns: int | None, since_ns: int) -> int:
        return (self.origin_ns or 0) + since_ns if stamp_ns is None else stamp_ns


def _since_ns(frame: Timed) -> int:
    return round(frame.time_s * 1e9)


def where_to_look(labels: str) -> str:
    """Returns what may be wrong where not one frame is labelled, for the end of an error."""
    if is_table(labels):
        return "see --labels-start"
    return "a topic's labels are of the images' time: by stamps of the images' clock, else by their reception"


def require_topic(bag: Bag, labels: str) -> None:
    """Refuses a file that is no table by its name, before it is looked for among the topics.

    Raises:
        DataError: If it is a file, and no topic of the bag.
    """
    name = labels.strip("/")
    if any(topic.name.strip("/") == name for topic in bag.topics):
        return
    try:
        is_file = Path(labels).is_file()
    except (OSError, ValueError):  # no file can have such a name
        is_file = False
    if is_file:
        raise DataError(
            f"--labels {labels}: is no table by its name, and no topic of the bag; save it as CSV under a name that "
            f"ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        )

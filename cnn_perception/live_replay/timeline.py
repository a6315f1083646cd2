"""When which message of a bag is due: its log time on a clock that runs at a rate and skips long pauses."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnn_perception.bag.message_types import CAMERA_INFO_TYPE, IMAGE_TYPES
from cnn_perception.bag.reader import Bag, Recorded, Topic

LONGEST_PAUSE_S = 10.0
"""Between two messages; of a longer one the rest is skipped: a recorder that was paused, or a clock that was set."""


_TOLERATED_S = 0.01
"""By which a message may be late before the clock waits for it."""


@dataclass(frozen=True, eq=False)
class Due:
    """A message of a bag and what it is.

    Attributes:
        recorded: The message.
        index: Of an image, its position in its topic; None for a camera_info.
    """

    recorded: Recorded
    index: int | None


def due_messages(bag: Bag, images: Topic, camera_info: str) -> Iterator[Due]:
    """Yields the images and the calibrations of a camera in the order of their log times.

    Args:
        bag: The open bag.
        images: Its image topic.
        camera_info: Its topic of calibrations, which need not be there.
    """
    pictures = (Due(one, index) for index, one in enumerate(bag.recorded(images.name, IMAGE_TYPES)))
    names = [topic.name for topic in bag.topics if "/" + topic.name.lstrip("/") == camera_info and topic.count]
    infos = (Due(one, None) for name in names[:1] for one in bag.recorded(name, (CAMERA_INFO_TYPE,)))
    yield from heapq.merge(infos, pictures, key=lambda due: due.recorded.log_time_ns)


class Timeline:
    """Which time of the bag it is at a moment of this process, `time.monotonic`.

    Attributes:
        rate: How many times faster than recorded.
        skipped_s: Seconds of the bag that were skipped.
        slipped_s: Seconds by which this machine has fallen behind the rate.
    """

    def __init__(self, start_ns: int, rate: float) -> None:
        """Stands at a time of the bag until it is started.

        Args:
            start_ns: That time, nanoseconds.
            rate: How many times faster than recorded it runs.
        """
        self.rate = rate
        self.skipped_s = 0.0
        self.slipped_s = 0.0
        self._begins: list[tuple[float, int]] = []  # (moment, time of the bag) since when it has run on
        self._start_ns = start_ns

    def start(self, moment_s: float) -> None:
        """Lets it run."""
        self._begins = [(moment_s, self._start_ns)]

    def at(self, moment_s: float) -> int:
        """Returns the time of the bag at a moment, nanoseconds."""
        place = bisect.bisect_right(self._begins, moment_s, key=lambda begin: begin[0]) - 1
        if place < 0:
            return self._start_ns
        begun_s, time_ns = self._begins[place]
        return time_ns + round((moment_s - begun_s) * self.rate * 1e9)

    def moment_of(self, time_ns: int) -> float:
        """Returns when a time of the bag is, was or will be, as it runs now."""
        begun_s, begun_ns = self._begins[-1]
        return begun_s + (time_ns - begun_ns) / 1e9 / self.rate

    def skip_pause(self, moment_s: float, next_ns: int) -> None:
        """Skips most of the time up to the next message, if that is long."""
        pause_s = (next_ns - self.at(moment_s)) / 1e9
        if pause_s > LONGEST_PAUSE_S:
            skipped_s = pause_s - 1.0
            self.skipped_s += skipped_s
            self._begins.append((moment_s, self.at(moment_s) + round(skipped_s * 1e9)))

    def slip(self, moment_s: float, time_ns: int) -> None:
        """Sets it back to the message that is published now: one that comes late is no older for that."""
        late_s = moment_s - self.moment_of(time_ns)
        if late_s > _TOLERATED_S:
            self.slipped_s += late_s
            self._begins.append((moment_s, time_ns))


@dataclass(frozen=True)
class PlayedFrame:
    """An image that was published.

    Attributes:
        index: Its position in its topic.
        stamp_ns: Of its header, nanoseconds.
        due_s: When it should have been published, `time.monotonic`.
        published_s: When it was.
    """

    index: int
    stamp_ns: int
    due_s: float
    published_s: float


@dataclass(frozen=True)
class Pace:
    """Whether this machine has kept the rate.

    Attributes:
        wanted: Times faster than recorded, as asked for.
        achieved: As it was, from the first image to the last.
        late_p95_ms: So late were 95 % of the images at most.
        interval_ms: Median time between two images at the wanted rate.
        is_kept: Whether the figures are those of the node, and not of a machine that was too slow to play.
    """

    wanted: float
    achieved: float
    late_p95_ms: float
    interval_ms: float
    is_kept: bool


_LEAST_OF_RATE = 0.97
"""Of the wanted rate: less of it is a slower camera."""


def pace(played: Sequence[PlayedFrame], rate: float) -> Pace:
    """Returns how well the rate was kept."""
    if len(played) < 2:
        return Pace(rate, rate, 0.0, 0.0, is_kept=True)
    late_ms = sorted((one.published_s - one.due_s) * 1e3 for one in played)
    steps_ms = sorted((after.due_s - before.due_s) * 1e3 for before, after in itertools.pairwise(played))
    wanted_s = played[-1].due_s - played[0].due_s
    took_s = played[-1].published_s - played[0].published_s
    achieved = rate * wanted_s / took_s if took_s > 0 else rate
    late_p95_ms = late_ms[min(int(0.95 * len(late_ms)), len(late_ms) - 1)]
    interval_ms = steps_ms[len(steps_ms) // 2]
    is_kept = achieved >= _LEAST_OF_RATE * rate and late_p95_ms <= max(interval_ms / 2, 1.0)
    return Pace(rate, achieved, late_p95_ms, interval_ms, is_kept)

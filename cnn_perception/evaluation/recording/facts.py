"""The facts of a recording: when it was made, how long it is, at which rate its frames came, and where they paused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt

from cnn_perception.bag.reader import Topic
from cnn_perception.evaluation.frame_record import FrameRecord

_PAUSE_PERIODS = 5.0
_SHORTEST_PAUSE_S = 0.5
"""A gap lasts so many periods of the camera, and so long."""
_MOST_GAPS = 10


@dataclass(frozen=True)
class Gap:
    """A pause of the camera: when it begins on the labels' time axis, and how long it lasts, seconds."""

    start_s: float
    length_s: float


@dataclass(frozen=True)
class RecordingFacts:
    """What is known of the evaluated topic of a bag.

    Attributes:
        start: When the first image was received, as ISO 8601 in UTC.
        start_ns: The same in nanoseconds since 1970.
        length_s: From the first image to the last, seconds.
        images: How many there are.
        rate_hz: One over the median time between two of them; 0 for fewer than two.
        missing: How many more there would be without gaps at that rate: dropped by camera, transport or recorder.
        gaps: The longest pauses, in the order of time.
        gap_count: How many pauses there are.
        topics: Of the bag: name, type, and number of messages.
    """

    start: str
    start_ns: int
    length_s: float
    images: int
    rate_hz: float
    missing: int
    gaps: tuple[Gap, ...]
    gap_count: int
    topics: tuple[Topic, ...]


def recording_facts(records: Sequence[FrameRecord], topics: Sequence[Topic]) -> RecordingFacts | None:
    """Returns the facts of the frames of a bag's topic, in the order of reception; None without frames."""
    if not records:
        return None
    received_ns = np.array([record.received_ns for record in records], np.int64)
    start_ns = int(received_ns[0])
    steps_s = np.diff(received_ns) / 1e9
    period_s = period(records)
    is_gap = steps_s > max(_PAUSE_PERIODS * period_s, _SHORTEST_PAUSE_S)
    longest = sorted(np.flatnonzero(is_gap).tolist(), key=lambda index: -steps_s[index])[:_MOST_GAPS]
    skipped = np.maximum(np.rint(steps_s / period_s) - 1, 0) if period_s else np.zeros(0)
    return RecordingFacts(
        start=_iso(start_ns),
        start_ns=start_ns,
        length_s=float((received_ns[-1] - start_ns) / 1e9),
        images=len(records),
        rate_hz=1.0 / period_s if period_s else 0.0,
        missing=int(skipped.sum()),
        gaps=tuple(Gap(records[index].time_s, float(steps_s[index])) for index in sorted(longest)),
        gap_count=int(is_gap.sum()),
        topics=tuple(topics),
    )


def period(records: Sequence[FrameRecord]) -> float:
    """Returns the median time between two frames, seconds; 0 where there are no two of different times."""
    return typical_step(np.diff([record.received_ns for record in records]) / 1e9)


def typical_step(steps_s: npt.NDArray[np.float64]) -> float:
    """Returns the median of (n,) times between two frames, seconds, among those above 0; 0 where there are none."""
    forward_s = steps_s[steps_s > 0]
    return float(np.median(forward_s)) if len(forward_s) else 0.0


def _iso(stamp_ns: int) -> str:
    """Returns a time in words; only its number where there is no such date."""
    try:
        return datetime.fromtimestamp(stamp_ns // 10**9, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{stamp_ns} ns"

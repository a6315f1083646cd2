"""How a camera's frames fare: rates, drops by reason, and percentiles of every stage. No ROS in here."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

DEFECT = "defect"
"""The reason for which a frame is dropped that met a defect of this package."""
_WINDOW_FRAMES = 256
"""Percentiles are over the latest frames: about ten seconds at 30 Hz."""


@dataclass(frozen=True)
class Snapshot:
    """What happened, over the whole life and since the previous snapshot.

    Attributes:
        input_rate_hz: Frames received a second since the previous snapshot.
        output_rate_hz: Frames answered a second since the previous snapshot.
        received: Frames received in all, those included that were missed.
        answered: Frames answered in all.
        unknown: How many of these were answered `unknown`.
        dropped: Frames dropped in all, by reason; `missed` were overtaken by a newer frame, or lost on the way.
        oddities: Frames with a strange stamp or picture in all, by kind; they may have been answered all the same.
        recently_refused: Frames refused as unusable since the previous snapshot.
        recently_broken: How many of these met a defect of this package.
        recently_odd: Oddities since the previous snapshot that may have spoilt an answer.
        percentiles_ms: (p50, p95) of every stage over the latest frames, milliseconds.
    """

    input_rate_hz: float
    output_rate_hz: float
    received: int
    answered: int
    unknown: int
    dropped: Mapping[str, int]
    oddities: Mapping[str, int]
    recently_refused: int
    recently_broken: int
    recently_odd: int
    percentiles_ms: Mapping[str, tuple[float, float]]


class FrameCounters:
    """Counts one camera's frames; every method may be called from any thread."""

    def __init__(self, now_s: float) -> None:
        """Starts counting at `now_s`, seconds of any monotonic clock."""
        self._lock = threading.Lock()
        self._received = 0
        self._answered = 0
        self._unknown = 0
        self._dropped: Counter[str] = Counter()
        self._oddities: Counter[str] = Counter()
        self._harmless = 0
        self._stages_ms: dict[str, deque[float]] = {}
        self._last_received_s = now_s
        self._previous = (now_s, 0, 0, 0, 0, 0)

    def receive(self, now_s: float) -> None:
        """Notes that a frame arrived."""
        with self._lock:
            self._received += 1
            self._last_received_s = now_s

    def miss(self, count: int) -> None:
        """Notes that frames arrived which a newer one overtook."""
        with self._lock:
            self._received += count
            self._dropped["missed"] += count

    def drop(self, reason: str) -> int:
        """Notes that a frame was dropped; returns how many were dropped for this reason."""
        with self._lock:
            self._dropped[reason] += 1
            return self._dropped[reason]

    def note(self, oddity: str, harmless: bool = False) -> int:
        """Notes that a frame had a strange stamp or picture; returns how many had it in this way."""
        with self._lock:
            self._harmless += harmless
            self._oddities[oddity] += 1
            return self._oddities[oddity]

    def answer(self, stages_ms: Mapping[str, float], unknown: bool = False) -> None:
        """Notes that a frame was answered, the milliseconds its stages took, and whether it was `unknown`."""
        with self._lock:
            self._answered += 1
            self._unknown += unknown
            for stage, value in stages_ms.items():
                self._stages_ms.setdefault(stage, deque(maxlen=_WINDOW_FRAMES)).append(value)

    def silence_s(self, now_s: float) -> float:
        """Returns the seconds since the latest frame, or since counting started."""
        with self._lock:
            return now_s - self._last_received_s

    def snapshot(self, now_s: float) -> Snapshot:
        """Returns what happened so far, with rates since the previous call."""
        with self._lock:
            then_s, received, answered, refused, broken, odd = self._previous
            all_refused = sum(self._dropped.values()) - self._dropped["missed"]
            all_broken = self._dropped[DEFECT]
            all_odd = sum(self._oddities.values()) - self._harmless
            seconds = max(now_s - then_s, 1e-9)
            self._previous = (now_s, self._received, self._answered, all_refused, all_broken, all_odd)
            return Snapshot(
                input_rate_hz=(self._received - received) / seconds,
                output_rate_hz=(self._answered - answered) / seconds,
                received=self._received,
                answered=self._answered,
                unknown=self._unknown,
                dropped=dict(+self._dropped),
                oddities=dict(self._oddities),
                recently_refused=all_refused - refused,
                recently_broken=all_broken - broken,
                recently_odd=all_odd - odd,
                percentiles_ms={name: _percentiles(values) for name, values in self._stages_ms.items()},
            )


def _percentiles(values: deque[float]) -> tuple[float, float]:
    p50, p95 = np.percentile(np.array(values), (50, 95))
    return float(p50), float(p95)

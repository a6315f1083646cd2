"""How a camera's frames fare: rates, what became of those that were not answered, and percentiles of every stage.

Three words: *lost* are frames that never arrived here, *overtaken* are those that a newer one replaced before they were
taken, *dropped* are those that were taken and not answered. No ROS in here.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

STAGE_KEY = " p50/p95 (ms)"
"""Behind the name of a stage, in diagnostics."""
DEFECT = "defect"
"""The reason for which a frame is dropped that met a defect of this package."""
RECENT_S = 10.0
"""What is recent: long enough that one frame of it is no share to speak of."""
_WINDOW_FRAMES = 256
"""Percentiles are over the latest frames: about ten seconds at 30 Hz."""


@dataclass(frozen=True)
class Tally:
    """How many frames met what, in all or in a stretch of time.

    Attributes:
        received: Frames that arrived, those included that were overtaken.
        answered: Frames that were answered.
        lost: Frames that were sent and never arrived.
        overtaken: Frames that a newer one replaced before they were taken.
        dropped: Frames that were taken and not answered, by reason.
        oddities: Frames with a strange stamp or picture, by kind; they may have been answered all the same.
        harmless: Which of these have spoilt no answer.
    """

    received: int = 0
    answered: int = 0
    lost: int = 0
    overtaken: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    oddities: Counter[str] = field(default_factory=Counter)
    harmless: Counter[str] = field(default_factory=Counter)

    @property
    def sent(self) -> int:
        """Frames that were sent, as far as that is known here."""
        return self.received + self.lost

    @property
    def broken(self) -> int:
        """Frames that met a defect of this package."""
        return self.dropped[DEFECT]

    @property
    def unusable(self) -> Counter[str]:
        """Frames dropped for what they were, by reason."""
        return Counter({reason: count for reason, count in self.dropped.items() if reason != DEFECT})

    @property
    def odd(self) -> Counter[str]:
        """Frames whose oddity may have spoilt the answer, by kind."""
        return self.oddities - self.harmless

    def since(self, before: Tally) -> Tally:
        """Returns what came after an earlier tally."""
        return Tally(
            received=self.received - before.received,
            answered=self.answered - before.answered,
            lost=self.lost - before.lost,
            overtaken=self.overtaken - before.overtaken,
            dropped=self.dropped - before.dropped,
            oddities=self.oddities - before.oddities,
            harmless=self.harmless - before.harmless,
        )


@dataclass(frozen=True)
class Snapshot:
    """What happened, over the whole life and lately.

    Attributes:
        input_rate_hz: Frames received a second since the previous snapshot.
        output_rate_hz: Frames answered a second since the previous snapshot.
        total: Everything since counting began.
        unknown: How many frames were answered `unknown`.
        recent: What happened in the last `recent_s` seconds.
        recent_s: At most about `RECENT_S`; longer where snapshots are rarer than that.
        newly_broken: Frames that met a defect of this package since the previous snapshot.
        refusals: In words, why a frame was dropped last, for each reason, and what was odd last, for each kind.
        percentiles_ms: (p50, p95) of every stage over the latest frames, milliseconds.
    """

    input_rate_hz: float
    output_rate_hz: float
    total: Tally
    unknown: int
    recent: Tally
    recent_s: float
    newly_broken: int
    refusals: Mapping[str, str]
    percentiles_ms: Mapping[str, tuple[float, float]]

    def stage_values(self) -> dict[str, str]:
        """Returns the percentiles as diagnostics have them, each under its stage and `STAGE_KEY`."""
        return {f"{stage}{STAGE_KEY}": f"{p50:.2f} / {p95:.2f}" for stage, (p50, p95) in self.percentiles_ms.items()}


class FrameCounters:
    """Counts one camera's frames; every method may be called from any thread."""

    def __init__(self, now_s: float) -> None:
        """Starts counting at `now_s`, seconds of any monotonic clock."""
        self._lock = threading.Lock()
        self._received = 0
        self._answered = 0
        self._unknown = 0
        self._lost = 0
        self._overtaken = 0
        self._dropped: Counter[str] = Counter()
        self._oddities: Counter[str] = Counter()
        self._harmless: Counter[str] = Counter()
        self._refusals: dict[str, str] = {}
        self._stages_ms: dict[str, deque[float]] = {}
        self._received_s = now_s
        self._looked_s = now_s
        self._tallies = deque([(now_s, Tally())])  # of the snapshots in the latest seconds, the oldest first

    def receive(self, now_s: float) -> None:
        """Notes that a frame arrived."""
        with self._lock:
            self._received += 1
            self._received_s = now_s

    def look(self, now_s: float) -> None:
        """Notes that the node looked for a frame, and none had arrived since the latest."""
        with self._lock:
            self._looked_s = now_s

    def lose(self, count: int) -> None:
        """Notes that frames were sent that never arrived."""
        with self._lock:
            self._lost += count

    def overtake(self, count: int) -> None:
        """Notes that frames arrived which a newer one replaced before they were taken."""
        with self._lock:
            self._received += count
            self._overtaken += count

    def drop(self, reason: str, text: str = "") -> int:
        """Notes that a frame was dropped, and why in words; returns how many were dropped for this reason."""
        with self._lock:
            self._dropped[reason] += 1
            self._refusals[reason] = text
            return self._dropped[reason]

    def note(self, oddity: str, harmless: bool = False, text: str = "") -> int:
        """Notes that a frame had a strange stamp or picture, in words, too; returns how many had it in this way."""
        with self._lock:
            self._oddities[oddity] += 1
            self._refusals[oddity] = text
            if harmless:
                self._harmless[oddity] += 1
            return self._oddities[oddity]

    def answer(self, stages_ms: Mapping[str, float], unknown: bool = False) -> None:
        """Notes that a frame was answered, the milliseconds its stages took, and whether it was `unknown`."""
        with self._lock:
            self._answered += 1
            self._unknown += unknown
            for stage, value in stages_ms.items():
                self._stages_ms.setdefault(stage, deque(maxlen=_WINDOW_FRAMES)).append(value)

    def silence_s(self) -> float:
        """Returns for how many seconds no frame has come, as far as the node has looked.

        While it is busy it does not look, and what comes meanwhile waits: that is no silence of the camera.
        """
        with self._lock:
            return max(0.0, self._looked_s - self._received_s)

    def snapshot(self, now_s: float) -> Snapshot:
        """Returns what happened so far, with rates since the previous call."""
        with self._lock:
            total = self._tally()
            previous_s, previous = self._tallies[-1]
            since = total.since(previous)
            seconds = max(now_s - previous_s, 1e-9)
            while len(self._tallies) > 1 and self._tallies[1][0] <= now_s - RECENT_S:
                self._tallies.popleft()
            began_s, began = self._tallies[0]
            self._tallies.append((now_s, total))
            return Snapshot(
                input_rate_hz=since.received / seconds,
                output_rate_hz=since.answered / seconds,
                total=total,
                unknown=self._unknown,
                recent=total.since(began),
                recent_s=now_s - began_s,
                newly_broken=since.broken,
                refusals=dict(self._refusals),
                percentiles_ms={name: _percentiles(values) for name, values in self._stages_ms.items()},
            )

    def _tally(self) -> Tally:
        return Tally(
            received=self._received,
            answered=self._answered,
            lost=self._lost,
            overtaken=self._overtaken,
            dropped=self._dropped.copy(),
            oddities=self._oddities.copy(),
            harmless=self._harmless.copy(),
        )


def _percentiles(values: deque[float]) -> tuple[float, float]:
    p50, p95 = np.percentile(np.array(values), (50, 95))
    return float(p50), float(p95)

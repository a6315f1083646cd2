"""One recording of a black box: from some seconds before its first cause to some seconds after its last one."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

_MOST_CAUSES = 20
"""So many are named; a shadow may disagree with every frame."""


@dataclass(eq=False)
class Incident:
    """One recording of a black box: the black box adds to it, a thread writes it, and who asked for it may wait.

    Attributes:
        path: Of its bag.
        end_s: Until when messages belong to it, by the monotonic clock; a further cause puts it off,
        latest_s: but never beyond this.
        queued: Messages that were handed to the thread.
        lost: Messages that memory had no room for while they waited for the disk.
        lost_s: When the latest of these was received, by the monotonic clock.
        written: Messages that were handed to the system.
        problem: Why it is not saved whole; empty where nothing is known to be missing.
    """

    path: Path
    end_s: float
    latest_s: float
    queued: int = 0
    lost: int = 0
    lost_s: float = -math.inf
    written: int = 0
    problem: str = ""
    _causes: list[str] = field(default_factory=list)
    _more: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, cause: str, end_s: float) -> None:
        """Notes a cause, and that what is received until a time belongs to it, unless nothing more is written."""
        if len(self._causes) < _MOST_CAUSES:
            self._causes.append(cause)
        else:
            self._more += 1
        if not self.problem:
            self.end_s = max(self.end_s, min(end_s, self.latest_s))

    @property
    def causes(self) -> str:
        """What has happened, the first one first, in one line."""
        return "; ".join(self._causes) + (f"; and {self._more} more" if self._more else "")

    @property
    def missing(self) -> str:
        """How many messages memory had no room for, in words."""
        return f"{self.lost} messages are missing; the disk is slower than they come"

    def note_written(self) -> None:
        """Counts a message that was handed to the system."""
        with self._changed:
            self.written += 1
            self._changed.notify_all()

    def fail(self, problem: str) -> None:
        """Notes why it is not saved whole, in one line; the first reason counts."""
        with self._changed:
            self.problem = self.problem or problem
            self._changed.notify_all()

    def wait(self, count: int, timeout_s: float) -> bool:
        """Waits until so many messages are written, or it is known that they will not be; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self.problem) or self.written >= count, timeout_s)


def incident_name(cause: str, time_ns: int) -> str:
    """Returns what the bag is called: the UTC time of its cause to the millisecond, and the cause."""
    seconds, rest_ns = divmod(time_ns, 10**9)
    stamp = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{stamp:%Y%m%dT%H%M%S}.{rest_ns // 10**6:03}Z_{cause}"

"""Notices that something which should happen again and again does not: what hangs raises nothing."""

from __future__ import annotations

from collections.abc import Callable

_MOST_ELAPSED_S = 0.5
"""A pause in which the watching thread itself stood still, as while the process is stopped, is nobody's silence."""


class Heartbeat:
    """One thread beats, another one watches; each only writes what is its own.

    Attributes:
        what: Is said of the silence, such as `no diagnostics`.
    """

    def __init__(self, what: str, limit_s: float) -> None:
        """Begins with a beat.

        Args:
            what: Is said of the silence.
            limit_s: So many seconds of it mean that something hangs.
        """
        self.what = what
        self._limit_s = limit_s
        self._beats = 0
        self._is_due = True
        self._seen = 0
        self._silence_s = 0.0

    def after(self, work: Callable[[], None]) -> Callable[[], None]:
        """Returns the work with a beat after it, which is expected again and again."""

        def work_and_beat() -> None:
            work()
            self._beats += 1

        return work_and_beat

    def only_within(self, work: Callable[[], None]) -> Callable[[], None]:
        """Returns the work with a beat after it, which is expected only once that has begun."""
        self._is_due = False

        def work_and_beat() -> None:
            self._is_due = True
            work()
            self._beats += 1
            self._is_due = False

        return work_and_beat

    def watch(self, elapsed_s: float) -> bool:
        """Returns whether the silence is too long; to be called again and again.

        Args:
            elapsed_s: Since the call before, seconds.
        """
        beats = self._beats
        if beats != self._seen or not self._is_due:
            self._seen = beats
            self._silence_s = 0.0
        else:
            self._silence_s += min(elapsed_s, _MOST_ELAPSED_S)
        return self._silence_s > self._limit_s

"""A node's log in which repeated complaints are few: a warning once in a while, a defect's traceback once."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Protocol

_AGAIN_S = 5.0
"""The same warning is logged once in this time."""


class Logger(Protocol):
    """What is needed of a node's logger."""

    def info(self, message: str) -> object:
        """Logs what is good to know."""

    def warning(self, message: str) -> object:
        """Logs what should be mended."""

    def error(self, message: str) -> object:
        """Logs what has failed."""


class ThrottledLog:
    """Warns and tells of defects without flooding the log; every method may be called from any thread."""

    def __init__(self, logger: Logger, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Begins with nothing said.

        Args:
            logger: Where the texts go.
            clock_s: Seconds of any monotonic clock.
        """
        self._logger = logger
        self._clock_s = clock_s
        self._lock = threading.Lock()  # guards the two below
        self._warned_s: dict[str, float] = {}
        self._known_defects: set[str] = set()

    def warn(self, key: str, text: str) -> None:
        """Logs a text as a warning, unless one with the same key was logged a short time ago."""
        now_s = self._clock_s()
        with self._lock:
            is_due = now_s - self._warned_s.get(key, -_AGAIN_S) >= _AGAIN_S
            if is_due:
                self._warned_s[key] = now_s
        if is_due:
            self._logger.warning(text)

    def defect(self, error: BaseException) -> None:
        """Logs the traceback of a defect, unless one of the same place has been logged before."""
        place = "".join(traceback.format_tb(error.__traceback__)[-1:])
        with self._lock:
            is_new = place not in self._known_defects
            self._known_defects.add(place)
        if is_new:
            self._logger.error("".join(traceback.format_exception(error)).rstrip())

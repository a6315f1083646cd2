"""A node's log in which repeated complaints are few: a warning once in a while, a defect's traceback once."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

_AGAIN_S = 5.0
"""The same warning is logged once in this time."""
_LASTING_S = 60.0
"""What lasts is logged again after this time, and each time after twice as long,"""
_SELDOM_S = 3600.0
"""but not more seldom than that."""


@dataclass
class _Lasting:
    """A trouble that lasts: what was said of it, when, and how long nothing more is said."""

    text: str
    said_s: float
    pause_s: float


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
        self._lock = threading.Lock()  # guards the three below
        self._warned_s: dict[str, float] = {}
        self._lasting: dict[str, _Lasting] = {}
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

    def lasts(self, key: str, text: str) -> None:
        """Logs a trouble that lasts as a warning: at once, then ever more seldom, but at once where its text changes.

        Args:
            key: Of the trouble, until `is_over`.
            text: Without anything that changes all the time.
        """
        now_s = self._clock_s()
        with self._lock:
            known = self._lasting.get(key)
            if known is None:
                self._lasting[key] = _Lasting(text, now_s, _LASTING_S)
            elif now_s - known.said_s >= (known.pause_s if text == known.text else _AGAIN_S):
                pause_s = min(2 * known.pause_s, _SELDOM_S) if text == known.text else _LASTING_S
                self._lasting[key] = _Lasting(text, now_s, pause_s)
            else:
                return
        self._logger.warning(text)

    def is_over(self, key: str, text: str) -> None:
        """Logs once that a trouble which lasted is over; harmless where there was none."""
        with self._lock:
            is_news = self._lasting.pop(key, None) is not None
        if is_news:
            self._logger.info(text)

    def defect(self, error: BaseException) -> None:
        """Logs the traceback of a defect, unless one of the same place has been logged before."""
        place = "".join(traceback.format_tb(error.__traceback__)[-1:])
        with self._lock:
            is_new = place not in self._known_defects
            self._known_defects.add(place)
        if is_new:
            self._logger.error("".join(traceback.format_exception(error)).rstrip())

"""The minutes that everything together may take: what is left of them, and work that ends when its share is up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from cnn_perception.errors import printable


class TimeUp(Exception):  # noqa: N818  (no error: the plan)
    """The time that a piece of work was given is up; its files are whole."""


@dataclass(frozen=True)
class Budget:
    """How long everything may take.

    Attributes:
        seconds: In all.
        started_s: When it began, by `time.monotonic`.
    """

    seconds: float
    started_s: float

    @property
    def used_s(self) -> float:
        """How much is over."""
        return time.monotonic() - self.started_s

    @property
    def left_s(self) -> float:
        """How much is left; below 0 when it is up."""
        return self.seconds - self.used_s

    def say(self, text: str) -> None:
        """Prints a line with the time that is over."""
        print(printable(f"[{self.used_s:.0f} of {self.seconds:.0f} s] {text}"), flush=True)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Ends the work of a block as a Ctrl-C would, which all work here stands, once its time is up.

    In another than the main thread, which gets no signals, the work is never ended early.

    Raises:
        TimeUp: If it was ended.
    """
    if seconds <= 0:
        raise TimeUp
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_up = False

    def ring(_signal: int, frame: FrameType | None) -> None:
        nonlocal is_up
        is_up = True
        pressed = signal.getsignal(signal.SIGINT)
        if not callable(pressed):  # started in the background, where a shell has Ctrl-C ignored
            raise KeyboardInterrupt
        pressed(signal.SIGINT, frame)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except KeyboardInterrupt:
        if is_up:
            raise TimeUp from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)

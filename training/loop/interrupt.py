"""Ctrl-C between two steps, not within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from training import distributed


class Interrupted(Exception):  # noqa: N818  (no error: the user's wish)
    """The run is to end here; its state is whole."""


class Interrupt:
    """Notes the first Ctrl-C, so that a step is finished before `check` raises it; a second one is raised at once.

    Started by torchrun, which ends what does not end itself, a process waits for its step however often it is told.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Interrupt:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._former = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._former)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested and distributed.count() == 1:
            raise KeyboardInterrupt
        self.requested = True

    def check(self) -> None:
        """Raises Interrupted after a Ctrl-C."""
        if self.requested:
            raise Interrupted

    def end(self) -> None:
        """Raises KeyboardInterrupt after a Ctrl-C, where the state is not whole."""
        if self.requested:
            raise KeyboardInterrupt

"""A thread for work that frames never wait for, with room for one item of each camera.

Newest wins, as with the frames themselves: what was offered and not begun is overtaken by the camera's next item. The
cameras take turns, so that a busy thread sees all of them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")

_NICENESS = 10
"""On a busy core 1.25^-10, a tenth, of the share of the threads that answer frames. Source: sched(7), nice value."""
_OVERDUE_S = 10.0
"""An item at which the thread is for longer is told of: at low priority it may take some time, on a slow disk, too."""


class BackgroundWorker(Generic[ItemT]):
    """A thread that works on what it is offered when it has the time.

    Attributes:
        overtaken: How many items were replaced by a newer one before they were begun.
        failure: The exception that ended the thread; None while there was none. It is a defect: nothing is taken any
            more.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[ItemT], None],
        on_failure: Callable[[BaseException], None],
        finish: Callable[[], None] = lambda: None,
        *,
        begin: Callable[[], None] = lambda: None,
        only_when_idle: bool = False,
        rest_s: Callable[[float, float], float] = lambda _took_s, _computed_s: 0.0,
    ) -> None:
        """Starts the thread.

        Args:
            name: Of the thread.
            work: Called in the thread with one item after the other.
            on_failure: Called in the thread with the exception that ends it, which nobody else tells.
            finish: Called in the thread at its end, when it was closed.
            begin: Called in the thread before the first item.
            only_when_idle: Whether it gets next to nothing of a busy core and leaves it at once, on Linux. One of low
                priority has a tenth, and may run to the end of its slice of some milliseconds.
            rest_s: Says in the thread how many seconds it leaves the cores to others before its next item, by those
                that the last one took, and those of them that the thread itself was on a core. What is offered
                meanwhile overtakes; a thread that is closed rests no more.
        """
        self.overtaken = 0
        self.failure: BaseException | None = None
        self._work = work
        self._on_failure = on_failure
        self._finish = finish
        self._begin = begin
        self._rest_s = rest_s
        self._only_when_idle = only_when_idle
        self._changed = threading.Condition()
        self._waiting: dict[str, ItemT] = {}
        self._closed = False
        self._began_s: float | None = None  # the item under way, or `begin`; written by the thread, read by any
        self._is_starting = True
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, camera: str, item: ItemT) -> bool:
        """Leaves an item for the thread without waiting for it.

        Args:
            camera: Whose item it is.
            item: What `work` gets; nobody may change it any more.

        Returns:
            False if another item is lost by it, or the item itself because the thread has ended.
        """
        with self._changed:
            if self._closed:
                return False
            overtakes = camera in self._waiting
            self.overtaken += overtakes
            self._waiting[camera] = item
            self._changed.notify()
            return not overtakes

    def close(self, timeout_s: float | None) -> bool:
        """Ends the thread once everything offered is done; not to be called from the thread itself.

        Args:
            timeout_s: How long to wait for that; what is not begun by then is abandoned. None waits for all of it.

        Returns:
            Whether the thread has ended; if not, it will after the item it is at.
        """
        self._refuse()
        self._thread.join(timeout_s)
        with self._changed:
            self._waiting.clear()
        return not self._thread.is_alive()

    def overdue(self) -> str:
        """Says that the thread hangs at an item, or before the first, and how long; empty while it does not."""
        began_s = self._began_s
        age_s = 0.0 if began_s is None else time.monotonic() - began_s
        if age_s <= _OVERDUE_S:
            return ""
        return f"starting for {age_s:.0f} s" if self._is_starting else f"at one frame for {age_s:.0f} s"

    def _refuse(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # a container may forbid it
            self._step_back()
        try:
            self._began_s = time.monotonic()
            self._begin()
            self._began_s = None
            self._is_starting = False
            while self._work_on_next():
                pass
            self._finish()
        except BaseException as error:
            self.failure = error
            self._refuse()
            self._on_failure(error)
        finally:
            # Their owner holds this object: what it holds, such as a model, would wait for the garbage collector.
            del self._begin, self._work, self._finish, self._rest_s, self._on_failure

    def _step_back(self) -> None:
        # On Linux 0 is the calling thread, and the others stay as they are.
        if self._only_when_idle and sys.platform == "linux":
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        else:
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)

    def _work_on_next(self) -> bool:
        """Returns False once closed and empty. The item ends with this call: nobody keeps it, or its model, alive."""
        item = self._next()
        if item is None:
            return False
        self._began_s = began_s = time.monotonic()
        began_on_core_s = time.thread_time()
        self._work(item)
        self._began_s = None
        del item
        self._rest(self._rest_s(time.monotonic() - began_s, time.thread_time() - began_on_core_s))
        return True

    def _rest(self, seconds: float) -> None:
        if seconds > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._closed, seconds)

    def _next(self) -> ItemT | None:
        """Waits for an item, the camera's first that waits longest; None once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            camera = next(iter(self._waiting), None)
            return None if camera is None else self._waiting.pop(camera)

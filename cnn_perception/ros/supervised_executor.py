"""Runs a node's callbacks so that nothing which one of them raises is lost, and what is under way can be told.

rclpy's executor of several threads looks at what a callback has raised only when another callback begins, and never
sees a SystemExit: its group would be blocked for ever in a process that looks alive.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from rclpy.executors import ConditionReachedException, Executor, ShutdownException, TimeoutException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.time_source import TimeSource

_IDLE_S = 0.01
"""Whoever spins learns soon that a callback has failed."""


class WaitingGroup(MutuallyExclusiveCallbackGroup):
    """Of callbacks that wait by design, for some seconds at most: a thread is theirs, and nobody else waits."""


class SupervisedExecutor(Executor):
    """Runs callbacks in the thread that spins, or in several of its own."""

    def __init__(
        self,
        threads: int,
        on_failure: Callable[[BaseException], None],
        context: Context,
        on_bad_clock: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Starts the threads.

        Args:
            threads: How many callbacks of different groups may run at a time; with 1 the thread that spins runs them.
            on_failure: Called, in its thread, with what the first of the callbacks that fail has raised; none is begun
                after that.
            context: Of the nodes.
            on_bad_clock: Called with what is wrong about a message of /clock, which changes nothing.
        """
        super().__init__(context=context)
        self._on_failure = on_failure
        self._on_bad_clock = on_bad_clock
        self._first = threading.Lock()  # guards the next
        self._has_failed = False
        self._waiting: queue.SimpleQueue[tuple[Any, Any] | None] = queue.SimpleQueue()
        # Each thread writes its own entry; whoever reads takes a copy.
        self._under_way: dict[int, tuple[str, float]] = {}
        self._threads = [
            threading.Thread(target=self._run_all, name=f"callbacks {number}", daemon=True)
            for number in range(threads if threads > 1 else 0)
        ]
        for thread in self._threads:
            thread.start()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Waits for a callback that is ready, and runs it or has it run.

        Args:
            timeout_sec: Longest wait in seconds; None waits for ever.
        """
        if self._has_failed:
            time.sleep(_IDLE_S)
            return
        try:
            handler, entity, _ = self.wait_for_ready_callbacks(timeout_sec)
        except (ConditionReachedException, ShutdownException, TimeoutException):
            return
        except rclpy_implementation.InvalidHandle:
            if not self.context.ok():
                raise
            return  # a callback has destroyed a topic between two looks at it, as a swap of models does
        if self._threads:
            self._waiting.put((handler, entity))
        else:
            self._run(handler, entity)

    def overdue(self, limit_s: float) -> str:
        """Says which callbacks have been under way for longer than some seconds; empty if there is none.

        Those of a `WaitingGroup` are never among them.
        """
        now_s = time.monotonic()
        ages_s = [(name, now_s - began_s) for name, began_s in self._under_way.copy().values()]
        return ", ".join(f"{name} for {age_s:.1f} s" for name, age_s in ages_s if age_s > limit_s)

    def finish(self, timeout_s: float) -> None:
        """Begins no callback any more and waits for those under way, no longer than some seconds."""
        deadline_s = time.monotonic() + timeout_s
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _take_waitable(self, waitable: Any) -> Any:  # noqa: ANN401
        """Overrides rclpy's, which only here forgets that a topic may be gone before its callback has its turn."""
        try:
            return super()._take_waitable(waitable)
        except rclpy_implementation.InvalidHandle:
            return None  # what the others return then

    def _run_all(self) -> None:
        while (call := self._waiting.get()) is not None:
            self._run(*call)

    def _run(self, handler: Any, entity: Any) -> None:  # noqa: ANN401 rclpy's tasks and entities differ by version
        thread = threading.get_ident()
        if not isinstance(getattr(entity, "callback_group", None), WaitingGroup):
            self._under_way[thread] = (_name(entity), time.monotonic())
        try:
            handler()
            error = handler.exception()
        except BaseException as raised:  # a SystemExit, say, which rclpy's task lets pass
            error = raised
        self._under_way.pop(thread, None)
        if error is not None and _is_bad_clock(entity, error):
            self._on_bad_clock(str(error))
        elif error is not None:
            self._tell(error)

    def _tell(self, error: BaseException) -> None:
        with self._first:
            is_first = not self._has_failed
            self._has_failed = True
        if is_first:
            self._on_failure(error)


def _is_bad_clock(entity: Any, error: BaseException) -> bool:  # noqa: ANN401
    """Returns whether somebody has published a time that is none, which rclpy raises a ValueError of."""
    owner = getattr(getattr(entity, "callback", None), "__self__", None)
    return isinstance(error, ValueError) and isinstance(owner, TimeSource)


def _name(entity: Any) -> str:  # noqa: ANN401
    """Returns what a callback belongs to: a service or a topic by its name, all else by its kind."""
    with contextlib.suppress(rclpy_implementation.InvalidHandle):  # a topic that is gone has no name any more
        for attribute in ("srv_name", "topic_name"):
            if name := getattr(entity, attribute, ""):
                return str(name)
    return type(entity).__name__

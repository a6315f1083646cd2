"""Runs a node as a process: images cross without loss, signals end it quietly, errors are one line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from cnn_perception.errors import (
    EXIT_BAD_INPUT,
    EXIT_DEFECT,
    EXIT_OK,
    ConfigError,
    PerceptionError,
    one_line,
    with_kind,
)
from cnn_perception.ros import transport
from cnn_perception.ros.throttled_log import ThrottledLog

NodeT = TypeVar("NodeT", bound=Node)

CONTEXT_CLOSED = (rclpy_implementation.RCLError, rclpy_implementation.InvalidHandle)
"""What rclpy raises when a signal closes the context under a callback; look at `context.ok()` before ignoring it."""

_POLL_S = 0.2
"""How often the main thread sees whether the process should end."""
_GRACE_S = 1.5
"""What is still busy this long after a signal or a defect, such as a model, is left: a robot waits two seconds."""


class Shutdown:
    """Says to every thread that the process ends, and with which code: its work is done, or a thread met a defect.

    That thread says so here and does no more, for clean-up waits for it. The main thread, which spins, sees it, cleans
    up and returns the exit code; where that takes too long, `enforce` ends the process with the same code.
    """

    def __init__(self) -> None:
        # Without a lock: each is written whole, before the event that makes others read it; a defect only ever sets.
        self._code = EXIT_OK
        self._has_failed = False
        self._has_begun = threading.Event()
        self._is_done = threading.Event()

    @property
    def code(self) -> int:
        """The exit code as far as it is known: a defect is never forgotten."""
        return EXIT_DEFECT if self._has_failed else self._code

    @property
    def has_begun(self) -> bool:
        """Whether the process should end."""
        return self._has_begun.is_set()

    def begin(self, code: int) -> None:
        """Ends the work, whose exit code this is."""
        self._code = code
        self._has_begun.set()

    def fail(self) -> None:
        """Ends the work because of a defect, which has been printed; may be called from any thread."""
        self._has_failed = True
        self._has_begun.set()

    def finish(self) -> None:
        """Says that everything is cleaned up."""
        self._is_done.set()

    def enforce(self, context: Context) -> None:
        """Ends the process some time after a signal or the end of its work, whatever its other threads are doing."""
        while context.ok() and not self._has_begun.wait(_POLL_S):
            pass
        if not self._is_done.wait(_GRACE_S):
            sys.stdout.flush()
            os._exit(self.code)


def run(make_node: Callable[[Shutdown], NodeT], work: Callable[[NodeT], int], argv: Sequence[str] | None = None) -> int:
    """Makes a node, lets it work, and cleans up.

    Args:
        make_node: Makes the node once rclpy is initialised; what it gets is for the node's own threads.
        work: Returns the exit code when the node is done, usually after `spin`.
        argv: Command line without the program's name; None takes the process's.

    Returns:
        The exit code: `EXIT_BAD_INPUT` after printing one line if a setting is unusable, `EXIT_DEFECT` after printing a
        traceback and one line if anything raised what it should not.
    """
    transport.prepare_process()
    # rclpy's handler ends the spin; Python's would raise KeyboardInterrupt anywhere, and twice under a launch file.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    shutdown = Shutdown()
    node: NodeT | None = None
    try:
        _initialise(argv)
        threading.Thread(target=shutdown.enforce, args=(rclpy.get_default_context(),), daemon=True).start()
        node = make_node(shutdown)
        shutdown.begin(work(node))
    except Exception as error:
        _explain(error, shutdown)
    finally:
        _clean_up(node, shutdown)
    return shutdown.code


def _clean_up(node: Node | None, shutdown: Shutdown) -> None:
    shutdown.begin(shutdown.code)
    try:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    except Exception as error:
        _explain(error, shutdown)
    shutdown.finish()


def _explain(error: Exception, shutdown: Shutdown) -> None:
    """Ends the work because of an error, of which one line says the reason."""
    if isinstance(error, CONTEXT_CLOSED) and not rclpy.ok():
        return  # no error: a signal came in the middle of something
    if isinstance(error, PerceptionError):
        print(f"error: {one_line(error, 2000)}", file=sys.stderr)
        shutdown.begin(EXIT_BAD_INPUT)
        return
    traceback.print_exception(error)
    print(f"error: a defect ends this process: {with_kind(error)}", file=sys.stderr)
    shutdown.fail()


def fail(node: Node, log: ThrottledLog, shutdown: Shutdown, error: BaseException) -> None:
    """Ends the process because of a defect that a thread of a node has met; to be called in that thread.

    Args:
        node: Whose thread it is.
        log: Is told the traceback.
        shutdown: Of the process.
        error: What was raised.
    """
    if isinstance(error, CONTEXT_CLOSED) and not node.context.ok():
        return  # no error: a signal came in the middle of something
    thread = threading.current_thread().name
    try:
        log.defect(error)
        node.get_logger().fatal(f"a defect in the thread {thread} ends this process: {with_kind(error)}")
    finally:
        shutdown.fail()


def _initialise(argv: Sequence[str] | None) -> None:
    try:
        rclpy.init(args=None if argv is None else [sys.argv[0], *argv])
    except (rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError, UnicodeEncodeError) as error:
        raise ConfigError(f"the ROS arguments are wrong: {error}") from None


def spin(node: Node, threads: int = 1, shutdown: Shutdown | None = None) -> None:
    """Runs the node's callbacks until SIGINT, SIGTERM, a shutdown of its context, or a defect.

    Args:
        node: The node.
        threads: How many callbacks of different groups may run at a time.
        shutdown: Where the node's own threads say that they have met a defect.
    """
    shutdown = shutdown or Shutdown()
    executor: Executor = SingleThreadedExecutor(context=node.context)
    if threads > 1:
        executor = MultiThreadedExecutor(threads, context=node.context)
    executor.add_node(node)
    with contextlib.suppress(ExternalShutdownException):
        try:
            while node.context.ok() and not shutdown.has_begun:
                executor.spin_once(_POLL_S)
        except CONTEXT_CLOSED:
            if node.context.ok():
                raise

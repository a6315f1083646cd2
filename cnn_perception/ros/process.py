"""How the nodes run as processes: images cross without loss, signals end quietly, errors are one line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, ConfigError, PerceptionError, one_line
from cnn_perception.ros import transport

NodeT = TypeVar("NodeT", bound=Node)

CONTEXT_CLOSED = (rclpy_implementation.RCLError, rclpy_implementation.InvalidHandle)
"""What rclpy raises when a signal closes the context under a callback; look at `context.ok()` before ignoring it."""


_LOOK_S = 0.2
_GRACE_S = 1.5
"""What is still busy this long after a signal, such as loading a model, is left: a robot waits three seconds."""


def run(make_node: Callable[[], NodeT], work: Callable[[NodeT], int], argv: Sequence[str] | None = None) -> int:
    """Makes a node, lets it work, and cleans up.

    Args:
        make_node: Makes the node once rclpy is initialised.
        work: Returns the exit code when the node is done, usually after `spin`.
        argv: Command line without the program's name; None takes the process's.

    Returns:
        The exit code; `EXIT_BAD_INPUT` after printing one line if a setting is unusable.
    """
    transport.prepare_process()
    # rclpy's handler ends the spin; Python's would raise KeyboardInterrupt anywhere, and twice under a launch file.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    node: NodeT | None = None
    is_done = threading.Event()
    try:
        _initialise(argv)
        threading.Thread(target=_leave_in_time, args=(rclpy.get_default_context(), is_done), daemon=True).start()
        node = make_node()
        return work(node)
    except PerceptionError as error:
        print(f"error: {one_line(error, 2000)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except CONTEXT_CLOSED:
        if rclpy.ok():
            raise
        return EXIT_OK  # a signal came before the node was complete
    finally:
        if node is not None:
            with _signal_is_no_error():
                node.destroy_node()
        rclpy.try_shutdown()
        is_done.set()


def _leave_in_time(context: Context, is_done: threading.Event) -> None:
    """Ends the process some time after a signal, whatever its other threads are doing."""
    while context.ok():
        if is_done.wait(_LOOK_S):
            return
    if not is_done.wait(_GRACE_S):
        sys.stdout.flush()
        os._exit(EXIT_OK)


@contextlib.contextmanager
def _signal_is_no_error() -> Iterator[None]:
    try:
        yield
    except CONTEXT_CLOSED:
        if rclpy.ok():
            raise


def _initialise(argv: Sequence[str] | None) -> None:
    try:
        rclpy.init(args=None if argv is None else [sys.argv[0], *argv])
    except (rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError) as error:
        raise ConfigError(f"the ROS arguments are wrong: {error}") from None


def spin(node: Node, threads: int = 1) -> None:
    """Runs the node's callbacks until SIGINT, SIGTERM or a shutdown of its context.

    Args:
        node: The node.
        threads: How many callbacks of different groups may run at a time.
    """
    executor: Executor = SingleThreadedExecutor(context=node.context)
    if threads > 1:
        executor = MultiThreadedExecutor(threads, context=node.context)
    executor.add_node(node)
    with contextlib.suppress(ExternalShutdownException):
        try:
            executor.spin()
        except CONTEXT_CLOSED:
            if node.context.ok():
                raise

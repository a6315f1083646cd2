"""How the nodes run as processes: images cross without loss, signals end quietly, errors are one line."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from cnn_perception import transport
from cnn_perception.errors import EXIT_BAD_INPUT, ConfigError, PerceptionError

NodeT = TypeVar("NodeT", bound=Node)

CONTEXT_CLOSED = (rclpy_implementation.RCLError, rclpy_implementation.InvalidHandle)
"""What rclpy raises when a signal closes the context under a callback; look at `context.ok()` before ignoring it."""


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
    try:
        _initialise(argv)
        node = make_node()
        return work(node)
    except PerceptionError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_BAD_INPUT
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


def _initialise(argv: Sequence[str] | None) -> None:
    try:
        rclpy.init(args=None if argv is None else [sys.argv[0], *argv])
    except (rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError) as error:
        raise ConfigError(f"the ROS arguments are wrong: {error}") from None


def spin(node: Node) -> None:
    """Runs the node's callbacks until SIGINT, SIGTERM or a shutdown of its context."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    with contextlib.suppress(ExternalShutdownException):
        try:
            executor.spin()
        except CONTEXT_CLOSED:
            if node.context.ok():
                raise

"""The doctor's own ROS node: it subscribes and calls services, and its callbacks run only while it is told to spin."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

_SERVICE_TIMEOUT_S = 3.0


class RosClient:
    """A node whose callbacks run only during `spin` and `call`."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)

    def spin(self, seconds: float, done: Callable[[], bool] = lambda: False) -> None:
        """Runs the node's callbacks until `done` returns True, at most for some seconds."""
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0 and not done():
            self._executor.spin_once(min(left_s, 0.1))

    def call(self, service_type: Any, service: str, request: Any) -> Any:  # noqa: ANN401 services are untyped
        """Returns a service's response; None if there is none in time."""
        client: Any = self.node.create_client(service_type, service)
        try:
            self.spin(_SERVICE_TIMEOUT_S, client.service_is_ready)
            if not client.service_is_ready():
                return None
            future = client.call_async(request)
            self.spin(_SERVICE_TIMEOUT_S, future.done)
            return future.result() if future.done() else None
        finally:
            self.node.destroy_client(client)


@contextlib.contextmanager
def connected_client() -> Iterator[RosClient]:
    """Yields a client in a ROS context of its own; Ctrl-C stays Python's."""
    context = Context()
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        name = f"doctor_{os.getpid()}"
        node = Node(
            name, context=context, use_global_arguments=False, enable_rosout=False, start_parameter_services=False
        )
        yield RosClient(node)
        node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)

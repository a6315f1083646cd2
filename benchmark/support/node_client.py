"""A ROS node that counts the classifications of perception nodes, and activates and deactivates them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from vision_msgs.msg import Classification

from cnn_perception.image.messages import nanoseconds

_TIMEOUT_S = 60.0
_POLL_S = 0.1


class NodeClient:
    """Subscribes to classifications as a robot would, and switches perception nodes on and off.

    Attributes:
        node: The ROS node.
        counts: How many classifications have arrived, by topic.
        ages_s: How old they were then, by the system's clock.
    """

    def __init__(self, topics: Sequence[str], name: str = "benchmark") -> None:
        rclpy.init()
        self.node = Node(name)
        self.counts = dict.fromkeys(topics, 0)
        self.ages_s: dict[str, list[float]] = {topic: [] for topic in topics}
        for topic in topics:
            self.node.create_subscription(Classification, topic, lambda one, topic=topic: self._count(topic, one), 10)

    def _count(self, topic: str, message: Classification) -> None:
        self.counts[topic] += 1
        self.ages_s[topic].append((time.time_ns() - nanoseconds(message.header.stamp)) / 1e9)

    def spin(self, seconds: float) -> None:
        """Receives for this long."""
        deadline_s = time.perf_counter() + seconds
        while (left_s := deadline_s - time.perf_counter()) > 0:
            rclpy.spin_once(self.node, timeout_sec=left_s)

    def rates_hz(self, seconds: float) -> dict[str, float]:
        """Returns the classifications a second by topic, measured for some seconds."""
        before = dict(self.counts)
        started_s = time.perf_counter()
        self.spin(seconds)
        elapsed_s = time.perf_counter() - started_s
        return {topic: (count - before[topic]) / elapsed_s for topic, count in self.counts.items()}

    def set_active(self, name: str, is_active: bool) -> None:
        """Activates or deactivates a node.

        Args:
            name: Fully qualified name of the node.
            is_active: Whether it is to be active.

        Raises:
            SystemExit: If it does not start or does not change its state.
        """
        self._wait_until(name, State.PRIMARY_STATE_INACTIVE if is_active else State.PRIMARY_STATE_ACTIVE)
        number = Transition.TRANSITION_ACTIVATE if is_active else Transition.TRANSITION_DEACTIVATE
        request = ChangeState.Request(transition=Transition(id=number))
        response = self._call(ChangeState, name, "change_state", request)
        if response is None or not response.success:
            raise SystemExit(f"error: {name} does not change its state; see its log above")

    def set_parameter(self, name: str, parameter: str, value: float) -> None:
        """Sets a parameter of a node.

        Raises:
            SystemExit: If it does not start or refuses the value.
        """
        request = SetParameters.Request(parameters=[Parameter(parameter, value=value).to_parameter_msg()])
        response = self._call(SetParameters, name, "set_parameters", request)
        if response is None or not response.results[0].successful:
            raise SystemExit(f"error: {name} does not take {parameter}={value}; see its log above")

    def _wait_until(self, name: str, state: int) -> None:
        """Waits for a state, for a node that has just been started configures and activates itself."""
        deadline_s = time.perf_counter() + _TIMEOUT_S
        while True:
            response = self._call(GetState, name, "get_state", GetState.Request())
            if response is not None and response.current_state.id == state:
                return
            if time.perf_counter() > deadline_s:
                raise SystemExit(f"error: {name} does not get ready; see its log above")
            self.spin(_POLL_S)

    def _call(self, kind: Any, name: str, service: str, request: Any) -> Any:  # noqa: ANN401 services are untyped
        """Returns a service's response; None if there is none in time."""
        client: Any = self.node.create_client(kind, f"{name}/{service}")
        if not client.wait_for_service(timeout_sec=_TIMEOUT_S):
            raise SystemExit(f"error: {name} does not start; see its log above")
        future = client.call_async(request)
        rclpy.spin_until_future_complete(self.node, future, timeout_sec=_TIMEOUT_S)
        self.node.destroy_client(client)
        return future.result() if future.done() else None

"""A bond by which Nav2's lifecycle manager sees within seconds that a node has died.

Both ends say on one topic, a few times a second, that they live; an end that goes says so. Source: ROS 2 branch of
bond_core, bondcpp and BondSM; its use by nodes: nav2_ros_common, LifecycleNode::createBond; by the manager:
nav2_lifecycle_manager, createBondConnection.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any, Literal

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile

from cnn_perception.ros.process import CONTEXT_CLOSED

HEARTBEAT_PERIOD_S = 0.25
"""Of Nav2's nodes, where the parameter `bond_heartbeat_period` does not say otherwise."""
_HEARTBEAT_TIMEOUT_S = 4.0
"""What Nav2's nodes say; its lifecycle manager goes by its own `bond_timeout`."""
_CONNECT_TIMEOUT_S = 10.0
"""An end that nobody answers is given up. Source: bond/msg/Constants, DEFAULT_CONNECT_TIMEOUT."""
_FAREWELL_S = 0.1
"""How long the last word may take to arrive; bondcpp waits as long."""

State = Literal["waiting", "formed", "broken"]


def status_type() -> type[Any] | None:
    """Returns the message class of bonds; None where the package bond is not installed."""
    try:
        from bond.msg import Status
    except ImportError:
        return None
    found: type[Any] = Status
    return found


def bond_of(node: Node, period_s: float) -> Bond | None:
    """Returns a bond of the node to whoever manages it; None where the package bond is not installed, which is logged.

    Args:
        node: The node.
        period_s: Seconds between two signs of life; 0 for no bond.
    """
    if not period_s:
        return None
    status = status_type()
    if status is None:
        node.get_logger().warning(
            "no bond to a lifecycle manager: the package bond is not installed; install it (ros-$ROS_DISTRO-bond), or "
            "set bond_heartbeat_period, and bond_timeout of Nav2's lifecycle manager, to 0.0"
        )
        return None
    return Bond(node, period_s, status)


class Bond:
    """A node's end; the other end is that of Nav2's lifecycle manager, which knows the node by its name.

    The manager's silence is no reason for anything, as with Nav2's own nodes: a robot goes on without it. The topic is
    there as long as the node.
    """

    def __init__(self, node: Node, period_s: float, status: type[Any]) -> None:
        """Begins without a sign of life.

        Args:
            node: The node, whose executor also serves the bond.
            period_s: Seconds between two signs of life.
            status: Message class, bond/msg/Status.
        """
        self._node = node
        self._period_s = period_s
        self._status = status
        self._lock = threading.Lock()  # guards the three below, and that nothing follows the last word
        self._state: State = "broken"
        self._instance_id = ""
        self._began_s = 0.0
        group = MutuallyExclusiveCallbackGroup()
        self._publisher = node.create_publisher(status, "bond", QoSProfile(depth=5))
        node.create_subscription(status, "bond", self._hear, QoSProfile(depth=100), callback_group=group)
        # A steady clock: a robot is alive while its simulation stands still.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(period_s, self._beat, group, clock)
        self._timer.cancel()

    def begin(self) -> None:
        """Says from now on that the node lives."""
        with self._lock:
            self._state = "waiting"
            self._instance_id = str(uuid.uuid4())
            self._began_s = time.monotonic()
        self._timer.reset()

    def end(self) -> None:
        """Breaks the bond, which the other end learns at once; harmless where it is broken, or the context closed."""
        try:
            self._timer.cancel()
            with self._lock:
                was = self._state
                self._state = "broken"
                if was != "broken":
                    self._say(is_active=False)
            if was == "formed":
                self._publisher.wait_for_all_acked(Duration(nanoseconds=int(_FAREWELL_S * 1e9)))
        except CONTEXT_CLOSED:
            if self._node.context.ok():
                raise

    def _beat(self) -> None:
        with self._lock:
            if self._state == "waiting" and time.monotonic() > self._began_s + _CONNECT_TIMEOUT_S:
                self._state = "broken"
                self._log(f"nobody has answered the bond for {_CONNECT_TIMEOUT_S:.0f} s; it is given up")
            if self._state != "broken":
                self._say(is_active=True)

    def _hear(self, message: Any) -> None:  # noqa: ANN401 messages are untyped
        if message.id != self._node.get_name() or message.instance_id == self._instance_id:
            return
        with self._lock:
            if message.active and self._state == "waiting":
                self._state = "formed"
                self._log("bond formed: its lifecycle manager sees that this node lives")
            elif not message.active and self._state != "broken":
                self._state = "broken"
                self._say(is_active=False)  # which the other end waits for
                self._log("the other end has broken the bond")

    def _say(self, is_active: bool) -> None:
        message = self._status(id=self._node.get_name(), instance_id=self._instance_id, active=is_active)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.heartbeat_period = self._period_s
        message.heartbeat_timeout = _HEARTBEAT_TIMEOUT_S
        self._publisher.publish(message)

    def _log(self, text: str) -> None:
        self._node.get_logger().info(text)

"""A camera subscription that is read when a frame is wanted: what arrives in between costs no Python at all.

An executor would turn every image into a Python message, and walk all of the node's services and timers for each, only
for most of a fast camera's images to be thrown away. Here the middleware's own queue of depth 1 is the one slot in
which the newest frame waits, so latency never grows with a queue, however fast the camera is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions

MessageT = TypeVar("MessageT")

IMAGE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class _NotForTheExecutor(CallbackGroup):
    """Hides what is in it from the executor."""

    def can_execute(self, entity: Any) -> bool:  # noqa: ANN401 rclpy's entities have no common public type
        return False

    def beginning_execution(self, entity: Any) -> bool:  # noqa: ANN401
        return False

    def ending_execution(self, entity: Any) -> None:  # noqa: ANN401
        pass


class Inlet(Generic[MessageT]):
    """A subscription whose messages are taken by one thread of the caller's; a `line.Source`."""

    def __init__(self, node: Node, kind: type[MessageT], topic: str, on_missed: Callable[[int], None]) -> None:
        """Subscribes.

        Args:
            node: Whose subscription this is; its executor never sees it.
            kind: Message class.
            topic: Fully qualified name.
            on_missed: Called by `take` with the number of messages that a newer one overtook, or that were lost on
                the way. It is read from the publisher's sequence numbers: nothing is counted where the middleware does
                not tell them, or between the messages of two publishers.
        """
        self._node, self._on_missed = node, on_missed
        # Without event callbacks: the middleware would wake the executor for them with every image.
        self._subscription: Any = node.create_subscription(
            kind,
            topic,
            lambda _: None,
            IMAGE_QOS,
            callback_group=_NotForTheExecutor(),
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self.kind, self.topic = kind, topic
        self._closing = GuardCondition(None, None, context=node.context)
        self._is_closed = threading.Event()
        self._latest = (b"", 0)  # publisher and sequence number of the latest message
        context = node.context.handle
        assert context is not None
        with context:
            self._wait_set = rclpy_implementation.WaitSet(1, 1, 0, 0, 0, 0, context)

    def wait(self) -> bool:
        """Waits until a message is there; returns False once the inlet is closed."""
        while not self._is_closed.is_set():
            self._wait_set.clear_entities()
            subscription = self._wait_set.add_subscription(self._subscription.handle)
            self._wait_set.add_guard_condition(self._closing.handle)
            self._wait_set.wait(-1)
            if self._wait_set.is_ready("subscription", subscription):
                return not self._is_closed.is_set()
        return False

    def take(self) -> MessageT | None:
        """Returns the newest message without waiting; None if there is none."""
        newest: MessageT | None = None
        # Usually once; a qos_override can make the queue longer, and a frame can arrive meanwhile.
        while (taken := self._subscription.handle.take_message(self.kind, False)) is not None:
            if newest is not None:
                self._on_missed(1)
            newest, info = taken
            self._count_missed(info)
        return newest

    def _count_missed(self, info: Mapping[str, Any]) -> None:
        number, publisher = info.get("publication_sequence_number"), info.get("publisher_gid")
        if number is None or (publisher is None and self._node.count_publishers(self.topic) > 1):
            return
        publisher_id = b"" if publisher is None else bytes(publisher["data"])
        previous_id, previous_number = self._latest
        if publisher_id == previous_id and number > previous_number + 1 > 1:
            self._on_missed(number - previous_number - 1)
        self._latest = publisher_id, number

    def misfits(self) -> list[str]:
        """Says which publishers of the topic cannot be received because their QoS does not fit, and why."""
        found = []
        for publisher in self._node.get_publishers_info_by_topic(self.topic):
            verdict, reason = qos_check_compatible(publisher.qos_profile, self._subscription.qos_profile)
            if verdict == QoSCompatibility.ERROR:
                found.append(f"{publisher.node_name}: {reason}")
        return found

    def close(self) -> None:
        """Ends every present and future `wait`; may be called from another thread."""
        self._is_closed.set()
        self._closing.trigger()

    def destroy(self) -> None:
        """Unsubscribes; nobody may be waiting any more."""
        self._node.destroy_subscription(self._subscription)
        self._closing.destroy()

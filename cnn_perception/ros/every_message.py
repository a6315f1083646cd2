"""Takes every message of some topics, serialised as it came, in a thread of its own that does nothing else."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from cnn_perception.ros.latest_subscription import LatestSubscription

_DEPTH = 50
"""Messages of a topic that wait for the thread: more than a second of a camera, for busy machines."""
_PERIOD_S = 0.5
"""How often the QoS is fitted to the publishers."""


class EveryMessage:
    """Subscriptions whose every message is handed on: topic, type, time of reception in nanoseconds, and CDR."""

    def __init__(
        self,
        node: Node,
        topics: Sequence[tuple[Any, str]],
        purpose: str,
        on_message: Callable[[str, str, int, bytes], None],
        on_missed: Callable[[int], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Subscribes, and starts the thread.

        Args:
            node: Whose subscriptions these are; its executor never sees them.
            topics: (message class, fully qualified name before remapping) of each; what remapping makes the same is
                subscribed once.
            purpose: A word, for the parameters that override their QoS.
            on_message: Called in the thread with each message, of each topic in its order.
            on_missed: Called in the thread with how many messages were sent and cannot be handed on, as far as the
                middleware tells.
            on_failure: Called in the thread with the defect that ends it.

        Raises:
            ConfigError: If the QoS is overridden with what cannot be.
        """
        self._on_message = on_message
        self._on_failure = on_failure
        self._is_closed = threading.Event()
        self._subscriptions: list[LatestSubscription[Any]] = []
        best = ReliabilityPolicy.BEST_AVAILABLE
        try:
            for kind, name in {(kind, node.resolve_topic_name(name)): (kind, name) for kind, name in topics}.values():
                one = LatestSubscription(node, kind, name, best, on_missed, on_missed, depth=_DEPTH, qos_id=purpose)
                self._subscriptions.append(one)
        except BaseException:
            self._destroy_subscriptions()
            raise
        self._end = GuardCondition(None, None, context=node.context)
        handle = node.context.handle
        assert handle is not None
        with handle:  # while a `LatestSubscription` is replaced it has two
            self._wait_set = rclpy_implementation.WaitSet(2 * len(self._subscriptions), 1, 0, 0, 0, 0, handle)
        self._thread = threading.Thread(target=self._run, name="every message", daemon=True)
        self._thread.start()

    def publishers(self, topic: str) -> list[Any]:
        """Returns who publishes a topic, rclpy's `TopicEndpointInfo` of each.

        Args:
            topic: Its name after remapping.
        """
        return next(one.publishers() for one in self._subscriptions if one.topic == topic)

    def misfits(self) -> list[str]:
        """Says which publishers of the topics cannot be received because their QoS does not fit, and why."""
        return [misfit for one in self._subscriptions for misfit in one.misfits()]

    def close(self) -> None:
        """Ends the thread once it has handed on what waits, and unsubscribes."""
        self._is_closed.set()
        self._end.trigger()
        self._thread.join()
        self._end.destroy()
        self._destroy_subscriptions()

    def _destroy_subscriptions(self) -> None:
        for one in self._subscriptions:
            one.destroy()

    def _run(self) -> None:
        try:
            fitted_s = -math.inf
            while not self._is_closed.is_set():
                if time.monotonic() - fitted_s >= _PERIOD_S:
                    fitted_s = time.monotonic()
                    for one in self._subscriptions:
                        one.fit()
                self._wait()
                self._take()
        except BaseException as error:  # a SystemExit, too, which threads swallow
            self._on_failure(error)

    def _wait(self) -> None:
        """Waits for a message, but not for ever: publishers come and go."""
        self._wait_set.clear_entities()
        self._wait_set.add_guard_condition(self._end.handle)
        for one in self._subscriptions:
            for handle in one.handles:
                self._wait_set.add_subscription(handle)
        self._wait_set.wait(math.ceil(_PERIOD_S * 1e9))

    def _take(self) -> None:
        for one in self._subscriptions:
            for payload, received_ns in one.take_each():
                self._on_message(one.topic, one.type_name, received_ns, payload)

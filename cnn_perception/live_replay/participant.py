"""This process in the node's ROS domain: it publishes what the bag holds, and hears all that the node says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from vision_msgs.msg import VisionInfo

from cnn_perception.bag.offered_qos import OfferedQos
from cnn_perception.errors import DataError
from cnn_perception.image.messages import nanoseconds
from cnn_perception.live_replay.accounts import NodeCounts
from cnn_perception.ros import transport
from cnn_perception.stream.frame_counters import STAGE_KEY

_POLL_S = 0.05
"""How often the graph is asked, which tells nobody that it has changed."""
_ASK_AGAIN_S = 2.0
"""A request that is not answered for so long was lost: a server drops the answer to whom it has not discovered yet."""
_ANSWERS_QUEUE = 1000
_DEFAULT_DEPTH = 10
_LATEST_S = 2**31 - 1
"""The largest number of seconds that builtin_interfaces/Time holds."""


class NodeEndedError(DataError):
    """The node's process is gone."""


class StartError(DataError):
    """The node did not get ready in time, or not as it was asked to."""


@dataclass(frozen=True)
class Heard:
    """A message and the moment in which it arrived, `time.monotonic`."""

    message: Any
    moment_s: float


class Participant:
    """A ROS node of this process; its callbacks run in a thread, the methods are for the thread that made it.

    Attributes:
        node: The ROS node.
    """

    def __init__(self, domain: int, robot: str) -> None:
        """Joins a domain.

        Args:
            domain: Its number.
            robot: Fully qualified name of the perception_node.
        """
        self._robot = robot
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("evaluate_bag", context=self._context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._news = threading.Condition()  # guards all that follows
        self._has_ended = False
        self._heard: dict[str, list[Heard]] = {}
        self._diagnoses = 0
        self._latest: DiagnosticArray | None = None
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._hear_diagnosis, 10)
        self._clock = self.node.create_publisher(Clock, "/clock", QoSProfile(depth=1))
        self._thread = threading.Thread(target=self._spin, name="replay participant", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leaves the domain, as the last one: the node has ended."""
        self._executor.shutdown()
        self._thread.join()
        transport.let_ended_nodes_go(self.node)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    # ---- what comes

    def note_end(self) -> None:
        """Notes that the node's process is gone; may be called from any thread."""
        with self._news:
            self._has_ended = True
            self._news.notify_all()

    def hear(self, kind: type[Any], topic: str, *, is_latched: bool = False) -> list[Heard]:
        """Subscribes; the list grows in the order in which messages arrive."""
        found: list[Heard] = []
        durability = DurabilityPolicy.TRANSIENT_LOCAL if is_latched else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=_ANSWERS_QUEUE, durability=durability, reliability=ReliabilityPolicy.RELIABLE)

        def note(message: Any) -> None:  # noqa: ANN401 messages are untyped
            moment_s = time.monotonic()
            with self._news:
                found.append(Heard(message, moment_s))
                self._news.notify_all()

        self.node.create_subscription(kind, topic, note, qos)
        return found

    def _hear_diagnosis(self, message: DiagnosticArray) -> None:
        with self._news:
            self._latest = message
            self._diagnoses += 1
            self._news.notify_all()

    # ---- waiting

    def wait_for(self, condition: Callable[[], Any], within_s: float, what: str) -> None:
        """Waits until something is true.

        Raises:
            NodeEndedError: If the node ends before.
            StartError: If the time is over; says what was waited for.
        """
        deadline_s = time.monotonic() + within_s
        with self._news:
            while not condition():
                if self._has_ended:
                    raise NodeEndedError("the node has ended")
                if time.monotonic() > deadline_s:
                    raise StartError(f"after {within_s:g} s (--start-limit) there is still no {what}")
                self._news.wait(_POLL_S)

    def pause(self, seconds: float) -> bool:
        """Waits for a while, or until the node ends; returns whether it goes on."""
        deadline_s = time.monotonic() + seconds
        with self._news:
            while not self._has_ended and (left_s := deadline_s - time.monotonic()) > 0:
                self._news.wait(left_s)
            return not self._has_ended

    @property
    def diagnoses(self) -> int:
        """How many diagnoses have come so far."""
        with self._news:
            return self._diagnoses

    def diagnosed_ns(self) -> int:
        """Returns the node's clock in its latest diagnosis, nanoseconds; -1 before the first."""
        with self._news:
            return -1 if self._latest is None else nanoseconds(self._latest.header.stamp)

    def cameras(self) -> dict[str, dict[str, str]]:
        """Returns what the latest diagnosis says of each camera by its name, empty for the only one."""
        prefix = f"{self._robot}: camera"
        with self._news:
            statuses = [] if self._latest is None else list(self._latest.status)
        found = [one for one in statuses if one.name == prefix or one.name.startswith(f"{prefix} ")]
        return {one.name.removeprefix(prefix).strip(): _values(one) for one in found}

    def counts(self, camera: str) -> NodeCounts:
        """Returns what the latest diagnosis counts of a camera's frames."""
        return NodeCounts.of_status(self.cameras().get(camera, {}))

    def stages(self, camera: str) -> dict[str, str]:
        """Returns `p50 / p95` in milliseconds of each stage of a camera's latest frames, by the latest diagnosis."""
        values = self.cameras().get(camera, {})
        return {key.removesuffix(STAGE_KEY): text for key, text in values.items() if key.endswith(STAGE_KEY)}

    def parameters(self, names: Sequence[str], within_s: float) -> dict[str, Any]:
        """Returns values of the node's parameters.

        Raises:
            NodeEndedError: If the node ends before.
            StartError: If it does not answer in time.
        """
        client: Any = self.node.create_client(GetParameters, f"{self._robot}/get_parameters")
        self.wait_for(client.service_is_ready, within_s, "service of the node")
        futures = [client.call_async(GetParameters.Request(names=list(names)))]
        asked_s = time.monotonic()

        def is_answered() -> bool:
            nonlocal asked_s
            if time.monotonic() > asked_s + _ASK_AGAIN_S:
                futures.append(client.call_async(GetParameters.Request(names=list(names))))
                asked_s = time.monotonic()
            return any(future.done() for future in futures)

        self.wait_for(is_answered, within_s, "answer of the node to what its parameters are")
        values = next(future.result() for future in futures if future.done()).values
        self.node.destroy_client(client)
        return dict(zip(names, map(parameter_value_to_python, values), strict=True))

    def hear_model(self, within_s: float) -> None:
        """Waits for the node's latched description of its model.

        A node discovers subscriptions in the order in which they were made: once this one is served, so are those made
        before it.
        """
        found = self.hear(VisionInfo, f"{self._robot}/vision_info", is_latched=True)
        self.wait_for(lambda: found, within_s, "description of the node's model")

    # ---- what goes

    def publisher(self, kind: type[Any], topic: str, offered: OfferedQos) -> Any:  # noqa: ANN401
        """Returns a publisher that offers what was offered on the robot."""
        reliability = ReliabilityPolicy.RELIABLE if offered.is_reliable else ReliabilityPolicy.BEST_EFFORT
        durability = DurabilityPolicy.TRANSIENT_LOCAL if offered.is_latched else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=offered.depth or _DEFAULT_DEPTH, reliability=reliability, durability=durability)
        # Without event callbacks: a node whose reliability does not fit at first chooses another, and that is no news.
        quiet = PublisherEventCallbacks(use_default_callbacks=False)
        return self.node.create_publisher(kind, topic, qos, event_callbacks=quiet)

    def publish_clock(self, time_ns: int) -> None:
        """Publishes the simulated time, nanoseconds."""
        seconds, rest = divmod(max(time_ns, 0), 10**9)
        message = Clock()
        message.clock.sec = min(seconds, _LATEST_S)
        message.clock.nanosec = rest
        self._clock.publish(message)


def _values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}

"""follow_node: drives towards a class that the perception node recognises, and stands still when in doubt.

An example of what results are good for. `controller` computes the velocities; this is its ROS adapter. The robot's
base must have its own timeout of cmd_vel, as every base should: no program stops a robot whose computer has died.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import Twist, TwistStamped, Vector3Stamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import uninstall_signal_handlers
from vision_msgs.msg import Classification

from cnn_perception.errors import EXIT_OK, ConfigError
from cnn_perception.follow_node.class_list import ClassList
from cnn_perception.follow_node.controller import (
    ControllerConfig,
    FollowController,
    Ray,
    StampedClassification,
    VelocityCommand,
    stop,
)
from cnn_perception.follow_node.standstill import COMMANDS, StandstillLog
from cnn_perception.image.messages import nanoseconds
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.ros import given_parameters, parameters, process
from cnn_perception.ros.parameters import parameter
from cnn_perception.ros.throttled_log import ThrottledLog

_NEWEST_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_LOOK_S = 1.0
"""How often the node looks into the graph: who publishes the answers, and who takes the commands."""
_SIGNAL_POLL_S = 0.05
"""Python handles a signal only between two waits."""


@dataclass(frozen=True)
class FollowSettings:
    """The parameters of `follow_node`.

    Raises:
        ConfigError: If a value is out of range, or no class can be followed.
    """

    follow: str = parameter("", "Name of the class to drive to; required.", live=True)
    stop_classes: Sequence[str] = parameter(
        (UNKNOWN,),
        "Classes in whose presence nothing moves, as far as answers list them, see top_k and threshold of "
        "perception_node; unknown always is one.",
        live=True,
    )
    min_score: float = parameter(0.6, "Least score of a class that counts as seen.", between=(0.0, 1.0), live=True)
    linear: float = parameter(0.2, "Speed forward, m/s.", between=(0.0, 5.0), live=True)
    gain: float = parameter(1.5, "Turning speed per radian of bearing, 1/s.", between=(0.0, 20.0), live=True)
    max_angular: float = parameter(0.8, "Largest turning speed, rad/s.", between=(0.0, 10.0), live=True)
    forward_within: float = parameter(
        0.35, "Largest bearing at which the robot drives forward while it turns, rad.", between=(0.0, 1.5), live=True
    )
    timeout_s: float = parameter(
        0.5,
        "Age from which an answer stops the robot, by its arrival and by its stamp.",
        between=(0.05, 5.0),
        live=True,
    )
    rate_hz: float = parameter(
        20.0, "Commands a second; the next one after timeout_s is the stop.", between=(1.0, 200.0), read_only=True
    )
    stamped: bool = parameter(False, "Publish TwistStamped instead of Twist.", read_only=True)
    frame_id: str = parameter("base_link", "Frame of a TwistStamped.", read_only=True)

    def __post_init__(self) -> None:
        parameters.validate(self)
        self.controller_config()

    def controller_config(self) -> ControllerConfig:
        """Returns when to move, and how fast."""
        return ControllerConfig(
            follow=self.follow,
            stop_classes=frozenset(self.stop_classes),
            min_score=self.min_score,
            linear=self.linear,
            gain=self.gain,
            max_angular=self.max_angular,
            forward_within=self.forward_within,
            timeout_s=self.timeout_s,
        )


class FollowNode(parameters.ParameterNode):
    """Subscribes to `classification`, its `label_info` and `ray`, publishes `cmd_vel` at a fixed rate, zeros included.

    Attributes:
        shutdown: Of the process.
    """

    def __init__(self, shutdown: process.Shutdown, node_name: str = "follow_node") -> None:
        """Declares the parameters and subscribes.

        Args:
            shutdown: Of the process.
            node_name: Its name.

        Raises:
            ConfigError: If a parameter is unusable.
        """
        super().__init__(node_name)
        self.shutdown = shutdown
        parameters.declare(self, FollowSettings)
        given_parameters.warn_of_unknown(self)
        given_parameters.warn_of_unknown_qos(self)
        self._settings = parameters.read(self, FollowSettings)
        self._config = self._settings.controller_config()
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._controller = FollowController()
        self._latest = stop("just started")
        self._message_type: type[Twist | TwistStamped] = TwistStamped if self._settings.stamped else Twist
        self._commands = self.create_publisher(self._message_type, COMMANDS, _NEWEST_QOS)
        self.create_subscription(Classification, "classification", self._on_classification, _NEWEST_QOS)
        self.create_subscription(Vector3Stamped, "ray", self._on_ray, _NEWEST_QOS)
        self._classes = ClassList(self, "classification", self._on_classes)
        self._standstill = StandstillLog(
            self,
            {"answers": ("classification", Classification), "rays": ("ray", Vector3Stamped)},
            _NEWEST_QOS,
            self._commands,
            ThrottledLog(self.get_logger()),
        )
        self._looked_s = time.monotonic()
        period_s = 1.0 / self._settings.rate_hz
        heartbeat = shutdown.expect("no commands", period_s + process.STALL_S)
        # A steady clock, so that the robot also stops in a simulation whose /clock stands still.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(period_s, heartbeat.after(self._on_timer), clock=clock)
        self.get_logger().info(f"following {self._config.follow}: {self._commands.topic_name}")

    def stop_robot(self, reason: str) -> None:
        """Publishes a zero velocity and waits until it has arrived."""
        if self.context.ok():
            self._publish(stop(reason))
            self._commands.wait_for_all_acked(Duration(seconds=1))

    def _check_parameters(self, changed: list[Parameter[Any]]) -> SetParametersResult:
        try:
            parameters.read(self, FollowSettings, changed)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, _changed: list[Parameter[Any]]) -> None:
        self._config = parameters.read(self, FollowSettings).controller_config()

    def _on_classification(self, message: Classification) -> None:
        results = [(result.class_id, result.score) for result in message.results]
        stamp_ns = nanoseconds(message.header.stamp)
        self._controller.update_classification(StampedClassification(stamp_ns, results, time.monotonic()))
        self._stop_at_once()

    def _on_classes(self, names: frozenset[str]) -> None:
        self._controller.update_classes(names)
        self._stop_at_once()

    def _stop_at_once(self) -> None:
        """Stops the robot if it must: that does not wait for the timer."""
        if self._latest.moves and not (command := self._compute_command()).moves:
            self._publish(command)

    def _on_ray(self, message: Vector3Stamped) -> None:
        vector = message.vector
        self._controller.update_ray(Ray(nanoseconds(message.header.stamp), (vector.x, vector.y, vector.z)))

    def _on_timer(self) -> None:
        self._publish(self._compute_command())
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._classes.fit()
            self._standstill.look(self._latest, now_s)

    def _compute_command(self) -> VelocityCommand:
        return self._controller.compute_command(self._config, time.monotonic(), self.get_clock().now().nanoseconds)

    def _publish(self, command: VelocityCommand) -> None:
        if command.moves != self._latest.moves:
            self.get_logger().info(f"{'driving' if command.moves else 'stopped'}: {command.reason}")
        self._latest = command
        twist = Twist()
        twist.linear.x = command.linear
        twist.angular.z = command.angular
        if self._message_type is Twist:
            self._commands.publish(twist)
            return
        message = TwistStamped(twist=twist)
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self._settings.frame_id
        self._commands.publish(message)


def _work(node: FollowNode) -> int:
    signals: list[int] = []
    # rclpy's handler would close the context before the last command is out.
    uninstall_signal_handlers()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: signals.append(received))
    try:
        process.spin(node, node.shutdown, is_done=lambda: signals, poll_s=_SIGNAL_POLL_S)
    finally:
        node.shutdown.doom(EXIT_OK)  # the last command is not waited for any longer than all else
        node.stop_robot("this node ends")
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Drives until Ctrl-C or SIGTERM; returns the exit code."""
    if text := parameters.help_of("follow_node", __doc__ or "", FollowSettings, argv=argv):
        print(text)
        return EXIT_OK
    return process.run(FollowNode, _work, argv)

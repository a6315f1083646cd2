"""Says why the robot stands still where that lasts: what does not arrive, or nobody hears, or no model knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

from cnn_perception.follow_node.controller import Cause, VelocityCommand
from cnn_perception.ros import topics
from cnn_perception.ros.throttled_log import ThrottledLog

LASTS_S = 3.0
"""A reason that has lasted so long is said: longer than nodes that start together take to find each other."""
COMMANDS = "cmd_vel"
"""Topic of the commands before remapping."""
_OF_COMMANDS = ("geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")
"""Of which the parameter `stamped` chooses."""


class StandstillLog:
    """Watches the commands for reasons that last, and looks into the graph for what is behind them."""

    def __init__(
        self,
        node: Node,
        inputs: Mapping[Cause, tuple[str, type[Any]]],
        qos: QoSProfile,
        commands: Publisher[Any],
        log: ThrottledLog,
    ) -> None:
        """Begins to watch.

        Args:
            node: Whose commands they are.
            inputs: Name before remapping, and type, of the topic without which there is a cause to stand still.
            qos: With which the node subscribes to them.
            commands: Where the commands go.
            log: Is told.
        """
        self._node = node
        self._inputs = inputs
        self._qos = qos
        self._commands = commands
        self._log = log
        self._state: tuple[Cause | None, bool] | None = None
        self._since_s = 0.0
        self._is_view_told = False

    def look(self, command: VelocityCommand, now_s: float) -> None:
        """Takes the command of this moment; to be called about once a second.

        Args:
            command: The newest.
            now_s: Seconds of any monotonic clock.
        """
        if self._state != (command.cause, command.moves):
            self._state, self._since_s, self._is_view_told = (command.cause, command.moves), now_s, False
        if command.cause != "answers":
            self._log.is_over("answers", "answers come")
            if command.cause != "classes":
                self._log.is_over("classes", "the model knows every class that is named")
        if command.moves:
            self._log.is_over("rays", "rays come with the stamps of answers")
            self._log.is_over("stamps", "the stamps of frames are those of now")
        lasts = now_s - self._since_s >= LASTS_S
        self._look_at_listeners(command.moves and lasts)
        if command.cause == "classes" or (lasts and command.cause in ("answers", "rays", "stamps")):
            self._log.lasts(command.cause, f"the robot stands still: {self._behind(command)}")
        elif lasts and command.cause == "view" and not self._is_view_told:  # as it should: no trouble
            self._is_view_told = True
            self._node.get_logger().info(f"the robot stands still: {command.reason}")

    def _behind(self, command: VelocityCommand) -> str:
        """Returns what is behind a command to stand still, without the numbers that change all the time."""
        if command.cause == "stamps":
            return "the stamps of the frames are too old, or of another clock than this node's; see use_sim_time"
        known = self._inputs.get(command.cause) if command.cause else None
        if known is None:
            return command.reason
        name, kind = known
        topic = self._node.resolve_topic_name(name)
        infos = self._node.get_publishers_info_by_topic(name)  # rclpy remaps what it is asked for
        misfits = topics.misfits(infos, self._qos)
        advice = f"check the remapping of {name}"
        reason = topics.why_none_arrives(infos, name, topics.type_name(kind), misfits, advice)
        what = "no answers come" if command.cause == "answers" else "no rays with the stamps of answers come"
        return f"{what} on {topic}: {reason or f'published by {topics.in_words(infos)}, see its log and diagnostics'}"

    def _look_at_listeners(self, drives: bool) -> None:
        """Warns where the base cannot take the commands, and where they should move it and nobody hears them."""
        topic, me = self._commands.topic_name, self._node.get_fully_qualified_name()
        infos = self._node.get_subscriptions_info_by_topic(COMMANDS)
        own = topics.type_name(self._commands.msg_type)
        others = [info for info in infos if info.topic_type != own]
        # As the graph has it: in the publisher's own profile, what has no limit is 0 and not infinite.
        offers = [info for info in self._node.get_publishers_info_by_topic(COMMANDS) if topics.node_of(info) == me]
        verdicts = [qos_check_compatible(one.qos_profile, info.qos_profile) for one in offers[:1] for info in infos]
        misfits = [reason for verdict, reason in verdicts if verdict == QoSCompatibility.ERROR]
        if others:
            is_choice = all(info.topic_type in _OF_COMMANDS for info in others)
            stamped = str(own == _OF_COMMANDS[0]).lower()
            advice = f"set stamped:={stamped}" if is_choice else "check the remapping of cmd_vel"
            text = f"{topic} is subscribed by {topics.in_words(others)}; this node publishes {own}, {advice}"
        elif misfits:
            text = f"{topic} is subscribed by {topics.in_words(infos)}, whose QoS does not fit: {'; '.join(misfits)}"
        elif drives and not infos:
            text = f"nobody subscribes to {topic}, so nothing moves; check the remapping of cmd_vel, and ROS_DOMAIN_ID"
        else:
            if infos:
                self._log.is_over("cmd_vel", f"{topic} is subscribed by {topics.in_words(infos)}")
            return
        self._log.lasts("cmd_vel", text)

"""A node's black box and what it is given: images and camera_info as they come, the node's answers and diagnostics.

In it is every image that reached this process while the node was active, whether it was answered, dropped, or overtaken
by a newer one before the node looked at it: the black box has subscriptions of its own. Not in it is what was lost on
the way (the middleware tells how much), and an answer that was published after the window.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.serialization import serialize_message
from std_msgs.msg import String
from std_srvs.srv import Trigger

from cnn_perception import topic_names
from cnn_perception.background.shadow import Shadow
from cnn_perception.black_box.black_box import BlackBox, BlackBoxReport
from cnn_perception.black_box.ring import Kept
from cnn_perception.black_box.settings import SERVICE, TOPIC, BlackBoxSettings
from cnn_perception.black_box.watch import Watch
from cnn_perception.errors import printable
from cnn_perception.perception_node.diagnostics import CameraStatus
from cnn_perception.ros.every_message import EveryMessage
from cnn_perception.ros.process import CONTEXT_CLOSED
from cnn_perception.ros.supervised_executor import WaitingGroup

_ANSWERED_WITHIN_S = 3.0
"""A call that has something saved waits so long for the disk, and is told then what is known."""
_CLOSE_S = 1.0
"""How long messages under way may take to be written when the node ends; a hanging disk does not hold it up longer."""
_LATEST_S = 5.0
"""A message is not taken to have been received longer ago than this before it was taken: the clock was set."""
_CALIBRATION = "sensor_msgs/msg/CameraInfo"
_MOST_CHARACTERS = 200
"""That are kept of what somebody on the graph gives as the reason."""


class NodeBox:
    """The black box of a node, which goes on without it where it meets a defect."""

    def __init__(self, node: Node, settings: BlackBoxSettings) -> None:
        """Keeps nothing before `start`; the service and the topic are there where the settings name them."""
        self._node = node
        logger = node.get_logger()

        def say(text: str) -> None:
            if node.context.ok():  # after a signal there is nobody to tell, and rcl complains of that
                logger.info(f"black box: {text}")

        def warn(text: str) -> None:
            if node.context.ok():
                logger.warning(f"black box: {text}")

        name = node.get_fully_qualified_name()
        self._box = BlackBox(settings, f"{name}/black_box", say, warn, self._tell_of_defect)
        self._watch = Watch(self._box, settings.unknown_streak)
        self._inputs: EveryMessage | None = None
        if SERVICE in settings.causes:
            node.create_service(Trigger, "~/save_black_box", self._save_now, callback_group=WaitingGroup())
        if TOPIC in settings.causes:
            node.create_subscription(String, "~/black_box_trigger", self._save_for, 10)

    # ---- what comes and goes with the node's state

    def start(self, topics: Sequence[tuple[Any, str]]) -> None:
        """Begins to keep what comes.

        Args:
            topics: (message class, fully qualified name before remapping) of the images and calibrations.

        Raises:
            ConfigError: If the QoS of a topic is overridden with what cannot be.
        """
        self._box.begin()
        self._inputs = EveryMessage(
            self._node, topics, "black_box", self._keep_as_it_came, self._box.note_missed, self._fail
        )

    def stop(self) -> None:
        """Ends a recording under way, and forgets what is in memory; harmless when it keeps nothing."""
        if self._inputs is not None:
            self._inputs.close()
            self._inputs = None
        self._box.end()

    def close(self) -> None:
        """Ends the thread that writes, once it has written or the disk takes too long; `stop` comes before."""
        self._box.close(_CLOSE_S)

    # ---- what is kept

    def keep(self, topic: str, message: Any) -> None:  # noqa: ANN401 messages share no base
        """Keeps a message that the node publishes."""
        kind = type(message)
        package = kind.__module__.partition(".")[0]
        payload = serialize_message(message)
        self._box.keep(Kept(topic, f"{package}/msg/{kind.__name__}", time.time_ns(), time.monotonic(), payload))

    def _keep_as_it_came(self, topic: str, kind: str, received_ns: int, payload: bytes) -> None:
        age_s = min(max((time.time_ns() - received_ns) / 1e9, 0.0), _LATEST_S)
        is_state = kind == _CALIBRATION
        self._box.keep(Kept(topic, kind, received_ns, time.monotonic() - age_s, payload, is_state))

    # ---- what has it saved

    def note_answer(self, topic: str, is_unknown: bool, shadow: Shadow | None) -> None:
        """Looks at an answer to a frame of a topic; for the thread that delivers."""
        self._watch.answer(topic, is_unknown)
        self._watch.disputes(*(shadow.disputes if shadow is not None else (0, "")))

    def note_diagnoses(self, array: DiagnosticArray, cameras: Sequence[CameraStatus]) -> None:
        """Keeps the diagnoses and looks for drift in them; for the thread that diagnoses."""
        self.keep(topic_names.DIAGNOSTICS, array)
        for camera in cameras:
            self._watch.drift(camera.topic, camera.drift.warnings if camera.drift is not None else ())

    def _save_now(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Saves the last seconds, and says whether they can be; the bag is whole once its window is over."""
        response.success, response.message = self._box.save(SERVICE, "asked for", _ANSWERED_WITHIN_S)
        return response

    def _save_for(self, message: String) -> None:
        """Saves the last seconds for the reason that a message gives."""
        said = printable(" ".join(message.data.split())[:_MOST_CHARACTERS])
        incident = self._box.trigger(TOPIC, said or "asked for")
        if incident is None or incident.problem:
            why = "the node is not active" if incident is None else incident.problem
            self._node.get_logger().warning(f"black box: nothing is saved: {why}")

    def report(self) -> BlackBoxReport:
        """Returns what it holds and has done."""
        return self._box.report()

    def _fail(self, error: BaseException) -> None:
        if not (isinstance(error, CONTEXT_CLOSED) and not self._node.context.ok()):
            self._box.fail(error)

    def _tell_of_defect(self, error: BaseException) -> None:
        logger = self._node.get_logger()
        logger.error("".join(traceback.format_exception(error)).rstrip())
        logger.error(f"the black box has ended ({type(error).__name__}: {error})")

"""perception_node as tests talk to it: images that are published, answers that arrive, parameters, diagnostics."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros import Participant
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from cnn_perception.image.messages import RgbImage

NODE = "/perception_node"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE)


def picture(seed: int, height: int = 48, width: int = 80) -> RgbImage:
    return RgbImage(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def image(stamp: tuple[int, int], pixels: np.ndarray, frame_id: str = "camera") -> Image:
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width, data=array("B", pixels.tobytes()))
    message.header = Header(stamp=Time(sec=stamp[0], nanosec=stamp[1]), frame_id=frame_id)
    return message


def now() -> tuple[int, int]:
    """A stamp of the node's clock; others are of another one, which is odd."""
    return divmod(time.time_ns(), 10**9)


def stamp(message: Any) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


PROBE_S = 7_777
"""Stamp of the frames that only find out whether every topic is connected."""


def camera_of(ros: Participant, *answers: list[Any], topic: str = "image_raw", probe: Any = None) -> Any:
    """A publisher of images whose answers are known to arrive on every topic; the answers are empty again."""
    probe = probe or image((PROBE_S, 0), picture(0))
    camera = ros.publisher(type(probe), topic)
    connect(ros, [camera], answers, probe)
    return camera


def connect(ros: Participant, cameras: Sequence[Any], answers: Sequence[list[Any]], probe: Any) -> None:
    """Publishes probes until all topics are connected, which DDS does one by one, and no answer is under way."""

    def publish() -> None:
        probe.header.stamp.nanosec += 1
        for camera in cameras:
            camera.publish(probe)

    def all_answer() -> bool:
        publish()
        return all(answers)

    ros.wait_for(all_answer, "an answer on every topic")
    ros.repeat(publish, lambda: all(answers_to(probe, topic) for topic in answers), "the answers to the last probe")
    for topic in answers:
        topic.clear()


def answers_to(message: Any, answers: list[Any]) -> bool:
    """Whether the latest answer is to this frame: none to an earlier one can follow."""
    return bool(answers) and stamp(answers[-1]) == stamp(message)


def ask(ros: Participant, camera: Any, message: Any, *answers: list[Any]) -> None:
    """Publishes a frame, whose stamp no frame before it has, until it is the one answered last on every topic."""
    ros.repeat(
        lambda: camera.publish(message),
        lambda: all(answers_to(message, topic) for topic in answers),
        f"the answers to the frame of {stamp(message)}",
    )


def drop(ros: Participant, camera: Any, message: Any, reason: str, statuses: list[DiagnosticArray]) -> None:
    """Publishes a frame until the node's diagnoses count one more that was dropped for this reason."""
    key = f"dropped: {reason}"
    before = latest_count(ros, statuses, key)
    ros.repeat(
        lambda: camera.publish(message),
        lambda: latest_count(ros, statuses, key) > before,
        f"a frame to be {key}",
    )


def state(ros: Participant) -> str:
    return ros.call(GetState, f"{NODE}/get_state", GetState.Request()).current_state.label


def wait_until(ros: Participant, label: str) -> None:
    """Waits for a state of the node, which answers before it has configured and activated itself."""
    ros.wait_for(lambda: state(ros) == label, f"the state {label}")


def transition(ros: Participant, number: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=number))
    return ros.call(ChangeState, f"{NODE}/change_state", request).success


def set_parameter(ros: Participant, name: str, value: object) -> Any:
    kinds = {bool: ("bool_value", 1), float: ("double_value", 3), int: ("integer_value", 2), str: ("string_value", 4)}
    field, number = kinds[type(value)]
    parameter = Parameter(name=name, value=ParameterValue(**{"type": number, field: value}))
    return ros.call(SetParameters, f"{NODE}/set_parameters", SetParameters.Request(parameters=[parameter])).results[0]


def diagnosis(ros: Participant, of: str) -> DiagnosticStatus:
    """The status of the camera or the model as it is now: the second one that arrives was made after the call."""
    received: list[DiagnosticArray] = []
    subscription = ros.node.create_subscription(DiagnosticArray, "/diagnostics", received.append, 10)
    ros.wait_for(lambda: len(received) >= 2, "diagnostics")
    ros.node.destroy_subscription(subscription)
    return next(s for s in received[-1].status if s.name == f"{NODE}: {of}")


def value(status: DiagnosticStatus, key: str) -> str:
    return next((pair.value for pair in status.values if pair.key == key), "0")


def count(ros: Participant, key: str, of: str = "camera") -> int:
    """A figure of the camera's status as it is now."""
    return int(value(diagnosis(ros, of), key))


def latest_count(ros: Participant, statuses: list[DiagnosticArray], key: str) -> int:
    """A figure of the camera's status in the latest of these diagnoses."""
    ros.wait_for(lambda: statuses, "diagnostics")
    return int(value(next(s for s in statuses[-1].status if s.name == f"{NODE}: camera"), key))

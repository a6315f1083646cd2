"""perception_node as tests talk to it: images that are published, answers that arrive, parameters, diagnostics."""

from __future__ import annotations

from array import array
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


def stamp(message: Any) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


PROBE_S = 7_777
"""Stamp of the frames that only find out whether every topic is connected."""


def camera_of(ros: Participant, *answers: list[Any], topic: str = "image_raw", probe: Any = None) -> Any:
    """A publisher of images whose answers are known to arrive: DDS connects topics one by one, in no known order."""
    probe = probe or image((PROBE_S, 0), picture(0))
    camera = ros.publisher(type(probe), topic)

    def all_connected() -> bool:
        if all(answers):
            return True
        probe.header.stamp.nanosec += 1
        camera.publish(probe)
        return False

    ros.wait_for(all_connected, f"answers to {topic}")
    # The newest frame is always answered, and the last.
    ros.wait_for(lambda: all(stamp(found[-1]) == stamp(probe) for found in answers), "the last probe's answers")
    for topic_answers in answers:
        topic_answers.clear()
    return camera


def state(ros: Participant) -> str:
    return ros.call(GetState, f"{NODE}/get_state", GetState.Request()).current_state.label


def transition(ros: Participant, number: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=number))
    return ros.call(ChangeState, f"{NODE}/change_state", request).success


def set_parameter(ros: Participant, name: str, value: object) -> Any:
    kinds = {float: ("double_value", 3), int: ("integer_value", 2), str: ("string_value", 4)}
    field, number = kinds[type(value)]
    parameter = Parameter(name=name, value=ParameterValue(**{"type": number, field: value}))
    return ros.call(SetParameters, f"{NODE}/set_parameters", SetParameters.Request(parameters=[parameter])).results[0]


def diagnosis(ros: Participant, of: str) -> DiagnosticStatus:
    """The next status of the camera or the model that the node publishes."""
    received = ros.collect(DiagnosticArray, "/diagnostics")
    ros.wait_for(lambda: len(received) >= 2, "diagnostics")
    return next(s for s in received[-1].status if s.name == f"{NODE}: {of}")


def value(status: DiagnosticStatus, key: str) -> str:
    return next((pair.value for pair in status.values if pair.key == key), "0")

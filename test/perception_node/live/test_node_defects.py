"""Owns: defects of the node itself, made on purpose: it drops one frame or ends, and never only looks alive.

They are made in the libraries below the node by a `sitecustomize` that every Python process imports.
"""

from __future__ import annotations

import signal
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from frames import saved
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from perception import NODE, camera_of, now, transition, value
from ros import Participant, Process, new_domain, participant
from sensor_msgs.msg import CompressedImage
from tiny_model import write_tiny_model
from vision_msgs.msg import Classification

DEFECTS = """
import os, time
import onnxruntime, simplejpeg
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.publisher import Publisher

class MadeOnPurpose(Exception): pass

def broken(owner, name, is_meant, act):
    sound = getattr(owner, name)
    def wrapped(*arguments, **options):
        if is_meant(*arguments, **options):
            act()
        return sound(*arguments, **options)
    setattr(owner, name, wrapped)

def fail():
    raise MadeOnPurpose("a defect")

def hang():
    open(os.path.join(FOLDER, "hangs"), "w").close()
    time.sleep(1000)

def is_wanted(name):
    return os.path.exists(os.path.join(FOLDER, name))

broken(simplejpeg, "decode_jpeg", lambda data, *_: b"DEFECT" in bytes(data), fail)
broken(onnxruntime.InferenceSession, "run", lambda *_: is_wanted("infer"), fail)
broken(onnxruntime.InferenceSession, "run", lambda *_: is_wanted("hang"), hang)
broken(Publisher, "publish", lambda _, m: type(m).__name__ == "Classification" and is_wanted("deliver"), fail)
broken(LifecycleNode, "create_lifecycle_publisher", lambda *_, **__: is_wanted("configure"), fail)
broken(Node, "create_subscription", lambda *_, **__: is_wanted("activate"), fail)
broken(
    rclpy_implementation.Subscription, "take_message", lambda _, kind, *__: kind.__name__ == "CompressedImage"
    and is_wanted("take"), fail
)
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Process]:
    """A node that meets the defect whose name a file in `tmp_path` has, and one in every JPEG that says DEFECT.

    Such a file is there from the start if the test names it.
    """
    if hasattr(request, "param"):
        (tmp_path / request.param).touch()
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(f"FOLDER = {str(tmp_path)!r}\n{DEFECTS}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "patch"), prepend=":")
    settings = {"model": write_tiny_model(tmp_path / "tiny.onnx"), "providers": "[CPUExecutionProvider]"}
    settings |= {"image_transport": "compressed", "diagnostics_period_s": 0.05}
    process = Process("perception_node", new_domain(), tmp_path / "log", **settings)
    try:
        yield process
    finally:
        if process.running:
            process.signal(signal.SIGKILL)
        process.wait()


@pytest.fixture
def ros(node: Process) -> Iterator[Participant]:
    with participant(node.domain) as one:
        yield one


def jpeg(comment: str) -> CompressedImage:
    file = saved(PilImage.fromarray(np.full((48, 80, 3), (200, 10, 10), np.uint8)), "JPEG", comment=comment)
    message = CompressedImage(format="jpeg", data=array("B", file))
    message.header.stamp.sec, message.header.stamp.nanosec = now()
    return message


def dropped(statuses: list[DiagnosticArray]) -> int:
    """How many frames the latest diagnosis says met a defect."""
    cameras = [status for array in statuses[-1:] for status in array.status if status.name == f"{NODE}: camera"]
    return int(value(cameras[0], "dropped: defect")) if cameras else 0


def levels(statuses: list[DiagnosticArray]) -> list[bytes]:
    return [status.level for array in statuses for status in array.status if status.name == f"{NODE}: camera"]


def fatal(process: Process) -> list[str]:
    return [line for line in process.log.splitlines() if "FATAL" in line]


class Camera:
    """A camera whose frames the node is known to answer, with the answers and diagnoses since."""

    def __init__(self, ros: Participant) -> None:
        self._ros = ros
        self._defects = 0
        self.answers = ros.collect(Classification, f"{NODE}/classification")
        self.statuses = ros.collect(DiagnosticArray, "/diagnostics")
        self._camera = camera_of(ros, self.answers, topic="/image_raw/compressed", probe=jpeg("good"))

    def show(self, comment: str) -> None:
        self._camera.publish(jpeg(comment))

    def is_well(self) -> bool:
        """Shows a good frame; returns whether the node has answered one, and says that all is well."""
        self.show("good")
        return bool(self.answers) and levels(self.statuses)[-1] == DiagnosticStatus.OK

    def show_defects(self, count: int) -> None:
        """Shows frames that meet a defect, one after the other."""
        for _ in range(count):
            self._defects += 1
            self.show("DEFECT")
            self._ros.wait_for(lambda: dropped(self.statuses) == self._defects, "the frame to be counted")


def test_frame_whose_decoding_meets_a_defect_is_dropped_and_the_next_is_answered(node: Process, ros: Participant):
    camera = Camera(ros)
    for _ in range(3):
        camera.statuses.clear()
        camera.answers.clear()
        camera.show_defects(1)
        assert DiagnosticStatus.ERROR in levels(camera.statuses)
        ros.wait_for(camera.is_well, "the next frame's answer, and the camera to be well again")
    node.signal(signal.SIGINT)
    assert node.wait() == 0
    assert node.log.count("Traceback") == 1
    assert "MadeOnPurpose: a defect" in node.log


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "while an inference hangs"])
def test_third_defect_in_a_row_ends_the_process(node: Process, ros: Participant, tmp_path: Path, busy: bool):
    camera = Camera(ros)
    if busy:
        (tmp_path / "hang").touch()
        camera.show("good")
        ros.wait_for((tmp_path / "hangs").exists, "the inference that hangs")
    camera.show_defects(2)
    camera.show("DEFECT")
    assert node.wait() == 1
    (line,) = fatal(node)
    assert line.endswith("MadeOnPurpose: a defect")


@pytest.mark.parametrize("stage", ["take", "infer", "deliver"])
def test_defect_in_a_stage_ends_the_process_with_one_line(node: Process, ros: Participant, tmp_path: Path, stage: str):
    camera = Camera(ros)
    (tmp_path / stage).touch()
    camera.show("good")
    assert node.wait() == 1
    (line,) = fatal(node)
    assert line.endswith("MadeOnPurpose: a defect")
    assert node.log.count("Traceback") == 1


@pytest.mark.parametrize("node", ["configure", "activate"], indirect=True)
def test_defect_in_a_transition_at_start_ends_the_process_with_one_line(node: Process):
    assert node.wait() == 1
    (line,) = fatal(node)
    assert line.endswith("MadeOnPurpose: a defect")
    assert node.log.count("Traceback") == 1


def test_a_transition_that_the_state_has_not_is_refused_and_the_node_goes_on(node: Process, ros: Participant):
    camera = Camera(ros)  # the node is active
    for number in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CONFIGURE, 99):
        assert not transition(ros, number)
    camera.answers.clear()
    ros.repeat(lambda: camera.show("good"), lambda: camera.answers, "an answer")
    assert fatal(node) == []
    assert transition(ros, Transition.TRANSITION_DEACTIVATE)
    assert not transition(ros, Transition.TRANSITION_DEACTIVATE)
    assert node.running


def test_defect_in_a_transition_by_service_ends_the_process_with_one_line(
    node: Process, ros: Participant, tmp_path: Path
):
    Camera(ros)  # the node is active
    assert transition(ros, Transition.TRANSITION_DEACTIVATE)
    (tmp_path / "activate").touch()
    client = ros.node.create_client(ChangeState, f"{NODE}/change_state")
    ros.wait_for(client.service_is_ready, "the service")
    client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVATE)))
    assert node.wait() == 1
    (line,) = fatal(node)
    assert line.endswith("MadeOnPurpose: a defect")

"""Owns: that the health which a live node tells of is true: silence, losses, namesakes, listeners, recordings.

Leaves to others: the words and levels (test_diagnostics), what hangs for good (test_injection).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from injection import InjectedNode, Injection
from perception import NODE, camera_of, image, latest_count, now, picture, set_parameter, value
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from ros import ROOT, Participant, Process, new_domain, participant, running
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from tiny_model import write_tiny_model
from vision_msgs.msg import Classification

from cnn_perception.ros.transport import profile_variable

TIMEOUT_S = 1.0
SLOW_S = 2.0
"""Of an inference, far longer than a camera may be silent."""
SLOW_OR_HANGING = f"""
import os, time
import onnxruntime

run = onnxruntime.InferenceSession.run

def slow_run(*arguments, **options):
    if os.path.exists(os.path.join(FOLDER, "slow")):
        time.sleep({SLOW_S})
    if os.path.exists(os.path.join(FOLDER, "hang")):
        time.sleep(1000)
    return run(*arguments, **options)

onnxruntime.InferenceSession.run = slow_run
"""


@pytest.fixture(scope="module")
def node(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("health")
    settings = {"model": write_tiny_model(folder / "tiny.onnx"), "diagnostics_period_s": 0.05}
    with running("perception_node", domain, folder / "log.txt", image_timeout_s=TIMEOUT_S, **settings) as process:
        yield process


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """A node whose inferences are slow while there is a file `slow` in `tmp_path`, and hang with a file `hang`."""
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(f"FOLDER = {str(tmp_path)!r}\n{SLOW_OR_HANGING}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "patch"), prepend=":")
    settings = {"model": write_tiny_model(tmp_path / "tiny.onnx"), "diagnostics_period_s": 0.05}
    settings |= {"image_timeout_s": TIMEOUT_S, "providers": "[CPUExecutionProvider]"}
    process = Process("perception_node", new_domain(), tmp_path / "log", **settings)
    try:
        yield process
    finally:
        if process.running:
            process.signal(signal.SIGKILL)
        process.wait()


class Said:
    """What the node's diagnoses say of its camera, or of another status of it."""

    def __init__(self, ros: Participant, of: str = "camera") -> None:
        self._name = f"{NODE}: {of}"
        self._arrays = ros.collect(DiagnosticArray, "/diagnostics")

    @property
    def statuses(self) -> list[DiagnosticStatus]:
        return [status for array in self._arrays for status in array.status if status.name == self._name]

    @property
    def messages(self) -> list[str]:
        return [status.message for status in self.statuses]

    @property
    def latest(self) -> DiagnosticStatus:
        return (self.statuses or [DiagnosticStatus(level=DiagnosticStatus.STALE)])[-1]


def shows(camera: Any) -> bool:
    camera.publish(image(now(), picture(1)))
    return True


# ---- silence


def test_camera_is_not_called_silent_while_a_slow_model_works_and_is_once_it_has_stopped(busy: Process, tmp_path: Path):
    with participant(busy.domain) as ros:
        answers = ros.collect(Classification, f"{NODE}/classification")
        camera = camera_of(ros, answers)
        before = busy.log.count("no images on")  # a busy machine may have been slow to bring the first image
        (tmp_path / "slow").touch()
        said = Said(ros)
        ros.wait_for(lambda: shows(camera) and len(answers) >= 4, "some answers")
        assert not [text for text in said.messages if "no image" in text]
        assert busy.log.count("no images on") == before
        assert float(value(said.latest, "inference p50/p95 (ms)").rpartition("/ ")[2]) >= SLOW_S * 1e3
        ros.wait_for(lambda: "no image for" in said.latest.message, "the silence, now that nothing is published")


def test_camera_is_not_called_silent_while_a_stage_is_blocked(busy: Process, tmp_path: Path):
    with participant(busy.domain) as ros:
        camera = camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
        before = busy.log.count("no images on")
        (tmp_path / "hang").touch()
        said = Said(ros)

        def hangs_for_long() -> bool:
            found = re.search(r"no frame is answered: inference of a frame for ([\d.]+) s", said.latest.message)
            return shows(camera) and found is not None and float(found[1]) > 3 * TIMEOUT_S

        ros.wait_for(hangs_for_long, "the stage to be blocked for longer than a camera may be silent")
        assert not [text for text in said.messages if "no image" in text]
        assert busy.log.count("no images on") == before


def test_camera_that_waits_for_its_turn_is_not_called_silent(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    assert set_parameter(ros, "max_rate_hz", 0.4).successful  # every 2.5 s
    try:
        said = Said(ros)
        ros.wait_for(lambda: shows(camera) and len(answers) >= 3, "answers at the rate")
        assert not [text for text in said.messages if "no image" in text]
    finally:
        assert set_parameter(ros, "max_rate_hz", 0.0).successful


def test_silence_and_its_end_are_logged_once(ros: Participant, node: Process):
    camera = camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
    said = Said(ros)

    def lines(text: str) -> int:
        return node.log.count(text)

    for _ in range(2):
        ros.wait_for(lambda: shows(camera) and said.latest.level == DiagnosticStatus.OK, "the camera to be well")
        silent, again = lines("no images on /image_raw"), lines("images on /image_raw again")
        ros.wait_for(lambda: "no image for 4" in said.latest.message, "the camera to be silent for seconds")
        assert "it has stopped" in said.latest.message
        assert lines("no images on /image_raw") == silent + 1
        ros.wait_for(
            lambda n=again: shows(camera) and lines("images on /image_raw again") > n, "the end of it to be logged"
        )
        ros.wait_for(lambda: shows(camera) and said.latest.level == DiagnosticStatus.OK, "the camera to be well again")
        assert lines("images on /image_raw again") == again + 1


# ---- frames that are lost on the way

PUBLISHER = """
import time, rclpy
from array import array
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("stranger")
qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
publisher = node.create_publisher(Image, "/image_raw", qos)
message = Image(height=1080, width=1920, encoding="rgb8", step=5760, data=array("B", bytes(1080 * 5760)))
while True:
    now_ns = time.time_ns()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 10**9)
    publisher.publish(message)
    time.sleep(0.05)
"""


@pytest.fixture
def stranger(domain: int) -> Iterator[None]:
    """Somebody else's best-effort camera of 1080p, whose process has no DDS profile."""
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    for name in ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        environment.pop(name, None)
    process = subprocess.Popen([sys.executable, "-c", PUBLISHER], cwd=ROOT, env=environment)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("stranger")
def test_frames_that_a_best_effort_camera_loses_are_counted_and_both_ways_out_are_said(ros: Participant, node: Process):
    ros.collect(Classification, f"{NODE}/classification")
    said = Said(ros)
    ros.wait_for(lambda: "lost on the way" in said.latest.message, "the warning")
    assert said.latest.level == DiagnosticStatus.WARN
    for text in (said.latest.message, node.log):
        assert "offers best effort; have it publish reliable, or give the camera's process the DDS profile" in text
        assert profile_variable(os.environ) in text
    assert node.log.count("frames of /image_raw are lost on the way") == 1
    assert value(said.latest, "subscription") == "best effort, as its publishers offer"
    assert int(value(said.latest, "lost on the way")) > 1


def test_frames_of_a_camera_too_fast_are_overtaken_not_lost_and_that_is_no_fault(ros: Participant):
    """Ten are published at once, again and again: nobody could answer all of them."""
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera_of(ros, answers)
    camera = ros.publisher(Image, "image_raw", 1000)  # which keeps each image until it is received, however late
    said = Said(ros)
    ros.wait_for(lambda: value(said.latest, "subscription") == "reliable, as its publishers offer", "the subscription")
    ros.wait_for(camera.get_subscription_count, "the connection")
    lost = value(said.latest, "lost on the way")
    frame = image(now(), picture(1, 48, 64))  # published sooner than it is answered

    def overtaken() -> bool:
        for _ in range(10):
            frame.header.stamp.sec, frame.header.stamp.nanosec = now()
            with contextlib.suppress(rclpy_implementation.RCLError):  # the middleware takes no more for a moment
                camera.publish(frame)
        return bool(re.search(r"answered, \d\d% of the frames overtaken by newer ones", said.latest.message))

    ros.wait_for(overtaken, "the share of the frames that were overtaken")
    assert said.latest.level == DiagnosticStatus.OK
    assert value(said.latest, "lost on the way") == lost


# ---- who else is there


def test_another_node_of_the_same_name_is_named_and_so_is_its_end(ros: Participant, node: Process):
    said = Said(ros, "graph")
    ros.wait_for(lambda: said.latest.level == DiagnosticStatus.OK, "a node that is alone")
    namesake = Node("perception_node", context=ros.context)
    try:
        ros.wait_for(lambda: said.latest.level == DiagnosticStatus.WARN, "the warning")
        assert said.latest.message.startswith(f"2 nodes are called {NODE}: ")
    finally:
        namesake.destroy_node()
    ros.wait_for(lambda: said.latest.level == DiagnosticStatus.OK, "the end of the warning")
    assert node.log.count(f"2 nodes are called {NODE}") == 1
    assert node.log.count("no other node has this node's name any more") == 1


def test_node_whose_answers_nobody_wants_says_so(ros: Participant):
    camera = ros.publisher(Image, "image_raw")
    said = Said(ros)
    received = latest_count(ros, said._arrays, "received")
    ros.wait_for(
        lambda: shows(camera) and latest_count(ros, said._arrays, "received") > received + 1, "frames to be received"
    )
    idle = f"idle: nobody subscribes to {NODE}/classification or another result"
    ros.wait_for(lambda: shows(camera) and said.latest.message == idle, "the reason")
    assert said.latest.level == DiagnosticStatus.OK


# ---- clocks


def test_recording_that_is_played_without_its_clock_is_told_of_use_sim_time(ros: Participant, node: Process):
    camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
    camera = ros.publisher(Image, "image_raw")
    said = Said(ros)
    assert set_parameter(ros, "max_age_s", 0.5).successful
    try:

        def is_told() -> bool:
            second, nanosecond = now()
            camera.publish(image((second - 3600, nanosecond), picture(1)))
            return "too_old): " in said.latest.message and "use_sim_time" in said.latest.message

        ros.wait_for(is_told, "the cure")
        assert said.latest.level == DiagnosticStatus.WARN
    finally:
        assert set_parameter(ros, "max_age_s", 0.0).successful


def test_negative_time_is_ignored_and_said_and_the_node_goes_on(tmp_path: Path):
    domain, model = new_domain(), write_tiny_model(tmp_path / "tiny.onnx")
    with (
        running("perception_node", domain, tmp_path / "log", model=model, use_sim_time=True) as process,
        participant(domain) as ros,
    ):
        clock = ros.publisher(Clock, "/clock")
        answers = ros.collect(Classification, f"{NODE}/classification")
        ros.repeat(
            lambda: clock.publish(Clock(clock=Time(sec=-5))),
            lambda: "a message of /clock is ignored" in process.log,
            "the warning",
        )
        ros.repeat(lambda: clock.publish(Clock(clock=Time(sec=50))), lambda: clock.get_subscription_count(), "time")
        camera_of(ros, answers)
        assert process.running


def test_two_publishers_of_one_topic_are_warned_of_by_name_until_one_ends(tmp_path: Path):
    domain = new_domain()
    place = "cnn_perception.ros.latest_subscription:LatestSubscription.mixed"  # nothing goes wrong there
    injection = Injection(place, constants=(("cnn_perception.ros.latest_subscription:_LEASE_S", 0.5),))
    settings = {"model": write_tiny_model(tmp_path / "tiny.onnx"), "diagnostics_period_s": 0.05}
    node = InjectedNode("perception_node", domain, tmp_path, injection, (), image_timeout_s=1000.0, **settings)
    said = "2 publishers at once mix their frames: /robot_a, /robot_b; remap all but one"
    try:
        with participant(domain) as ros:
            statuses = ros.collect(DiagnosticArray, "/diagnostics")

            def camera() -> tuple[bytes, str] | None:
                found = [one for one in statuses[-1].status if one.name == f"{NODE}: camera"] if statuses else []
                return (found[0].level, found[0].message) if found else None

            drivers = [Node(name, context=ros.context) for name in ("robot_a", "robot_b")]
            for driver in drivers:
                driver.create_publisher(Image, "/image_raw", 1)
            ros.wait_for(lambda: camera() == (DiagnosticStatus.WARN, said), "the warning")
            drivers[1].destroy_node()
            over = "images on /image_raw come from one publisher again"
            ros.wait_for(lambda: over in node.log, "its end")
            ros.wait_for(lambda: camera() not in (None, (DiagnosticStatus.WARN, said)), "the diagnosis without it")
            assert node.log.count(f"images on /image_raw: {said}") == 1
            drivers[0].destroy_node()
        node.terminate()
        assert node.code() == 0
    finally:
        node.kill()

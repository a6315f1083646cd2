"""Owns: what a robot does to a running node: cameras that stop, subscribers that hang, clocks that jump."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from bad_models import BAD_MODELS, BadModel
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from perception import (
    NODE,
    ask,
    camera_of,
    count,
    diagnosis,
    image,
    now,
    picture,
    set_parameter,
    stamp,
    state,
    transition,
    value,
)
from ros import ROOT, Participant, Process, new_domain, participant, running
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from tiny_model import write_tiny_model
from vision_msgs.msg import Classification

from cnn_perception.model.onnx_model import OnnxModel


@pytest.fixture(scope="module")
def node(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("faults")
    settings = {"model": write_tiny_model(folder / "tiny.onnx"), "diagnostics_period_s": 0.05, "image_timeout_s": 0.5}
    settings["model_root"] = folder.parent  # each bad model has a folder of its own
    with running("perception_node", domain, folder / "log.txt", **settings) as process:
        yield process


def latest(statuses: list[DiagnosticArray]) -> DiagnosticStatus:
    """Of the camera, as it was said last."""
    found = (status for array in statuses[-1:] for status in array.status if status.name == f"{NODE}: camera")
    return next(found, DiagnosticStatus(level=DiagnosticStatus.STALE))


def test_camera_that_stops_is_an_error_and_recovers_unaided(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    statuses = ros.collect(DiagnosticArray, "/diagnostics")
    camera = camera_of(ros, answers)

    def is_well() -> bool:
        camera.publish(image(now(), picture(1)))
        return bool(answers) and latest(statuses).level == DiagnosticStatus.OK

    ros.wait_for(is_well, "the camera to be well")
    ros.wait_for(lambda: latest(statuses).level == DiagnosticStatus.ERROR, "the error of a silent camera")
    assert "no image for" in latest(statuses).message
    answers.clear()
    ros.wait_for(is_well, "the camera to be well again")


HANGING_SUBSCRIBER = """
import sys, rclpy
from sensor_msgs.msg import CompressedImage, Image
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Classification
from cnn_perception.ros import transport
transport.prepare_process()
rclpy.init()
node = rclpy.create_node("hanging")
for kind, topic in ((Image, "activation/overlay"), (Image, "activation"), (Classification, "classification")):
    node.create_subscription(kind, f"/perception_node/{topic}", lambda _: print("heard", flush=True), 10)
rclpy.spin(node)
"""


def test_subscriber_that_hangs_holds_nobody_up(ros: Participant, domain: int, tmp_path: Path):
    """A reliable subscriber of every topic is stopped; far more answers than any queue holds still reach the other."""
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    log = tmp_path / "hanging.log"
    with log.open("wb") as file:
        other = subprocess.Popen(
            [sys.executable, "-c", HANGING_SUBSCRIBER], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
    numbers = iter(range(1, 100_000))

    def publish() -> None:
        camera.publish(image((next(numbers), 0), picture(1, 240, 320)))

    try:

        def is_heard() -> bool:
            publish()
            return "heard" in log.read_text()

        ros.wait_for(is_heard, "the other subscriber to be served")
        other.send_signal(signal.SIGSTOP)
        answers.clear()

        def many() -> bool:
            publish()
            return len(answers) >= 150

        ros.wait_for(many, "150 answers while the other subscriber hangs")
        assert [stamp(answer) for answer in answers] == sorted({stamp(answer) for answer in answers})
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("bad", BAD_MODELS, ids=lambda bad: bad.name)
def test_bad_model_is_refused_and_the_running_one_stays(ros: Participant, node: Process, bad: BadModel, tmp_path: Path):
    before = value(diagnosis(ros, "model"), "sha256")
    path = bad.make(tmp_path)
    result = set_parameter(ros, "model", str(path))
    assert not result.successful
    assert all(words.strip() in result.reason for words in (str(path), *bad.words.split(";"))), result.reason
    assert value(diagnosis(ros, "model"), "sha256") == before
    assert node.running


def test_bad_models_leave_a_node_that_answers(ros: Participant, node: Process):
    camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
    assert "Traceback" not in node.log


def test_simulated_time_that_never_begins_is_said_and_frames_are_answered(tmp_path: Path):
    domain, model = new_domain(), write_tiny_model(tmp_path / "tiny.onnx")
    settings = {"model": model, "use_sim_time": True, "diagnostics_period_s": 0.05}
    with running("perception_node", domain, tmp_path / "log", **settings) as process, participant(domain) as ros:
        camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
        ros.wait_for(lambda: "nobody publishes /clock" in process.log, "the warning")
        assert int(value(diagnosis(ros, "camera"), "odd: clock_zero")) >= 1


def test_bag_that_loops_is_answered_in_every_round_under_the_strictest_settings(tmp_path: Path):
    """Time jumps back by ten seconds; with `reject` and `max_age` at most the first frame of a round is lost."""
    domain, model = new_domain(), write_tiny_model(tmp_path / "tiny.onnx")
    settings = {"model": model, "use_sim_time": True, "stamps": "reject", "max_age_s": 0.5}
    with running("perception_node", domain, tmp_path / "log", **settings), participant(domain) as ros:
        answers = ros.collect(Classification, f"{NODE}/classification")
        clock = ros.publisher(Clock, "/clock")
        camera = ros.publisher(Image, "image_raw")
        for _ in range(3):
            answers.clear()
            steps = iter(range(10_000))

            def next_is_answered(steps: Iterator[int] = steps) -> bool:
                step = next(steps)
                second, nanosecond = 100 + step // 20, step % 20 * 50_000_000
                clock.publish(Clock(clock=Time(sec=second, nanosec=nanosecond)))
                camera.publish(image((second, nanosecond), picture(1)))
                return len(answers) >= 20 and stamp(answers[-1])[0] >= 110

            ros.wait_for(next_is_answered, "answers to the end of the round")


def test_image_that_no_jpeg_holds_costs_its_viewers_alone(ros: Participant, node: Process):
    answers = ros.collect(Classification, f"{NODE}/classification")
    drawn = ros.collect(CompressedImage, f"{NODE}/activation/overlay/compressed")
    camera = camera_of(ros, answers, drawn)
    refused = count(ros, "overlay: refused", "viewers")
    wide = image((1, 0), np.zeros((1, 65_501, 3), np.uint8))
    ros.repeat(
        lambda: camera.publish(wide), lambda: count(ros, "overlay: refused", "viewers") > refused, "it to be refused"
    )
    ask(ros, camera, image((2, 0), picture(2)), answers, drawn)
    assert {stamp(answer) for answer in answers} == {(1, 0), (2, 0)}
    assert {stamp(one) for one in drawn} == {(2, 0)}
    assert "no overlay: 65501x1 pixels are more than a .jpg file holds" in node.log


def test_size_and_encoding_may_change_with_every_frame(ros: Participant):
    """A red picture is answered red whatever it comes as; the sizes have nothing in common."""
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    for second, (height, width) in enumerate([(48, 80), (480, 640), (1, 1), (7, 300), (720, 1280), (2, 2)], start=1):
        for number, encoding in enumerate(("rgb8", "bgr8", "rgba8")):
            colour = {"rgb8": (255, 0, 0), "bgr8": (0, 0, 255), "rgba8": (255, 0, 0, 255)}[encoding]
            message = image((second, number), np.full((height, width, len(colour)), colour, np.uint8))
            message.encoding, message.step = encoding, len(colour) * width
            ask(ros, camera, message, answers)
            assert answers[-1].results[0].class_id == "red"
            assert answers[-1].results[0].score > 0.99


def test_gpu_that_is_required_and_missing_ends_the_node_with_one_line(tmp_path: Path):
    if "CUDAExecutionProvider" in OnnxModel(write_tiny_model(tmp_path / "tiny.onnx")).provider:
        pytest.skip("this machine has a GPU")
    process = Process("perception_node", new_domain(), tmp_path / "log", model=tmp_path / "tiny.onnx", require_gpu=True)
    assert process.wait() == 2
    (line,) = [line for line in process.log.splitlines() if "ERROR" in line]
    assert "require_gpu" in line
    assert "Traceback" not in process.log


QOS_OF = "qos_overrides./image_raw.subscription"
QOS_TO = "qos_overrides./perception_node/classification.publisher"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("image_topic:=/2nd/image", "/2nd/image"),
        ("image_topic:=/cam/image_raw/", "/cam/image_raw/"),
        (f"{QOS_OF}.reliability:=relaible", "relaible"),
        (f"{QOS_OF}.depth:=-1", "-1"),
        (f"{QOS_TO}.reliability:=relaible", "relaible"),
    ],
)
def test_topic_that_cannot_be_ends_the_node_with_one_line(setting: str, told: str, tmp_path: Path):
    model = write_tiny_model(tmp_path / "tiny.onnx")
    process = Process("perception_node", new_domain(), tmp_path / "log", "-p", setting, model=model)
    assert process.wait() == 2
    (line,) = [line for line in process.log.splitlines() if "ERROR" in line]
    assert told in line
    assert "Traceback" not in process.log


def test_activation_that_is_refused_leaves_the_node_inactive(tmp_path: Path):
    domain = new_domain()
    settings = {"model": write_tiny_model(tmp_path / "tiny.onnx"), "autostart": False, "image_topic": "/2nd/image"}
    with running("perception_node", domain, tmp_path / "log", **settings) as process, participant(domain) as ros:
        assert transition(ros, Transition.TRANSITION_CONFIGURE)
        for _ in range(2):
            assert not transition(ros, Transition.TRANSITION_ACTIVATE)
            assert state(ros) == "inactive"
        status = diagnosis(ros, "camera")
        assert status.level == DiagnosticStatus.ERROR
        assert status.message.startswith("the node is not active: not activated: parameter image_topic is '/2nd/image'")
        assert process.log.count("not activated: parameter image_topic is '/2nd/image'") == 2

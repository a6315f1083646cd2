"""Owns: several cameras in one node, as processes on real DDS. Leaves to others: a single camera (test_node)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticArray
from perception import NODE, PROBE_S, connect, count, diagnosis, image, now, picture, set_parameter, stamp, value
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros import Participant, Process, new_domain, participant, running
from sensor_msgs.msg import CompressedImage, Image
from tiny_model import write_tiny_model
from vision_msgs.msg import Classification

from cnn_perception.image.messages import RgbImage
from cnn_perception.ros.image_messages import to_jpeg

NAMES = [f"cam{number}" for number in range(8)]


@pytest.fixture(scope="module")
def node(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("node")
    model = write_tiny_model(folder / "tiny.onnx")
    settings = {"model": model, "cameras": f"[{', '.join(NAMES)}]", "max_batch_size": 3, "diagnostics_period_s": 0.05}
    topic = ("-p", "cam7.image_topic:=/rear/image")
    with running("perception_node", domain, folder / "log.txt", *topic, **settings) as process:
        yield process


def topic_of(name: str) -> str:
    return "/rear/image" if name == "cam7" else f"/{name}/image_raw"


def connected(ros: Participant, names: list[str], qos: Any = 10) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """A publisher and the answers of each camera, once all are known to be connected; the answers are empty again."""
    answers = {name: ros.collect(Classification, f"{NODE}/{name}/classification") for name in names}
    cameras = {name: ros.publisher(Image, topic_of(name), qos) for name in names}
    connect(ros, list(cameras.values()), list(answers.values()), image((PROBE_S, 0), picture(0)))
    return cameras, answers


def test_each_camera_gets_its_own_answers(ros: Participant):
    cameras, answers = connected(ros, NAMES)
    colours = np.eye(3, dtype=np.uint8) * 255

    def publish() -> None:
        for number, name in enumerate(NAMES):
            if not answers[name]:
                pixels = np.broadcast_to(colours[number % 3], (48, 80, 3))
                cameras[name].publish(image((number, 5), pixels, frame_id=name))

    ros.repeat(publish, lambda: all(answers.values()), "an answer for every camera")
    for number, name in enumerate(NAMES):
        colour = ("red", "green", "blue")[number % 3]
        found = {(stamp(one), one.header.frame_id, one.results[0].class_id) for one in answers[name]}
        assert found == {((number, 5), name, colour)}


def test_none_of_eight_fast_cameras_starves(ros: Participant):
    """The first camera is published five times as often as the others, and all far faster than is answered."""
    cameras, answers = connected(ros, NAMES, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    pixels = picture(1, 480, 640)
    rounds = 0

    def thirty_each() -> bool:
        nonlocal rounds
        rounds += 1
        for name in NAMES:
            for _ in range(5 if name == "cam0" else 1):
                cameras[name].publish(image((rounds, 0), pixels))
        return min(len(found) for found in answers.values()) >= 30

    ros.wait_for(thirty_each, "30 answers for every camera")
    counts = [len(answers[name]) for name in NAMES]
    # On a busy machine best effort loses some of every camera's frames; one that starves has hardly an answer.
    assert max(counts[1:]) <= 3 * min(counts), counts


def test_a_bad_frame_of_one_camera_costs_the_others_nothing(ros: Participant):
    cameras, answers = connected(ros, NAMES[:3])
    bad = image((1, 0), picture(1))
    bad.encoding = "rgb9"

    def publish() -> None:
        cameras["cam1"].publish(bad)
        for number in (1, 2):
            cameras[f"cam{2 * number - 2}"].publish(image((number, 0), picture(number)))

    def all_dealt_with() -> bool:
        return all(answers[name] for name in ("cam0", "cam2")) and count(ros, "dropped: encoding", "camera cam1") >= 1

    ros.repeat(publish, all_dealt_with, "answers to the good frames, and the count of the bad one")
    assert not answers["cam1"]
    assert value(diagnosis(ros, "camera cam0"), "dropped: encoding") == "0"


def test_silence_is_reported_of_the_silent_camera(ros: Participant, node: Process):
    assert set_parameter(ros, "image_timeout_s", 0.5).successful
    cameras, _ = connected(ros, NAMES[:2])
    statuses = ros.collect(DiagnosticArray, "/diagnostics")

    def only_the_second_is_silent() -> bool:
        cameras["cam0"].publish(image(now(), picture(1)))
        levels = {s.name: s.level for array in statuses[-1:] for s in array.status}
        return levels.get(f"{NODE}: camera cam0") == b"\0" and levels.get(f"{NODE}: camera cam1") == b"\2"

    ros.wait_for(only_the_second_is_silent, "an error of the silent camera alone")
    ros.wait_for(lambda: "no images on /cam1/image_raw" in node.log, "the log to name it")
    assert set_parameter(ros, "image_timeout_s", 3.0).successful


def test_limited_camera_is_answered_at_most_at_its_rate(ros: Participant):
    """Both cameras are published in turn until the free one has 60 answers; a limit of 0.001 Hz lets one through."""
    cameras, answers = connected(ros, NAMES[:2])
    assert set_parameter(ros, "cam1.max_rate_hz", 0.001).successful
    try:

        def sixty() -> bool:
            for name in NAMES[:2]:
                cameras[name].publish(image((1, 0), picture(1)))
            return len(answers["cam0"]) >= 60

        ros.wait_for(sixty, "60 answers of the free camera")
        before = len(answers["cam1"])
        assert before <= 1
    finally:
        assert set_parameter(ros, "cam1.max_rate_hz", 0.0).successful
    ros.wait_for(lambda: len(answers["cam1"]) > before, "the frame that waited for its turn")


@pytest.mark.parametrize(
    ("name", "nonsense"),
    [("cam1.max_rate_hz", -1.0), ("cam1.max_age_s", float("nan")), ("cam1.image_topic", "x"), ("max_batch_size", 0)],
)
def test_nonsense_parameter_of_a_camera_is_refused(ros: Participant, name: str, nonsense: object):
    result = set_parameter(ros, name, nonsense)
    assert not result.successful
    assert result.reason


@pytest.mark.parametrize("names", ["[front, front]", "[front/left]", "[activation]", "[9]", "[front, '']"])
def test_unusable_camera_names_end_the_node_with_one_line(names: str, tmp_path: Path):
    process = Process("perception_node", new_domain(), tmp_path / "log", cameras=names)
    assert process.wait() == 2
    assert "cameras" in process.log
    assert "Traceback" not in process.log


EXCHANGED = [
    word
    for end in ("image_raw", "image_raw/compressed", "camera_info", "boxes")
    for word in ("-r", f"left/{end}:=right/{end}", "-r", f"right/{end}:=left/{end}")
]


@pytest.mark.parametrize("is_compressed", [False, True], ids=["raw", "compressed"])
def test_cameras_whose_topics_are_exchanged_get_each_others_images(is_compressed: bool, tmp_path: Path):
    """With boxes and a black box, which have subscriptions of their own."""
    domain = new_domain()
    settings: dict[str, object] = {
        "model": write_tiny_model(tmp_path / "tiny.onnx"),
        "cameras": "[left, right]",
        "diagnostics_period_s": 0.05,
        "image_transport": "compressed" if is_compressed else "raw",
        "left.rois_topic": "left/boxes",
        "black_box_dir": tmp_path / "box",
    }
    end = "image_raw/compressed" if is_compressed else "image_raw"
    with (
        running("perception_node", domain, tmp_path / "log", *EXCHANGED, **settings) as node,
        participant(domain) as ros,
    ):
        answers = {name: ros.collect(Classification, f"{NODE}/{name}/classification") for name in ("left", "right")}
        kind = CompressedImage if is_compressed else Image
        cameras = {name: ros.publisher(kind, f"/{name}/{end}") for name in answers}
        # Each is heard by a camera and the black box; that which is the left one's for the node by its boxes, too.
        expected = {"left/boxes": 0, "right/boxes": 2}
        expected |= {f"{name}/{one}": 2 + (name == "right") for name in cameras for one in (end, "camera_info")}
        ros.wait_for(lambda: {one: ros.node.count_subscribers(f"/{one}") for one in expected} == expected, "all topics")

        def publish() -> None:
            for number, name in enumerate(cameras):
                pixels = np.broadcast_to(np.eye(3, dtype=np.uint8)[number] * 255, (48, 80, 3))
                message = image((1, 5), pixels, frame_id=name)
                cameras[name].publish(to_jpeg(message.header, RgbImage(pixels)) if is_compressed else message)

        ros.repeat(publish, lambda: all(answers.values()), "an answer for both cameras")
        found = {name: (one[-1].header.frame_id, one[-1].results[0].class_id) for name, one in answers.items()}
        assert found == {"left": ("right", "green"), "right": ("left", "red")}
        for name, other in (("left", "right"), ("right", "left")):
            status = diagnosis(ros, f"camera {name}")
            assert value(status, "topic") == f"/{other}/{end}"
            assert value(status, "camera_info") == f"/{other}/camera_info"
        assert node.log.count(f"/right/{end}, /left/{end}") == 1

"""Owns: the node's image subscription fits its publishers, on real DDS. Leaves to others: QoS that cannot fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Vector3Stamped
from perception import LATCHED, NODE, camera_of, diagnosis, image, picture, stamp, value, wait_until
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros import Participant, Process, new_domain, participant, running
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from tiny_model import write_tiny_model
from vision_msgs.msg import Classification

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT

RED_FIELD = np.zeros((24, 32, 3), np.uint8)
RED_FIELD[8:16, 24:32, 0] = 255  # a cell of the network, whose centre is 12 pixels right of that of `calibration`


def calibration(focal: float) -> CameraInfo:
    matrix = [focal, 0.0, 15.5, 0.0, focal, 11.5, 0.0, 0.0, 1.0]
    return CameraInfo(height=24, width=32, k=matrix, r=[0.0] * 9, p=[0.0] * 12, header=Header(frame_id="camera"))


@pytest.fixture(scope="module")
def node(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("node")
    model = write_tiny_model(folder / "tiny.onnx")
    with running(
        "perception_node", domain, folder / "log.txt", model=model, providers="[CPUExecutionProvider]"
    ) as process:
        yield process


def qos(reliability: ReliabilityPolicy) -> QoSProfile:
    return QoSProfile(depth=5, reliability=reliability)


def subscribed(ros: Participant, topic: str = "/image_raw") -> list[ReliabilityPolicy]:
    """The reliability of each of the topic's subscriptions, as DDS announces them."""
    return [info.qos_profile.reliability for info in ros.node.get_subscriptions_info_by_topic(topic)]


class Frames:
    """Frames of one camera, each published when the one before was answered: a lost one is never answered."""

    def __init__(self, ros: Participant, camera: Any, answers: list[Any]) -> None:
        self._ros, self._camera, self.answers = ros, camera, answers
        self.sent = 0

    def next(self) -> bool:
        self.sent += 1
        self._camera.publish(image((self.sent, 0), picture(self.sent)))
        self._ros.wait_for(lambda: stamp(self.answers[-1])[0] == self.sent if self.answers else False, "its answer")
        return True


@pytest.mark.parametrize("reliability", [RELIABLE, BEST_EFFORT])
def test_camera_is_subscribed_as_it_offers_and_answered(ros: Participant, reliability: ReliabilityPolicy):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = ros.node.create_publisher(Image, "/image_raw", qos(reliability))
    ros.wait_for(lambda: subscribed(ros) == [reliability], "the subscription")
    numbers = iter(range(1, 100_000))

    def is_answered() -> bool:
        camera.publish(image((next(numbers), 0), picture(1)))
        return bool(answers)

    ros.wait_for(is_answered, "an answer")
    assert subscribed(ros) == [reliability]


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_what_is_chosen_is_said_and_chosen_again_whatever_the_transport(tmp_path: Path, transport: str):
    domain, model = new_domain(), write_tiny_model(tmp_path / "tiny.onnx")
    kind, topic = (Image, "/image_raw") if transport == "raw" else (CompressedImage, "/image_raw/compressed")
    settings = {"model": model, "image_transport": transport, "diagnostics_period_s": 0.05}
    with running("perception_node", domain, tmp_path / "log", **settings), participant(domain) as ros:
        wait_until(ros, "active")
        for reliability, word in ((BEST_EFFORT, "best effort"), (RELIABLE, "reliable"), (BEST_EFFORT, "best effort")):
            camera = ros.node.create_publisher(kind, topic, qos(reliability))

            def is_subscribed(camera: Any = camera, reliability: ReliabilityPolicy = reliability) -> bool:
                camera.publish(kind())  # until one has come, the subscription before goes on
                return subscribed(ros, topic) == [reliability]

            ros.wait_for(is_subscribed, "the subscription")
            assert value(diagnosis(ros, "camera"), "subscription") == f"{word}, as its publishers offer"
            ros.node.destroy_publisher(camera)


def test_publishers_that_come_and_go_are_followed_and_cost_no_frame(ros: Participant):
    """One subscription is left each time; every frame of the camera that stays is answered, and once."""
    answers = ros.collect(Classification, f"{NODE}/classification")
    frames = Frames(ros, camera_of(ros, answers), answers)
    for _ in range(3):
        ros.wait_for(lambda: frames.next() and subscribed(ros) == [RELIABLE], "reliable")
        other = ros.node.create_publisher(Image, "/image_raw", qos(BEST_EFFORT))
        ros.wait_for(lambda: frames.next() and subscribed(ros) == [BEST_EFFORT], "best effort, for the other's sake")
        ros.node.destroy_publisher(other)
    ros.wait_for(lambda: frames.next() and subscribed(ros) == [RELIABLE], "reliable again")
    assert [stamp(answer)[0] for answer in answers] == list(range(1, frames.sent + 1))


def test_publishers_of_another_type_do_not_count(ros: Participant, domain: int):
    answers = ros.collect(Classification, f"{NODE}/classification")
    frames = Frames(ros, camera_of(ros, answers), answers)
    with participant(domain) as other:  # DDS refuses a second type in the same participant
        other.node.create_publisher(CompressedImage, "/image_raw", qos(BEST_EFFORT))
        ros.wait_for(lambda: len(ros.node.get_publishers_info_by_topic("/image_raw")) == 2, "both publishers")
        several_looks(ros, frames)
        assert subscribed(ros) == [RELIABLE]


def several_looks(ros: Participant, frames: Frames) -> None:
    """Waits, while frames are answered, for as long as the node takes to look at its publishers some times."""
    statuses = ros.collect(DiagnosticArray, "/diagnostics")
    ros.wait_for(lambda: frames.next() and len(statuses) >= 3, "diagnoses, one a second")


@pytest.mark.parametrize("reliability", [RELIABLE, BEST_EFFORT])
def test_override_wins_over_what_publishers_offer_and_is_of_its_topic_alone(
    tmp_path: Path, reliability: ReliabilityPolicy
):
    domain, model = new_domain(), write_tiny_model(tmp_path / "tiny.onnx")
    override = ("-p", f"qos_overrides./image_raw.subscription.reliability:={reliability.name.lower()}")
    with running("perception_node", domain, tmp_path / "log", *override, model=model), participant(domain) as ros:
        answers = ros.collect(Classification, f"{NODE}/classification")
        frames = Frames(ros, camera_of(ros, answers), answers)
        ros.node.create_publisher(Image, "/image_raw", qos(BEST_EFFORT))
        several_looks(ros, frames)
        assert subscribed(ros) == [reliability]
        assert value(diagnosis(ros, "camera"), "subscription").endswith("by qos_overrides")
        assert subscribed(ros, "/camera_info") == [BEST_EFFORT]


@pytest.mark.parametrize(("kind", "topic"), [(Image, "/image_raw"), (CompressedImage, "/image_raw/compressed")])
def test_a_picture_published_once_before_the_node_is_answered_once(kind: type[Any], topic: str, tmp_path: Path):
    """Then comes a camera that keeps nothing."""
    domain, model = new_domain(), write_tiny_model(tmp_path / "tiny.onnx")

    def message(second: int) -> Any:
        if kind is Image:
            return image((second, 0), RED_FIELD)
        png = cv2.imencode(".png", RED_FIELD[..., ::-1])[1].tobytes()
        return CompressedImage(header=image((second, 0), RED_FIELD).header, format="png", data=png)

    transport = "raw" if kind is Image else "compressed"
    with participant(domain) as ros:
        answers = ros.collect(Classification, f"{NODE}/classification")
        ros.node.create_publisher(kind, topic, LATCHED).publish(message(7))
        with running("perception_node", domain, tmp_path / "log.txt", model=model, image_transport=transport):
            ros.wait_for(lambda: bool(answers), "the answer to what was kept")
            camera = ros.node.create_publisher(kind, topic, qos(BEST_EFFORT))

            def is_answered() -> bool:
                camera.publish(message(8))
                return bool(answers[-1].header.stamp.sec == 8)

            ros.wait_for(is_answered, "the answer to one that keeps nothing")
        assert [answer.header.stamp.sec for answer in answers].count(7) == 1


def test_who_publishes_one_picture_and_keeps_it_has_not_stopped_until_it_is_a_stream(tmp_path: Path):
    domain, model = new_domain(), write_tiny_model(tmp_path / "tiny.onnx")
    settings = ("-p", "image_timeout_s:=1.0")
    with participant(domain) as ros:
        answers = ros.collect(Classification, f"{NODE}/classification")
        arrays = ros.collect(DiagnosticArray, "/diagnostics")

        def said() -> list[tuple[bytes, str]]:
            statuses = (status for array in arrays for status in array.status if status.name == f"{NODE}: camera")
            return [(status.level, status.message) for status in statuses]

        picture = ros.node.create_publisher(Image, "/image_raw", LATCHED)
        picture.publish(image((7, 0), RED_FIELD))
        with running("perception_node", domain, tmp_path / "log.txt", *settings, model=model) as node:
            ros.wait_for(lambda: any("and keeps, was answered" in text for _, text in said()), "the silence to be told")
            assert said()[-1][0] == DiagnosticStatus.OK
            assert "it has stopped" not in f"{node.log}{said()}"
            picture.publish(image((8, 0), RED_FIELD))
            ros.wait_for(lambda: said()[-1][1].endswith("; it has stopped"), "the end of the stream to be told")
            assert said()[-1][0] == DiagnosticStatus.ERROR
        assert len(answers) == 2


def test_a_calibration_published_once_before_the_node_gives_rays_and_so_do_those_that_follow(tmp_path: Path):
    """A driver that keeps it for who comes later; then one that offers best effort and publishes it all the time."""
    domain, model = new_domain(), write_tiny_model(tmp_path / "tiny.onnx")
    with participant(domain) as ros:
        kept = ros.node.create_publisher(CameraInfo, "/camera_info", LATCHED)
        kept.publish(calibration(20.0))
        with running("perception_node", domain, tmp_path / "log.txt", model=model) as node:
            rays = ros.collect(Vector3Stamped, f"{NODE}/activation/peak_ray")
            camera = ros.publisher(Image, "/image_raw")
            numbers = iter(range(1, 100_000))

            def is_seen_with(focal: float) -> bool:
                camera.publish(image((next(numbers), 0), RED_FIELD))
                return bool(rays) and rays[-1].vector.x / rays[-1].vector.z == pytest.approx(12.0 / focal)

            ros.wait_for(lambda: is_seen_with(20.0), "a ray by what was kept")
            ros.node.destroy_publisher(kept)
            steady = ros.node.create_publisher(CameraInfo, "/camera_info", qos(BEST_EFFORT))

            def is_seen_by_both() -> bool:
                steady.publish(calibration(40.0))
                return is_seen_with(40.0)

            ros.wait_for(is_seen_by_both, "a ray by what comes all the time")
        assert "Traceback" not in node.log

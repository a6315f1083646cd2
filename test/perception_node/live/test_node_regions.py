"""Owns: boxes of another detector beside the images, live on real DDS: which are answered, with what, and what is said.

Oracle: the pipeline on the same boxes offline, and images of two colours. Leaves to others: which pixels a box shows
(test_cropping), which boxes belong to which image (test_box_matching), whole frames (test_node).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import regression_spec, write_tiny_model

pytest.importorskip("rclpy", reason="needs ROS 2")

from boxed import boxes_message
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from lifecycle_msgs.msg import Transition
from perception import NODE, diagnosis, image, now, picture, set_parameter, stamp, transition, value
from ros import Participant, Process, running
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from vision_msgs.msg import Classification, Detection2DArray

from cnn_perception.image.messages import RgbImage
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.regions.answering import RegionSettings, answer_boxes
from cnn_perception.regions.box import Box
from cnn_perception.regions.cropping import CropSettings
from cnn_perception.tasks.prediction import Prediction

LEFT, RIGHT = Box(20, 24, 20, 20, score=0.5, id="a"), Box(60, 24, 20, 20, score=0.9, id="b")
OUTSIDE = Box(500, 24, 20, 20, score=0.7, id="c")


def halves() -> RgbImage:
    pixels = np.zeros((48, 80, 3), np.uint8)
    pixels[:, :40, 0] = 250
    pixels[:, 40:, 2] = 250
    return RgbImage(pixels)


@pytest.fixture(scope="module")
def node(domain: int, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("node") / "log.txt"
    own = {"rois_topic": "boxes", "rois_wait_s": 2.0, "rois_batch_size": 3}
    with running("perception_node", domain, log, model=model, diagnostics_period_s=0.05, **own) as process:
        yield process


class Detector:
    """Publishes images, and boxes for them, and has the answers."""

    def __init__(self, ros: Participant) -> None:
        self.ros = ros
        self.answers: list[Detection2DArray] = ros.collect(Detection2DArray, f"{NODE}/detections")
        self.rays: list[PoseArray] = ros.collect(PoseArray, f"{NODE}/detections/rays")
        self.images = ros.publisher(Image, "image_raw")
        self.boxes = ros.publisher(Detection2DArray, "boxes")
        self.calibrations = ros.publisher(CameraInfo, "camera_info")
        self.ask([LEFT])  # until all topics are connected

    def message(
        self, boxes: Sequence[Box], frame_id: str = "camera", pixels: RgbImage | None = None
    ) -> tuple[Image, Detection2DArray]:
        frame = image(now(), halves() if pixels is None else pixels)
        return frame, boxes_message(Header(stamp=frame.header.stamp, frame_id=frame_id), boxes)

    def send(self, boxes: Sequence[Box], **fields: Any) -> Detection2DArray:
        frame, message = self.message(boxes, **fields)
        self.images.publish(frame)
        self.boxes.publish(message)
        return message

    def ask(self, boxes: Sequence[Box], **fields: Any) -> tuple[Detection2DArray, Detection2DArray]:
        """Publishes them until they are answered; returns what was asked and answered."""
        sent: list[Detection2DArray] = []
        self.ros.repeat(lambda: sent.append(self.send(boxes, **fields)), lambda: self._to_last(sent), "an answer")
        return sent[-1], self.answers[-1]

    def _to_last(self, sent: Sequence[Detection2DArray]) -> bool:
        return bool(self.answers) and stamp(self.answers[-1]) == stamp(sent[-1])

    def refused(self, reason: str, send: Any) -> None:
        """Publishes something until one more message of boxes is counted as refused."""
        before = self.count(f"dropped: {reason}")
        self.ros.repeat(send, lambda: self.count(f"dropped: {reason}") > before, f"boxes dropped: {reason}")

    def count(self, key: str) -> int:
        return int(value(diagnosis(self.ros, "rois"), key))


@pytest.fixture
def detector(ros: Participant) -> Detector:
    return Detector(ros)


def names(answer: Detection2DArray) -> list[str]:
    return [one.results[0].hypothesis.class_id if one.results else "" for one in answer.detections]


def test_each_box_has_our_classes_and_its_header_place_and_id_are_kept_in_order(detector: Detector):
    asked, answer = detector.ask([RIGHT, OUTSIDE, LEFT, Box(math.nan, 1, 2, 3, id="d")])

    assert names(answer) == ["blue", "", "red", ""]
    assert answer.header == asked.header
    assert [one.id for one in answer.detections] == ["b", "c", "a", "d"]
    for ours, theirs in zip(answer.detections[:3], asked.detections[:3], strict=True):
        assert (ours.bbox, ours.header) == (theirs.bbox, theirs.header)
    best = answer.detections[0].results[0]
    assert [one.hypothesis.class_id for one in answer.detections[0].results] == ["blue", "red", "green"]
    assert 0.9 < best.hypothesis.score <= 1.0
    assert best.pose.pose.position.x == 0.0  # the detector's own does not outlive its result


def test_answers_are_those_of_the_pipeline_offline(detector: Detector, model: Path):
    rng = np.random.default_rng(0)
    boxes = [Box(*rng.uniform(0, 70, 2), *rng.uniform(2, 40, 2), rng.choice([0.0, 0.5])) for _ in range(10)]
    assert set_parameter(detector.ros, "rois_padding", 0.25).successful
    try:
        _, answer = detector.ask(boxes)
    finally:
        assert set_parameter(detector.ros, "rois_padding", 0.0).successful

    offline = answer_boxes(Pipeline.load(model), halves(), boxes, RegionSettings(CropSettings(padding=0.25)))
    for ours, expected in zip(answer.detections, offline, strict=True):
        ranked = expected.ranked(5) if isinstance(expected, Prediction) else []
        found = [(one.hypothesis.class_id, one.hypothesis.score) for one in ours.results]
        assert [name for name, _ in found] == [name for name, _ in ranked]
        np.testing.assert_allclose([score for _, score in found], [score for _, score in ranked], atol=1e-5)


def test_image_without_a_box_is_answered_without_one(detector: Detector):
    asked, answer = detector.ask([])

    assert answer.header == asked.header
    assert answer.detections == []


def test_boxes_that_come_before_their_image_are_answered(detector: Detector):
    sent: list[Detection2DArray] = []

    def send() -> None:
        frame, message = detector.message([LEFT])
        sent.append(message)
        detector.boxes.publish(message)
        before = len(detector.answers)
        detector.ros.wait_for(lambda: len(detector.answers) == before, "nothing")
        detector.images.publish(frame)

    detector.ros.repeat(send, lambda: detector._to_last(sent), "an answer")


def test_ray_goes_through_the_centre_of_each_box_and_is_none_where_there_is_no_box(detector: Detector):
    info = CameraInfo(height=48, width=80, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [100.0, 0.0, 39.5, 0.0, 100.0, 23.5, 0.0, 0.0, 1.0]

    def send() -> None:
        detector.calibrations.publish(info)
        detector.send([Box(40, 24, 8, 8), Box(math.nan, 0, 1, 1), Box(90, 74, 4, 4)])

    def has_rays() -> bool:
        return bool(detector.rays) and len(detector.rays[-1].poses) == 3

    detector.ros.repeat(send, has_rays, "rays")
    rays = detector.rays[-1]
    assert (rays.header.frame_id, stamp(rays)) == ("camera", stamp(detector.answers[-1]))
    np.testing.assert_allclose(direction(rays.poses[0]), (0, 0, 1), atol=1e-9)
    assert math.isnan(rays.poses[1].orientation.w)
    np.testing.assert_allclose(direction(rays.poses[2]), np.array((0.5, 0.5, 1)) / math.sqrt(1.5), atol=1e-9)
    assert all(pose.position.x == pose.position.y == pose.position.z == 0.0 for pose in rays.poses)


def test_boxes_have_no_ray_where_the_calibration_is_in_another_frame(detector: Detector, node: Process):
    info = CameraInfo(height=48, width=80, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [100.0, 0.0, 39.5, 0.0, 100.0, 23.5, 0.0, 0.0, 1.0]
    info.header.frame_id = "camera_link"

    def send() -> None:
        detector.calibrations.publish(info)
        detector.send([Box(40, 24, 8, 8)])

    said = "no ray can be told: the images are in the frame 'camera', /camera_info is in 'camera_link'"
    detector.ros.repeat(send, lambda: said in node.log, "the reason why there is no ray")
    detector.rays.clear()
    detector.ask([Box(40, 24, 8, 8)])
    assert not detector.rays


def direction(pose: Any) -> Any:
    """The x axis of a pose, from its rotation matrix."""
    q = pose.orientation
    return (
        1 - 2 * (q.y**2 + q.z**2),
        2 * (q.x * q.y + q.z * q.w),
        2 * (q.x * q.z - q.y * q.w),
    )


def test_boxes_without_their_image_without_a_stamp_twice_or_of_another_frame_are_counted_and_not_answered(
    detector: Detector,
):
    assert set_parameter(detector.ros, "rois_wait_s", 0.1).successful
    try:
        detector.refused("rois_unmatched", lambda: detector.boxes.publish(detector.message([LEFT])[1]))
    finally:
        assert set_parameter(detector.ros, "rois_wait_s", 2.0).successful

    def stampless() -> None:
        detector.boxes.publish(boxes_message(Header(frame_id="camera"), [LEFT]))

    detector.refused("stamp_zero", stampless)
    detector.refused("rois_duplicate", lambda: detector.boxes.publish(detector.send([LEFT])))
    before = len(detector.answers)
    foreign = detector.count("boxes of another frame_id")
    detector.ros.repeat(
        lambda: detector.send([LEFT], frame_id="other"),
        lambda: detector.count("boxes of another frame_id") > foreign,
        "boxes of another frame_id to be counted",
    )
    assert all(one.header.frame_id == "camera" for one in detector.answers[before:])
    _, answer = detector.ask([LEFT], frame_id="")
    assert names(answer) == ["red"]


def test_of_ten_thousand_boxes_the_surest_are_answered_and_the_rest_is_counted(detector: Detector):
    before = detector.count("boxes left out: beyond_rois_max")
    many = [Box(20, 24, 4, 4, score=n / 20_000, id=str(n)) for n in range(10_000)]
    assert set_parameter(detector.ros, "rois_max", 10).successful
    try:
        # Any of them: on a busy machine the next ones are sent before the first are answered.
        detector.ros.repeat(
            lambda: detector.send(many), lambda: len(detector.answers[-1].detections) == len(many), "an answer"
        )
        answer = detector.answers[-1]
    finally:
        assert set_parameter(detector.ros, "rois_max", 100).successful

    assert [one.id for one in answer.detections] == [one.id for one in many]
    assert [one.id for one in answer.detections if one.results] == [str(n) for n in range(9_990, 10_000)]
    assert detector.count("boxes left out: beyond_rois_max") - before >= 9_990


def test_whole_frames_are_answered_whether_boxes_come_or_not(detector: Detector):
    wholes: list[Classification] = detector.ros.collect(Classification, f"{NODE}/classification")
    frame = image(now(), picture(1))
    detector.ros.repeat(
        lambda: detector.images.publish(frame), lambda: wholes and stamp(wholes[-1]) == stamp(frame), "a whole frame"
    )


def test_paused_node_answers_no_boxes_and_then_answers_again(detector: Detector):
    def enable(wanted: bool) -> None:
        assert detector.ros.call(SetBool, f"{NODE}/set_enabled", SetBool.Request(data=wanted)).success

    enable(False)
    try:
        wholes = detector.count("answered")
        detector.send([LEFT])
        assert detector.count("answered") == wholes
    finally:
        enable(True)
    assert names(detector.ask([LEFT])[1]) == ["red"]


def test_swapped_model_answers_the_boxes_after_it(detector: Detector, model: Path):
    other = write_tiny_model(model.with_name("other.onnx"), classes=("rot", "gruen", "blau"))
    try:
        assert set_parameter(detector.ros, "model", str(other)).successful
        assert names(detector.ask([LEFT, RIGHT])[1]) == ["rot", "blau"]
        numbers = write_tiny_model(
            model.with_name("numbers.onnx"), spec=regression_spec({"x": "m", "y": "m", "z": "m"})
        )
        refused = set_parameter(detector.ros, "model", str(numbers))
        assert not refused.successful
        assert "boxes are answered with classes; leave out rois_topic" in refused.reason
        assert names(detector.ask([LEFT])[1]) == ["rot"]
    finally:
        assert set_parameter(detector.ros, "model", str(model)).successful
    assert names(detector.ask([LEFT])[1]) == ["red"]


def test_node_that_was_deactivated_answers_boxes_again(detector: Detector):
    assert transition(detector.ros, Transition.TRANSITION_DEACTIVATE)
    assert diagnosis(detector.ros, "rois").message == "the node is not active"
    assert transition(detector.ros, Transition.TRANSITION_ACTIVATE)
    assert names(detector.ask([RIGHT])[1]) == ["blue"]


def test_boxes_in_shares_of_the_image_are_not_answered_and_the_diagnosis_says_why(detector: Detector):
    arrays: list[DiagnosticArray] = detector.ros.collect(DiagnosticArray, "/diagnostics")
    before = detector.count("boxes left out: box_too_small")
    shares = [Box(0.5, 0.5, 0.3, 0.4, score=0.9, id="a"), Box(0.1, 0.1, 0.2, 0.2, score=0.8, id="b")]
    _, answer = detector.ask(shares)

    assert names(answer) == ["", ""]

    def is_said() -> bool:  # by the first diagnosis after the boxes; the next one is of those since
        said = [status.message for array in arrays for status in array.status if status.name == f"{NODE}: rois"]
        return any(
            "(box_too_small): a box is 0.2 x 0.2 pixels; boxes are in pixels of the image" in one for one in said
        )

    detector.ros.repeat(lambda: detector.send(shares), is_said, "a warning")
    assert detector.count("boxes left out: box_too_small") >= before + 2


def test_boxes_in_pixels_of_the_detectors_input_are_warned_of_until_one_lies_outside(detector: Detector):
    pixels = RgbImage(np.zeros((600, 800, 3), np.uint8))
    ends = np.linspace(20, 490, 50)
    boxes = [Box(x, y, 30, 30) for x, y in zip(ends, ends[::-1], strict=True)]
    suspected = "upper left 512x512 pixels of images of 800x600: perhaps"

    def is_said() -> bool:
        return suspected in diagnosis(detector.ros, "rois").message

    detector.ros.repeat(lambda: detector.send(boxes, pixels=pixels), is_said, "a warning")
    outside = [Box(700, 300, 30, 30)]
    detector.ask(outside, pixels=pixels)
    detector.ros.repeat(lambda: detector.send(outside, pixels=pixels), lambda: not is_said(), "no warning")


def test_diagnosis_says_what_the_boxes_cost_and_how_many_there_were(detector: Detector):
    detector.ask([LEFT, OUTSIDE])
    status = diagnosis(detector.ros, "rois")

    assert value(status, "topic") == "/boxes"
    assert int(value(status, "answered")) >= 1
    assert int(value(status, "boxes answered")) >= 1
    assert int(value(status, "boxes left out: box_outside")) >= 1
    assert value(status, "boxes p50/p95 (ms)") != "0"


def test_two_cameras_share_a_topic_of_boxes_by_their_frames_and_a_third_has_none(
    talker: Participant, model: Path, domain: int, tmp_path: Path
):
    """Synchronised: their images have the same stamps."""
    cameras = {f"{name}.rois_topic": "/shared_boxes" for name in ("left", "right")}
    names = ("-r", "__node:=two")
    with running(
        "perception_node", domain, tmp_path / "log", *names, model=model, cameras="[left, right, third]", **cameras
    ):
        answers = {name: talker.collect(Detection2DArray, f"/two/{name}/detections") for name in ("left", "right")}
        images = {name: talker.publisher(Image, f"{name}/image_raw") for name in ("left", "right")}
        boxes = talker.publisher(Detection2DArray, "/shared_boxes")

        def send() -> None:
            time = now()
            for name, publisher in images.items():
                publisher.publish(image(time, halves(), name))
            for name, box in (("left", LEFT), ("right", RIGHT)):
                boxes.publish(boxes_message(image(time, halves(), name).header, [box]))

        talker.repeat(send, lambda: all(answers.values()), "answers of both cameras")
        assert "/two/third/detections" not in talker.topics_published_by("two")
        for name, box in (("left", LEFT), ("right", RIGHT)):
            assert {answer.header.frame_id for answer in answers[name]} == {name}
            assert {one.id for answer in answers[name] for one in answer.detections} == {box.id}

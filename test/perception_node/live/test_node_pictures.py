"""Owns: pictures that a running node reads otherwise than their messages say, or counts as odd; parameters of a camera.

Leaves to others: how pictures are decoded (test_overrides, test_jpeg), the parameters' values (test_settings).
"""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from frames import saved
from geometry_msgs.msg import Vector3Stamped
from perception import NODE, ask, camera_of, diagnosis, drop, image, now, set_parameter, value
from PIL import Image as PilImage
from ros import Participant, Process, new_domain, participant, running
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Classification

RED = np.full((48, 80, 3), (220, 10, 20), np.uint8)
K = [100.0, 0.0, 40.0, 0.0, 100.0, 24.0, 0.0, 0.0, 1.0]


def labelled(second: int, encoding: str, data: bytes, step: int) -> Image:
    message = image((second, 0), RED)
    message.encoding, message.data, message.step = encoding, array("B", data), step
    return message


@pytest.mark.usefixtures("node")
def test_encoding_overrides_the_messages_at_once_and_is_refused_where_it_is_none(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    statuses = ros.collect(DiagnosticArray, "/diagnostics")
    camera = camera_of(ros, answers)
    bgr = RED[..., ::-1].tobytes()
    drop(ros, camera, labelled(1, "8UC3", bgr, 240), "encoding", statuses)
    try:
        assert set_parameter(ros, "encoding", "bgr8").successful
        ask(ros, camera, labelled(2, "8UC3", bgr, 240), answers)
        assert answers[-1].results[0].class_id == "red"
        refused = set_parameter(ros, "encoding", "BGR8")
        assert not refused.successful
        assert refused.reason.startswith("parameter encoding is 'BGR8'; choose '' or one of rgb8")
        ask(ros, camera, labelled(3, "8UC3", bgr, 240), answers)
    finally:
        assert set_parameter(ros, "encoding", "").successful
    ask(ros, camera, image((4, 0), RED), answers)
    assert answers[-1].results[0].class_id == "red"


@pytest.mark.usefixtures("node")
def test_significant_bits_brighten_a_camera_of_12_bits(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    dark = np.rint(RED * (4095 / 255)).astype("<u2").tobytes()
    ask(ros, camera, image((1, 0), RED), answers)
    expected = answers[-1].results[0].score
    ask(ros, camera, labelled(2, "rgb16", dark, 480), answers)
    before = answers[-1].results[0].score
    try:
        assert set_parameter(ros, "significant_bits", 12).successful
        ask(ros, camera, labelled(3, "rgb16", dark, 480), answers)
        after = answers[-1].results[0].score
        assert not set_parameter(ros, "significant_bits", 3).successful
    finally:
        assert set_parameter(ros, "significant_bits", 0).successful
    assert after == pytest.approx(expected, abs=1e-3)
    assert before < expected - 0.2


def test_a_jpeg_in_an_image_is_answered_counted_and_no_cause_for_alarm(ros: Participant, node: Process):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    jpeg = saved(PilImage.fromarray(RED), "JPEG", quality=95)
    stray = jpeg[:20] + b"\x01\x02" + jpeg[20:]
    message = labelled(1, "yuv422", stray + bytes(160 * 48 - len(stray)), 160)
    ask(ros, camera, message, answers)
    assert answers[-1].results[0].class_id == "red"
    status = diagnosis(ros, "camera")
    assert int(value(status, "odd: file_in_image")) > 0
    assert int(value(status, "odd: jpeg_warning")) > 0

    def is_no_cause_for_alarm() -> bool:
        message.header.stamp.sec, message.header.stamp.nanosec = now()
        camera.publish(message)
        return diagnosis(ros, "camera").level == DiagnosticStatus.OK

    ros.wait_for(is_no_cause_for_alarm, "no alarm")
    assert "holds a JPEG in place of pixels" in node.log


def test_exif_in_a_camera_stream_costs_the_ray_and_is_said(domain: int, ros: Participant, model: Path, tmp_path: Path):
    log = tmp_path / "log.txt"
    name = "turned"
    with running(
        "perception_node", domain, log, "--ros-args", "-r", f"__node:={name}", model=model, image_transport="compressed"
    ) as process:
        answers = ros.collect(Classification, f"/{name}/classification")
        rays = ros.collect(Vector3Stamped, f"/{name}/activation/peak_ray")
        info = ros.publisher(CameraInfo, "camera_info")
        exif = PilImage.Exif()

        def jpeg(second: int, orientation: int) -> CompressedImage:
            exif[0x0112] = orientation
            message = CompressedImage(format="rgb8; jpeg compressed bgr8")
            message.data = array("B", saved(PilImage.fromarray(RED), "JPEG", exif=exif))
            message.header.stamp.sec = second
            info.publish(
                CameraInfo(height=48, width=80, distortion_model="plumb_bob", d=[0.0] * 5, k=K, p=[*K, 0.0, 0.0, 0.0])
            )
            return message

        probe = jpeg(7_777, 1)
        camera = camera_of(ros, answers, topic="image_raw/compressed", probe=probe)
        ros.repeat(lambda: camera.publish(jpeg(7_778, 1)), lambda: rays, "a ray of an upright image")
        for orientation in (3, 6):
            ask(ros, camera, jpeg(10 + orientation, orientation), answers)
        assert {ray.header.stamp.sec for ray in rays} <= {7_777, 7_778}
        ros.wait_for(lambda: "turned as their EXIF orientation says" in process.log, "the warning")


@pytest.mark.parametrize("is_given_at_start", [False, True], ids=["set later", "given at start"])
def test_rectified_images_beside_a_raw_calibration_have_rays_once_somebody_decides(
    model: Path, tmp_path: Path, is_given_at_start: bool
):
    info = CameraInfo(height=48, width=80, distortion_model="plumb_bob", d=[-0.3, 0.1, 0.0, 0.0, 0.0], k=K)
    info.p = [90.0, 0.0, 40.5, 0.0, 0.0, 95.0, 22.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    given = {"rectified": False} if is_given_at_start else {}
    domain = new_domain()
    log = tmp_path / "log.txt"
    with (
        running("perception_node", domain, log, model=model, image_topic="image_rect", **given) as process,
        participant(domain) as ros,
    ):
        rays = ros.collect(Vector3Stamped, f"{NODE}/activation/peak_ray")
        answers = ros.collect(Classification, f"{NODE}/classification")
        infos = ros.publisher(CameraInfo, "camera_info")
        camera = ros.publisher(Image, "image_rect")

        def show() -> None:
            infos.publish(info)
            camera.publish(image(now(), RED))

        if not is_given_at_start:
            ros.repeat(show, lambda: "no ray can be told on /image_rect" in process.log, "the reason")
            assert set_parameter(ros, "rectified", True).successful  # from the next configure on
            for _ in range(2):  # by the second answer the rays of the first have come
                ask(ros, camera, image(now(), RED), answers)
            assert not rays
            assert set_parameter(ros, "rectified", False).successful
        ros.repeat(show, lambda: rays, "a ray")

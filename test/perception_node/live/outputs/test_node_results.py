"""Owns: what the node publishes besides the answer to one frame, on real DDS. Oracle: hand arithmetic.

One node runs a model with everything in it: a score map, a gallery, training statistics; a shadow model; a recorder.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_model import write_models

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Vector3Stamped
from perception import (
    LATCHED,
    NODE,
    PROBE_S,
    ask,
    camera_of,
    count,
    diagnosis,
    drop,
    image,
    now,
    picture,
    set_parameter,
    stamp,
    value,
)
from ros import Participant, Process, running
from sensor_msgs.msg import CameraInfo, Image
from tiny_model import GAIN
from vision_msgs.msg import Classification, LabelInfo

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "black": (0, 0, 0)}


def flat(name: str, height: int = 48, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), COLOURS[name], np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def node(domain: int, folder: Path) -> Iterator[Process]:
    model, shadow = write_models(folder)
    settings = {"model": model, "shadow_model": shadow, "diagnostics_period_s": 0.05}
    settings |= {"record_folder": folder / "unsure", "record_margin": 0.1, "record_max_rate_hz": 1000.0}
    with running("perception_node", domain, folder / "log.txt", **settings) as process:
        yield process


def test_smoothed_answer_keeps_to_what_was_seen_and_the_raw_one_does_not(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    raw = ros.collect(Classification, f"{NODE}/classification_raw")
    camera = camera_of(ros, answers, raw)
    try:
        assert set_parameter(ros, "smoothing_s", 1.0).successful
        ask(ros, camera, image((10, 0), flat("red")), answers, raw)
        first = [answers[-1], raw[-1]]
        ask(ros, camera, image((10, 100_000_000), flat("blue")), answers, raw)
        second = [answers[-1], raw[-1]]
    finally:
        assert set_parameter(ros, "smoothing_s", 0.0).successful
    assert [answer.results[0].class_id for answer in first] == ["red", "red"]
    assert [answer.results[0].class_id for answer in second] == ["red", "blue"]
    # After 0.1 s of a time constant of 1 s, blue has 1 - exp(-0.1) of its own score and the rest of the old one.
    peak = np.exp(GAIN) / (np.exp(GAIN) + 2)
    rest = 1 / (np.exp(GAIN) + 2)
    blue = next(r.score for r in second[0].results if r.class_id == "blue")
    assert blue == pytest.approx((1 - np.exp(-0.1)) * peak + np.exp(-0.1) * rest, abs=1e-5)


def test_ray_points_to_what_was_recognised(ros: Participant):
    """A red field in cell (1, 3) of the 3x4 map: its centre is pixel (27.5, 11.5) of the 32x24 image."""
    peaks = ros.collect(Vector3Stamped, f"{NODE}/activation/peak_ray")
    centroids = ros.collect(Vector3Stamped, f"{NODE}/activation/centroid_ray")
    camera = ros.publisher(Image, "image_raw")
    infos = ros.publisher(CameraInfo, "camera_info")
    pixels = flat("black", 24, 32)
    pixels[8:16, 24:32] = COLOURS["red"]
    matrix = [20.0, 0.0, 15.5, 0.0, 20.0, 11.5, 0.0, 0.0, 1.0]
    number = 0

    def has_both() -> bool:
        nonlocal number
        number += 1
        infos.publish(CameraInfo(height=24, width=32, k=matrix, r=[0.0] * 9, p=[0.0] * 12))
        camera.publish(image((number, 3), pixels, "optical"))
        return bool(peaks and centroids)

    ros.wait_for(has_both, "rays")
    expected = np.array([0.6, 0.0, 1.0]) / np.sqrt(1.36)
    for found in (peaks[-1], centroids[-1]):
        assert found.header.frame_id == "optical"
        assert found.header.stamp.nanosec == 3
        np.testing.assert_allclose([found.vector.x, found.vector.y, found.vector.z], expected, atol=1e-6)


def test_missing_calibration_is_said_and_the_answer_given(ros: Participant, node: Process):
    answers = ros.collect(Classification, f"{NODE}/classification")
    rays = ros.collect(Vector3Stamped, f"{NODE}/activation/peak_ray")
    camera = camera_of(ros, answers)
    rays.clear()
    ask(ros, camera, image((1, 0), flat("red", 30, 30)), answers)  # of another size than any calibration
    ros.wait_for(lambda: "camera_info" in node.log, "the reason why there is no ray")
    assert not rays


def test_nearest_reference_images_are_named_with_their_similarities(ros: Participant):
    neighbours = ros.collect(Classification, f"{NODE}/neighbours")
    camera = camera_of(ros, neighbours)
    ask(ros, camera, image((1, 0), flat("red")), neighbours)
    found = [(result.class_id, result.score) for result in neighbours[-1].results]
    assert [name for name, _ in found] == ["red.png", "yellow.png", "green.png"]
    np.testing.assert_allclose([similarity for _, similarity in found], [1, np.sqrt(0.5), 0], atol=1e-6)


def test_score_map_shows_where_a_class_is(ros: Participant):
    """A 48x64 image has 4x5 windows of 24x32, every 8 pixels; only those in the right half are all green."""
    maps = ros.collect(Image, f"{NODE}/score_map")
    infos = ros.collect(CameraInfo, f"{NODE}/score_map/camera_info")
    camera = camera_of(ros, maps, infos)
    assert set_parameter(ros, "score_map_class", "green").successful
    pixels = flat("black", 48, 64)
    pixels[:, 32:] = COLOURS["green"]
    ask(ros, camera, image((1, 0), pixels, "optical"), maps, infos)
    assert (maps[-1].encoding, maps[-1].height, maps[-1].width) == ("32FC1", 4, 5)
    assert (infos[-1].height, infos[-1].width) == (4, 5)
    found = np.frombuffer(maps[-1].data, "<f4").reshape(4, 5)
    share = np.arange(5) / 4  # of each window that is green
    expected = np.exp(GAIN * share) / (np.exp(GAIN * share) + 2)
    np.testing.assert_allclose(found, np.broadcast_to(expected, (4, 5)), rtol=1e-4)
    refused = set_parameter(ros, "score_map_class", "mauve")
    assert not refused.successful
    assert "red, green, blue" in refused.reason
    assert set_parameter(ros, "score_map_class", "").successful


def test_label_map_gives_each_pixel_the_number_of_its_class(ros: Participant):
    """The left half is red and the right one green: the classes meet where a window is half of each, in the middle."""
    maps = ros.collect(Image, f"{NODE}/label_map")
    overlays = ros.collect(Image, f"{NODE}/label_map/overlay")
    infos = ros.collect(LabelInfo, f"{NODE}/label_map/label_info", LATCHED)
    camera = camera_of(ros, maps, overlays)
    pixels = flat("red", 48, 64)
    pixels[:, 32:] = COLOURS["green"]
    asked = image((1, 0), pixels, "optical")
    ask(ros, camera, asked, maps, overlays)
    assert (maps[-1].encoding, maps[-1].height, maps[-1].width, maps[-1].step) == ("mono8", 48, 64, 64)
    assert maps[-1].header == overlays[-1].header == asked.header
    ros.wait_for(lambda: infos, "what the pixels mean")
    number = {one.class_name: one.class_id for one in infos[-1].class_map}
    assert number == {"none": 0, "red": 1, "green": 2, "blue": 3}
    found = np.frombuffer(maps[-1].data, np.uint8).reshape(48, 64)
    assert set(found[:, :31].ravel()) == {number["red"]}
    assert set(found[:, 33:].ravel()) == {number["green"]}
    drawn = np.frombuffer(overlays[-1].data, np.uint8).reshape(48, 64, 3)
    assert overlays[-1].encoding == "rgb8"
    assert len(np.unique(drawn[40:, :31].reshape(-1, 3), axis=0)) == 1  # below the legend, one colour on one colour
    try:
        assert set_parameter(ros, "label_map_threshold", 1.0).successful
        ros.wait_for(lambda: infos[-1].threshold == 1.0, "the new threshold")
        ask(ros, camera, image((2, 0), pixels, "optical"), maps)
        assert not any(maps[-1].data)
    finally:
        assert set_parameter(ros, "label_map_threshold", 0.5).successful


def test_views_are_made_of_as_many_frames_as_may_be_and_every_frame_is_answered(ros: Participant):
    overlays = ros.collect(Image, f"{NODE}/activation/overlay")
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers, overlays)
    assert set_parameter(ros, "views_max_rate_hz", 0.001).successful
    for second in (100, 101, 102, 103):  # one is drawn: the first, or what was under way before it
        ask(ros, camera, image((second, 0), picture(0)), answers)
    assert set_parameter(ros, "views_max_rate_hz", 0.0).successful
    ask(ros, camera, image((104, 0), picture(0)), answers, overlays)
    assert {stamp(one)[0] for one in answers} >= {101, 102, 103, 104}
    assert {stamp(one)[0] for one in overlays} & {101, 102, 103, 104} == {104}


def test_shadow_is_compared_and_never_published(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)

    def disagreed() -> int:
        return count(ros, "shadow: disagreed", "shadow")

    before = disagreed()
    number = 0

    def disagrees() -> bool:
        nonlocal number
        number += 1
        camera.publish(image((number, 0), flat("green")))
        return disagreed() > before

    ros.wait_for(disagrees, "a disagreement")
    status = diagnosis(ros, "shadow")
    assert "green / blue" in value(status, "shadow: most frequent")
    assert "only the running model knows green" in value(status, "shadow: note")
    assert {answer.results[0].class_id for answer in answers[-1:]} == {"green"}


def test_unsure_frame_is_kept_with_its_scores(ros: Participant, folder: Path):
    camera = camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
    message = image((4_321, 9), flat("black"), "optical")  # all scores are 1/3

    def kept() -> list[dict[str, str]]:
        tables = list((folder / "unsure").rglob("*.csv"))
        rows = [row for table in tables for row in csv.DictReader(table.open(newline=""))]
        return [row for row in rows if row["stamp_ns"] == "4321000000009"]

    row = ros.repeat(lambda: camera.publish(message), kept, "the frame in the table")[0]
    assert float(row["margin"]) == pytest.approx(0.0, abs=1e-6)
    assert int(value(diagnosis(ros, "recorder"), "recorded")) >= 1


def test_camera_that_shows_something_else_is_warned_of(ros: Participant):
    """The training images had a brightness of 0.5 +/- 0.05, black ones have none."""
    camera = camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
    statuses = ros.collect(DiagnosticArray, "/diagnostics")

    def warned() -> bool:
        camera.publish(image(now(), flat("black")))
        found = [s for array in statuses[-1:] for s in array.status if s.name == f"{NODE}: camera"]
        return any(s.level == DiagnosticStatus.WARN and "darker" in s.message for s in found)

    ros.wait_for(warned, "the warning of drift")


def test_zero_stamps_are_counted_and_answered_or_rejected(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    ask(ros, camera, image((0, 0), picture(1)), answers)
    assert count(ros, "odd: stamp_zero") >= 1
    ask(ros, camera, image((PROBE_S + 1, 0), picture(1)), answers)  # no answer to a frame before can follow
    answers.clear()
    try:
        assert set_parameter(ros, "stamps", "reject").successful
        drop(ros, camera, image((0, 0), picture(1)), "stamp_zero", ros.collect(DiagnosticArray, "/diagnostics"))
        ask(ros, camera, image(now(), picture(1)), answers)
        assert (0, 0) not in {stamp(answer) for answer in answers}
    finally:
        assert set_parameter(ros, "stamps", "accept").successful


def test_old_frames_are_dropped_where_an_age_is_set(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    try:
        assert set_parameter(ros, "max_age_s", 60.0).successful
        drop(ros, camera, image((1, 0), picture(1)), "too_old", ros.collect(DiagnosticArray, "/diagnostics"))
        now = ros.node.get_clock().now().to_msg()
        ask(ros, camera, image((now.sec, now.nanosec), picture(1)), answers)
        assert {stamp(answer) for answer in answers} == {(now.sec, now.nanosec)}
    finally:
        assert set_parameter(ros, "max_age_s", 0.0).successful


@pytest.mark.parametrize(
    ("name", "nonsense"),
    [
        ("smoothing_s", float("nan")),
        ("smoothing_s", -1.0),
        ("hysteresis", 1.0),
        ("hold_s", float("inf")),
        ("stamps", "maybe"),
        ("score_map_scale", 0.0),
        ("neighbours", 0),
        ("overlay_classes", 1000),
        ("max_rate_hz", -5.0),
        ("record_format", "zip"),
    ],
)
def test_nonsense_is_refused_with_the_reason(ros: Participant, name: str, nonsense: object):
    result = set_parameter(ros, name, nonsense)
    assert not result.successful
    assert result.reason

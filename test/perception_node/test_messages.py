"""Owns: what stands in the fields of each message. No DDS: messages are made and looked at.

Leaves to others: which are published (test_publishers, test_node).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time
from node_parts import CPU
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from tiny_model import regression_spec, tiny_spec, with_unknown, write_tiny_model

from cnn_perception.model.gallery import Neighbour
from cnn_perception.model.spec import ModelSpec
from cnn_perception.perception_node import messages
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.pipeline.score_map import Cells

HEADER = Header(stamp=Time(sec=5, nanosec=7), frame_id="optical")


# Energy is the log of the sum of the exponentials of the logits, 10 for a pure colour and 1.1 for black.
SOME_UNKNOWN = with_unknown(tiny_spec(), 5.0)


def test_classification_holds_names_and_scores_in_their_order_under_the_images_header():
    message = messages.to_classification(HEADER, [("bee", 0.75), ("ant", 0.25)])
    assert [(one.class_id, one.score) for one in message.results] == [("bee", 0.75), ("ant", 0.25)]
    assert message.header == HEADER


def test_nothing_recognised_is_an_empty_classification():
    assert messages.to_classification(HEADER, []).results == []


def test_neighbours_hold_names_and_similarities_by_which_the_best_has_the_largest_score():
    distances = {"same.png": 0.0, "alike.png": 0.25, "nothing in common.png": 1.0, "opposite.png": 2.0}
    message = messages.to_neighbours(HEADER, [Neighbour(*one) for one in distances.items()])
    assert [(one.class_id, one.score) for one in message.results] == [
        ("same.png", 1.0),
        ("alike.png", 0.75),
        ("nothing in common.png", 0.0),
        ("opposite.png", 0.0),
    ]
    assert message.header == HEADER


@pytest.mark.parametrize("spec", [tiny_spec(), SOME_UNKNOWN], ids=["plain", "with unknown"])
def test_every_class_of_a_classification_is_found_in_label_info_by_name_and_by_number(spec: ModelSpec, tmp_path: Path):
    """As a consumer joins them: name -> number, number -> name, and the list of which the number is the index."""
    info = messages.to_label_info(HEADER, spec, 0.0)
    numbers = {one.class_name: one.class_id for one in info.class_map}
    names = {one.class_id: one.class_name for one in info.class_map}
    assert len(numbers) == len(names) == len(info.class_map)
    pipeline = Pipeline.load(write_tiny_model(tmp_path / "tiny.onnx", spec=spec), CPU)
    answered = set()
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)):
        prediction = pipeline.recognise(np.full((24, 32, 3), colour, np.uint8))  # type: ignore[arg-type]
        for one in messages.to_answer(HEADER, prediction, "classification", 5, 0.0).results:
            assert names[numbers[one.class_id]] == one.class_id == messages.labels(spec)[numbers[one.class_id]]
            answered.add(one.class_id)
    assert answered == set(numbers)


def test_ray_is_the_direction_in_the_optical_frame():
    message = messages.to_ray(HEADER, np.array([0.6, 0.0, 0.8]))
    assert (message.vector.x, message.vector.y, message.vector.z) == (0.6, 0.0, 0.8)
    assert message.header == HEADER


def test_joint_state_holds_the_numbers_by_name(tmp_path: Path):
    """The tiny model's logits, 10 times the colour in [0, 1], are the numbers."""
    spec = regression_spec({"x": "m", "y": "", "z": "s"})
    pipeline = Pipeline.load(write_tiny_model(tmp_path / "numbers.onnx", spec=spec), CPU)
    prediction = pipeline.recognise(np.full((24, 32, 3), (255, 51, 0), np.uint8))  # type: ignore[arg-type]
    message = messages.to_joint_state(HEADER, prediction)
    assert list(message.name) == ["x", "y", "z"]
    assert list(message.position) == pytest.approx([10.0, 2.0, 0.0], abs=1e-5)
    assert message.header == HEADER


CELLS = Cells(stride=(4.0, 8.0), window=(24.0, 32.0), offset=(11.5, 15.5))
K = [100.0, 0.0, 39.5, 0.0, 100.0, 23.5, 0.0, 0.0, 1.0]


def test_map_info_is_the_cameras_calibration_in_cells():
    """By hand: column = (u - 15.5) / 8 and row = (v - 11.5) / 4."""
    info = CameraInfo(distortion_model="plumb_bob", d=[0.1, 0.0, 0.0, 0.0, 0.0], k=K)
    message = messages.to_map_info(HEADER, CELLS, (7, 9), info)
    assert (message.height, message.width) == (7, 9)
    assert list(message.k) == pytest.approx([12.5, 0.0, 3.0, 0.0, 25.0, 3.0, 0.0, 0.0, 1.0])
    assert (message.distortion_model, list(message.d)) == ("plumb_bob", [0.1, 0.0, 0.0, 0.0, 0.0])
    assert message.header == HEADER


@pytest.mark.parametrize("info", [None, CameraInfo()], ids=["none", "uncalibrated"])
def test_map_info_without_calibration_has_zeros(info: CameraInfo | None):
    message = messages.to_map_info(HEADER, CELLS, (7, 9), info)
    assert (message.height, message.width) == (7, 9)
    assert not any(message.k)
    assert not any(message.p)


def test_vision_info_names_network_labels_and_version():
    message = messages.to_vision_info(HEADER, tiny_spec(), "ab" * 32, "/perception_node/class_labels", 3)
    assert message.method == "tiny sha256:" + "ab" * 32
    assert (message.database_location, message.database_version) == ("/perception_node/class_labels", 3)


def test_label_info_numbers_the_classes_and_unknown_last():
    plain = messages.to_label_info(HEADER, tiny_spec(), 0.25)
    assert [(one.class_id, one.class_name) for one in plain.class_map] == [(0, "red"), (1, "green"), (2, "blue")]
    assert plain.threshold == 0.25
    ruled = messages.to_label_info(HEADER, with_unknown(tiny_spec(), 0.0), 0.0)
    assert [one.class_name for one in ruled.class_map] == ["red", "green", "blue", "unknown"]


def test_pixel_info_gives_every_class_the_number_of_label_info_and_one_more_for_none():
    found = messages.to_pixel_info(HEADER, with_unknown(tiny_spec(), 0.0), 0.5)
    names = [(one.class_id, one.class_name) for one in found.class_map]
    assert names == [(0, "none"), (1, "red"), (2, "green"), (3, "blue")]
    assert (found.threshold, found.header) == (0.5, HEADER)


def test_labels_are_the_names_whatever_they_are():
    spec = dataclasses.replace(tiny_spec(), class_names=("no entry", "蜂", "a;b"))
    assert messages.labels(spec) == ["no entry", "蜂", "a;b"]

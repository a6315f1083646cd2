"""Owns: what a diagnosis says of boxes that are in other units than pixels of their image. The stream is a stub.

Leaves to others: when that is suspected (test_box_scale), which boxes are refused (test_cropping), DDS
(test_node_regions).
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus
from tiny_model import tiny_spec

from cnn_perception.errors import FrameError
from cnn_perception.image.messages import RgbImage
from cnn_perception.perception_node.regions.counters import RegionCounters
from cnn_perception.perception_node.regions.status import region_status
from cnn_perception.regions.answering import RegionSettings, crops
from cnn_perception.regions.box import Box
from cnn_perception.regions.box_scale import LEAST_BOXES
from cnn_perception.tasks.prediction import Prediction

ROWS, COLUMNS = 720, 1280
INPUT = [Box(25 + 590 * share, 20 + 300 * share, 40, 30) for share in np.linspace(0.0, 1.0, LEAST_BOXES)]
"""From corner to corner of 640x360."""


class Boxes:
    """The boxes of a camera, answered or refused as the node does."""

    def __init__(self) -> None:
        self.counters = RegionCounters()
        self.image = RgbImage(np.zeros((ROWS, COLUMNS, 3), np.uint8))
        self.spec = tiny_spec()

    def add(self, boxes: list[Box]) -> None:
        shown = crops(self.image, boxes, RegionSettings(most=2 * LEAST_BOXES), self.spec.input)
        answer = object.__new__(Prediction)  # of which nothing is read here
        answers = [one if isinstance(one, FrameError) else answer for one in shown]
        self.counters.messages.receive(time.monotonic())
        self.counters.add(boxes, answers, ROWS, COLUMNS)
        self.counters.messages.answer({})

    def diagnosis(self) -> DiagnosticStatus:
        stream: Any = SimpleNamespace(
            name="",
            topic="/boxes",
            is_active=True,
            is_wanted=True,
            expire_now=lambda: None,
            silence=lambda _: "",
            lonely_images=0,
            counters=self.counters,
        )
        return region_status(stream, enabled=True, timeout_s=1.0, stalled="").to_message("/node", "")


def test_boxes_in_shares_of_the_image_are_counted_and_the_warning_says_that_they_must_be_in_pixels():
    boxes = Boxes()
    boxes.add([Box(0.5, 0.5, 0.3, 0.4), Box(0.2, 0.3, 0.1, 0.2), Box(300, 300, 40, 40)])

    status = boxes.diagnosis()

    assert status.level == DiagnosticStatus.WARN
    assert status.message == (
        "2 of 3 boxes cannot be answered (box_too_small): a box is 0.1 x 0.2 pixels; boxes are in pixels of the image, "
        "not in shares of it, and at least 2 pixels a side"
    )
    assert {one.key: one.value for one in status.values}["boxes left out: box_too_small"] == "2"
    assert boxes.diagnosis().level == DiagnosticStatus.OK


def test_reason_that_is_explained_is_the_most_frequent_one():
    boxes = Boxes()
    boxes.add([Box(0.5, 0.5, 0.3, 0.4), *[Box(5000, 300, 40, 40)] * 2])

    assert "(box_outside, box_too_small): a box about (5000, 300) shows nothing" in boxes.diagnosis().message


def test_boxes_in_pixels_of_the_input_of_the_detector_are_suspected_until_one_lies_outside():
    boxes = Boxes()
    boxes.add(INPUT[:-1])
    assert boxes.diagnosis().level == DiagnosticStatus.OK
    boxes.add(INPUT[-1:])

    for _ in range(2):  # not only of what came since the diagnosis before
        status = boxes.diagnosis()
        assert status.level == DiagnosticStatus.WARN
        assert "all boxes so far lie in the upper left 640x640 pixels of images of 1280x720: perhaps" in status.message

    boxes.add([Box(1000, 500, 40, 40)])
    assert boxes.diagnosis().level == DiagnosticStatus.OK


def test_boxes_that_show_nothing_neither_raise_nor_end_the_suspicion():
    boxes = Boxes()
    boxes.add([*INPUT[:-1], Box(0.5, 0.5, 0.3, 0.4), Box(5000, 5000, 40, 40), Box(100, 100, -5, 5)])
    assert boxes.diagnosis().level == DiagnosticStatus.OK
    boxes.add([*INPUT[-1:], Box(5000, 5000, 40, 40)])
    assert "640x640" in boxes.diagnosis().message

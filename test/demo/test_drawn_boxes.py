"""Owns: the boxes of the demo's drive. Oracle: the masks of the same pictures, drawn another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnn_perception.bag.message_types import DETECTIONS_TYPE
from cnn_perception.bag.reader import Bag
from demo import boxes, masks
from demo.shots import CLASSES, CLEAR, Drive, DriveSettings

SETTINGS = DriveSettings(10.0, 4.0, 0, 96, 128)


def test_box_of_a_sign_is_the_rectangle_of_its_mask():
    drive = Drive(DriveSettings(10.0, 4.0, 0, 240, 320))
    stop = drive.stops[1]
    shot = drive.shot(stop.end - 2)  # near, and seen in full

    (sign,) = [thing for thing in boxes.things(shot) if thing.class_name != CLEAR]

    assert sign.class_name == stop.name
    rows, columns = np.nonzero(masks.label(shot) == masks.CONCEPTS.index(stop.name))
    low = np.array((columns.min(), rows.min()))
    high = np.array((columns.max(), rows.max())) + 1
    found_low = np.array((sign.box.x - sign.box.width / 2, sign.box.y - sign.box.height / 2))
    found_high = np.array((sign.box.x + sign.box.width / 2, sign.box.y + sign.box.height / 2))
    assert np.abs(found_low - low).max() <= 2
    assert np.abs(found_high - high).max() <= 2


def test_bag_has_boxes_and_truth_with_the_stamps_of_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(boxes, "_LEAST_PIXELS", 6)
    boxes.record(tmp_path / "bag", SETTINGS)

    with Bag(tmp_path / "bag") as bag:
        stamps = [image.stamp_ns for image in bag.images(bag.image_topic(boxes.IMAGES))]
        rois, truth = (
            [message for _, message in bag.stamped_messages(topic, (DETECTIONS_TYPE,), "topics of boxes")]
            for topic in (boxes.ROIS, boxes.TRUTH)
        )
    assert len(stamps) == len(rois) == len(truth) == 40
    for stamp_ns, ours, theirs in zip(stamps, rois, truth, strict=True):
        assert ours.header.stamp == theirs.header.stamp
        assert ours.header.stamp.sec * 10**9 + ours.header.stamp.nanosec == stamp_ns
        assert [one.id for one in ours.detections] == [one.id for one in theirs.detections]
    names = {one.results[0].hypothesis.class_id for message in truth for one in message.detections}
    assert CLEAR in names
    assert names <= set(CLASSES)

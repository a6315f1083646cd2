"""Owns: recorded frames as a bag. Leaves to others: folders of images, bounds, faults of both. Oracle: rosbags."""

from __future__ import annotations

import shutil
import time

from paths import files_of_at_most
from recording import SHA256, SPEC, Recording, packed, picture, prediction, raw
from rosbags.rosbag2 import Reader
from tiny_bag import TYPES
from tiny_model import with_unknown

from cnn_perception.background import recorder as recorder_module
from cnn_perception.bag.reader import Bag
from cnn_perception.image.messages import EncodedImage


def test_a_bag_holds_the_images_as_they_came_and_all_scores(tmp_path):
    pixels = picture(0, 20, 30)
    padded = EncodedImage(pixels.tobytes() + b"\7", "bgr8", 20, 30, 90, is_bigendian=True)
    jpeg = packed(pixels)
    recording = Recording(tmp_path, with_unknown(SPEC, 0.0), format="bag")
    before_ns = time.time_ns()
    recording.offer(padded, camera="front", stamp_ns=5_000_000_007)
    recording.offer(jpeg, prediction((0.125, 0.125, 0.75), unknown=True), camera="rear", stamp_ns=6_000_000_008)
    report = recording.close()

    (folder,) = tmp_path.iterdir()
    assert folder.name.endswith(f"Z_{SHA256[:12]}")
    with Reader(folder) as reader:
        found = [(c.topic, t, TYPES.deserialize_cdr(m, c.msgtype)) for c, t, m in reader.messages()]
    assert sorted(topic for topic, _, _ in found) == [
        "/front/image_raw", "/front/image_raw/classification", "/rear/image_raw", "/rear/image_raw/classification",
    ]  # fmt: skip
    assert all(before_ns <= time_ns <= time.time_ns() for _, time_ns, _ in found)
    messages = {topic: message for topic, _, message in found}
    image = messages["/front/image_raw"]
    assert (image.height, image.width, image.step, image.encoding, image.is_bigendian) == (20, 30, 90, "bgr8", 1)
    assert bytes(image.data) == padded.data
    assert (image.header.stamp.sec, image.header.stamp.nanosec, image.header.frame_id) == (5, 7, "optical")
    assert messages["/front/image_raw/classification"].header == image.header
    picked = messages["/rear/image_raw"]
    assert (bytes(picked.data), picked.format) == (jpeg.data, jpeg.format)
    front = messages["/front/image_raw/classification"].results
    rear = messages["/rear/image_raw/classification"].results
    assert [(r.class_id, r.score) for r in front] == [("ants", 0.5), ("bees", 0.375), ("wasps", 0.125)]
    assert [(r.class_id, r.score) for r in rear] == [
        ("unknown", 1.0),
        ("wasps", 0.75),
        ("ants", 0.125),
        ("bees", 0.125),
    ]
    assert (report.recorded, report.problem) == (2, "")
    assert SHA256 in (folder / "metadata.yaml").read_text()


def test_a_bag_on_a_full_disk_keeps_its_frames_and_the_next_begins_another(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.0)
    recording = Recording(tmp_path, format="bag")
    with files_of_at_most(100_000):
        for stamp_ns in range(6):
            recording.offer(raw(picture(stamp_ns, 60, 100)), camera="front", stamp_ns=stamp_ns)
            if recording.said:
                break
    kept = recording.recorder.report().recorded
    assert 3 <= kept <= 5
    assert recording.said == [f"{tmp_path}: cannot be written (File too large); check the folder and its permissions"]

    recording.offer(raw(picture()), camera="front", stamp_ns=7)
    report = recording.close()

    assert (report.recorded, report.problem) == (kept + 1, "")
    stamps = []
    for folder in sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime):
        with Bag(folder) as bag:
            stamps += [image.stamp_ns for image in bag.images(bag.image_topic())]
    assert sorted(stamps) == [*range(kept), 7]


def test_a_bag_that_is_removed_while_it_is_written_is_told_and_the_next_frame_begins_another(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.0)
    folder = tmp_path / "unsure"
    recording = Recording(folder, format="bag")
    recording.offer(raw(picture()), camera="front", stamp_ns=1)
    shutil.rmtree(folder)
    recording.offer(raw(picture()), camera="front", stamp_ns=2)
    assert recording.said == [
        f"{folder}: cannot be written (the file was removed while it was written); it or its disk is not there: "
        "put it back, or choose another folder"
    ]

    recording.offer(raw(picture()), camera="front", stamp_ns=3)
    report = recording.close()

    assert (report.recorded, report.lost["paused"], report.problem) == (2, 1, "")
    with Bag(next(folder.iterdir())) as bag:
        assert [image.stamp_ns for image in bag.images(bag.image_topic())] == [3]


def test_a_bag_that_never_got_a_frame_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.0)
    recording = Recording(tmp_path, format="bag")
    with files_of_at_most(10):
        recording.offer(raw(picture()))
        recording.offer(raw(picture()))
    recording.close()

    assert len(recording.said) == 1
    assert list(tmp_path.iterdir()) == []

"""Owns: what the black box of a running node saves, over DDS. Oracles: rosbags and mcap, the frames that were sent.

Leaves to others: windows, bounds and faults (test_black_box), defects (test_injection).
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import tiny_spec, with_unknown, write_tiny_model

pytest.importorskip("rclpy", reason="needs ROS 2")

from lifecycle_msgs.msg import Transition
from mcap.reader import make_reader
from paths import make_read_only, small_disk
from perception import NODE, diagnosis, image, picture, transition, value, wait_until
from rclpy.qos import QoSProfile
from ros import Participant, new_domain, participant, running
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tiny_bag import TYPES

WINDOW_S = 1.0
PERIOD_S = 0.05
LATE_S = 0.25
"""A frame may need so long from the camera to the node."""


def messages(bag: Path) -> list[tuple[str, int, Any]]:
    with Reader(bag) as reader:
        return [(c.topic, time_ns, TYPES.deserialize_cdr(data, c.msgtype)) for c, time_ns, data in reader.messages()]


def saved(ros: Participant, folder: Path, count: int = 1) -> list[Path]:
    """The bags of a folder, once so many are whole."""
    ros.wait_for(lambda: len(list(folder.glob("*/metadata.yaml"))) == count, f"{count} whole bags in {folder}")
    return sorted(path.parent for path in folder.glob("*/metadata.yaml"))


def film(ros: Participant, camera: Any, infos: Any, numbers: range) -> dict[int, int]:
    """Publishes numbered frames at 20 Hz; returns when each was published, nanoseconds."""
    published = {}
    for number in numbers:
        due_s = time.monotonic() + PERIOD_S
        published[number] = time.time_ns()
        pixels = picture(number, 48, 80)
        pixels[0, 0] = number
        message = image(divmod(published[number], 10**9), pixels)
        camera.publish(message)
        infos.publish(CameraInfo(header=message.header, height=48, width=80))
        while (left_s := due_s - time.monotonic()) > 0:
            ros._executor.spin_once(timeout_sec=left_s)
    return published


def test_trigger_in_the_middle_of_sixty_frames_saves_exactly_those_of_its_window(tmp_path: Path):
    domain, box = new_domain(), tmp_path / "box"
    model = write_tiny_model(tmp_path / "tiny.onnx")
    given = {"black_box_dir": box, "black_box_before_s": WINDOW_S, "black_box_after_s": WINDOW_S}
    # of two frames a second that the node answers, it overtakes all others
    given |= {"model": model, "max_rate_hz": 2.0, "diagnostics_period_s": 0.1}
    with participant(domain) as ros, running("perception_node", domain, tmp_path / "log", **given) as node:
        wait_until(ros, "active")
        camera = ros.publisher(Image, "/image_raw", QoSProfile(depth=10))
        ros.wait_for(lambda: camera.get_subscription_count() == 2, "both subscriptions of the images")
        infos = ros.publisher(CameraInfo, "/camera_info")
        service = ros.node.create_client(Trigger, f"{NODE}/save_black_box")
        ros.wait_for(service.service_is_ready, "the service")
        published = film(ros, camera, infos, range(30))
        called = service.call_async(Trigger.Request())
        published |= film(ros, camera, infos, range(30, 60))
        answer = ros.wait_for(lambda: called.done() and called.result(), "the answer of the service")
        (bag,) = saved(ros, box)
        ros.wait_for(lambda: value(diagnosis(ros, "black box"), "saved") == "1", "diagnostics that name it")
        status = diagnosis(ros, "black box")
        log = node.log

    found = messages(bag)
    (marked_ns,) = [time_ns for topic, time_ns, _ in found if topic == f"{NODE}/black_box"]
    frames = [(time_ns, message) for topic, time_ns, message in found if topic == "/image_raw"]
    numbers = [int(message.data[0]) for _, message in frames]
    first, last = numbers[0], numbers[-1]
    assert answer.success
    assert answer.message.startswith(f"{bag}: being written, with the next ")
    assert numbers == [*range(first, last + 1)]  # in order, none lost and none twice
    begin_ns, end_ns = marked_ns - WINDOW_S * 1e9, marked_ns + WINDOW_S * 1e9
    tolerance_ns = 1e7  # between the clock of stamps and the one of windows
    assert all(begin_ns - tolerance_ns <= time_ns <= end_ns + tolerance_ns for time_ns, _ in frames)
    assert published[first - 1] < begin_ns + tolerance_ns  # the frames beside them were not of the window
    assert published[last + 1] > end_ns - LATE_S * 1e9
    assert 0 < first < 30 < last < 59
    for number, (time_ns, message) in zip(numbers, frames, strict=True):
        pixels = picture(number, 48, 80)
        pixels[0, 0] = number
        assert np.array_equal(message.data, pixels.reshape(-1))
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == published[number] <= time_ns
    calibrations = [message.header.stamp for topic, _, message in found if topic == "/camera_info"]
    assert {(stamp.sec, stamp.nanosec) for stamp in calibrations} >= {
        divmod(published[number], 10**9) for number in numbers[1:-1]
    }
    answers = [message for topic, _, message in found if topic == f"{NODE}/classification"]
    assert 2 <= len(answers) <= 6  # of a node that looks at two a second
    assert sum(topic == "/diagnostics" for topic, _, _ in found) >= 10
    assert value(status, "latest") == str(bag)
    assert f"service: asked for; saving 1 s before and 1 s after it as {bag}" in log
    assert f"saved {bag}" in log

    with next(bag.glob("*.mcap")).open("rb") as file:
        by_mcap = [
            TYPES.deserialize_cdr(message.data, schema.name)
            for schema, channel, message in make_reader(file).iter_messages(topics=["/image_raw"])
        ]
    assert [int(message.data[0]) for message in by_mcap] == numbers


def test_unknown_streak_and_topic_save_and_a_node_at_rest_or_a_bad_folder_is_said(tmp_path: Path):
    domain, box = new_domain(), tmp_path / "box"
    model = write_tiny_model(tmp_path / "tiny.onnx", spec=with_unknown(tiny_spec(), 100.0))  # everything is unknown
    given = {"model": model, "black_box_dir": box, "black_box_before_s": 0.5, "black_box_after_s": 0.1}
    given |= {"black_box_unknown_streak": 3, "diagnostics_period_s": 0.05}
    with participant(domain) as ros, running("perception_node", domain, tmp_path / "log", **given) as node:
        wait_until(ros, "active")
        camera = ros.publisher(Image, "/image_raw")
        infos = ros.publisher(CameraInfo, "/camera_info")
        film(ros, camera, infos, range(10))
        (streak,) = saved(ros, box)
        triggers = ros.publisher(String, f"{NODE}/black_box_trigger")
        triggers.publish(String(data="a person\nran in front"))
        _, topic = saved(ros, box, 2)
        assert transition(ros, Transition.TRANSITION_DEACTIVATE)
        refused = ros.call(Trigger, f"{NODE}/save_black_box", Trigger.Request())
        log = node.log

    assert streak.name.endswith("Z_unknown_streak")
    assert "unknown_streak: 3 answers in a row to /image_raw are unknown; saving" in log
    assert topic.name.endswith("Z_topic")
    assert "topic: a person ran in front; saving" in log
    assert (refused.success, refused.message[:36]) == (False, "nothing is saved: the node is not ac")


def test_folder_that_cannot_be_written_is_said_and_frames_are_answered(tmp_path: Path):
    (tmp_path / "file").write_text("")
    domain = new_domain()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    given = {"model": model, "black_box_dir": tmp_path / "file" / "box", "diagnostics_period_s": 0.05}
    with participant(domain) as ros, running("perception_node", domain, tmp_path / "log", **given):
        wait_until(ros, "active")
        answers = ros.collect(type_of_answers(), f"{NODE}/classification")
        camera = ros.publisher(Image, "/image_raw")
        ros.repeat(lambda: camera.publish(image((1, 0), picture(0))), lambda: answers, "an answer")
        status = diagnosis(ros, "black box")

    assert status.level == b"\x01"
    assert status.message.startswith(f"{tmp_path}/file/box: cannot be written (Not a directory)")


def test_call_is_told_of_a_full_and_of_a_read_only_disk_and_frames_are_answered(tmp_path: Path):
    domain = new_domain()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    with small_disk(tmp_path / "disk", 2**20) as disk:
        rest = disk / "rest"
        rest.write_bytes(bytes(2**20 - 8192))
        given = {"model": model, "black_box_dir": disk, "diagnostics_period_s": 0.05, "black_box_after_s": 0.1}
        with participant(domain) as ros, running("perception_node", domain, tmp_path / "log", **given):
            wait_until(ros, "active")
            answers = ros.collect(type_of_answers(), f"{NODE}/classification")
            camera = ros.publisher(Image, "/image_raw")

            def answered() -> None:
                count = len(answers)
                message = image((1, 0), picture(0, 48, 80))
                ros.repeat(lambda: camera.publish(message), lambda: len(answers) > count, "an answer")

            answered()
            full = ros.call(Trigger, f"{NODE}/save_black_box", Trigger.Request())
            answered()
            status = diagnosis(ros, "black box")
            rest.unlink()
            for path in disk.iterdir():
                shutil.rmtree(path)
            make_read_only(disk)
            read_only = ros.call(Trigger, f"{NODE}/save_black_box", Trigger.Request())
            answered()
            make_read_only(disk, again_writable=True)
            good = ros.call(Trigger, f"{NODE}/save_black_box", Trigger.Request())
            saved(ros, disk)
            ros.wait_for(lambda: diagnosis(ros, "black box").level == b"\x00", "diagnostics that are good again")

    assert not full.success
    assert full.message.startswith(f"{disk}: disk full; free some space (")
    assert (status.level, status.message[: len(str(disk)) + 11]) == (b"\x01", f"{disk}: disk full")
    assert not read_only.success
    assert read_only.message.startswith(f"{disk}: cannot be written (Read-only file system); mount its disk")
    assert good.success
    assert good.message.startswith(f"{disk}/")


def type_of_answers() -> type:
    from vision_msgs.msg import Classification

    return Classification

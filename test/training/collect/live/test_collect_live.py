"""Owns: collecting from a running camera over real DDS: at a rate, at Enter, at a call; how it ends.

Leaves to others: what is chosen and how a frame is kept.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from paths import ROOT, small_disk
from ros import ENDS_WITHIN_S, TIMEOUT_S, Participant
from scenes import scene
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tiny_bag import compressed
from tiny_model import write_tiny_model

TOPIC = "/front/image_raw"
NODE = "/collect"


class Collector:
    """`python -m training.collect --topic` as a process, and a camera that shows another scene every 50 ms."""

    def __init__(self, talker: Participant, domain: int, folder: Path, topic: str, *words: object) -> None:
        self.talker = talker
        self.output = folder / "set"
        self.log_path = folder / "log"
        self.number = 0
        self.still: int | None = None
        self.encode: Callable[[np.ndarray], bytes] = np.ndarray.tobytes
        environment = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
        environment |= {"ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1", "ROS_LOG_DIR": str(folder / "ros_log")}
        command = [sys.executable, "-m", "training.collect", "--topic", topic, "--output", str(self.output)]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *map(str, words)], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def rows(self) -> list[dict[str, str]]:
        table = self.output / "labels.csv"
        if not table.exists():
            return []
        with table.open(newline="") as file:
            return list(csv.DictReader(file))

    def show(self, kind: type[Image] | type[CompressedImage] = Image, topic: str = TOPIC) -> None:
        """Starts the camera."""
        publisher = self.talker.node.create_publisher(kind, topic, 5)

        def publish() -> None:
            self.number += 1
            pixels = scene(self.number if self.still is None else self.still)
            if kind is Image:
                message = Image(height=48, width=64, encoding="rgb8", step=192, data=self.encode(pixels))
            else:
                message = CompressedImage(format="jpeg", data=compressed(pixels, 0).data.tobytes())
            message.header.stamp.sec = self.number
            publisher.publish(message)

        self.talker.node.create_timer(0.05, publish)
        self.talker.wait_for(lambda: publisher.get_subscription_count() > 0, "the collector")

    def end(self, by: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(by)
        return self.process.wait(ENDS_WITHIN_S)


@pytest.fixture
def start(talker: Participant, domain: int, tmp_path: Path) -> Iterator[object]:
    running: list[Collector] = []

    def begin(*words: object, topic: str = TOPIC) -> Collector:
        running.append(Collector(talker, domain, tmp_path, topic, *words))
        return running[-1]

    yield begin
    for timer in list(talker.node.timers):
        talker.node.destroy_timer(timer)
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(TIMEOUT_S)
        assert "Traceback" not in one.log, one.log
    talker.forget()


def test_call_takes_the_newest_image_with_the_models_guess(start, talker: Participant, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "m.onnx")
    collector = start("--on", "service", "--model", model)
    collector.show()
    shown = collector.number
    answers = [talker.call(Trigger, f"{NODE}/collect", Trigger.Request()) for _ in range(2)]

    assert [answer.success for answer in answers] == [True, True]
    rows = collector.rows
    assert [row["path"] for row in rows] == [answer.message for answer in answers]
    assert all((collector.output / row["path"]).is_file() for row in rows)
    assert int(rows[0]["stamp_ns"]) >= shown * 10**9
    assert {row["guess"] for row in rows} <= {"red", "green", "blue"}
    assert {(row["topic"], row["camera"], row["reason"]) for row in rows} == {(TOPIC, "front", "service")}
    assert collector.end() == 0
    assert [(row["part"], row["bag"][-4:] == "_val") for row in collector.rows] == [("train", False), ("val", True)]


def test_rate_takes_images_that_differ_until_there_are_enough(start, talker: Participant) -> None:
    collector = start("--rate", 20, "--budget", 3)
    collector.show(CompressedImage)
    talker.wait_for(lambda: collector.process.poll() is not None, "the end of the collecting")

    rows = collector.rows
    assert collector.process.returncode == 0
    assert len(rows) == len({row["stamp_ns"] for row in rows}) == 3
    assert all(row["path"].endswith(".jpg") for row in rows)


def test_what_is_odd_about_the_pictures_is_said_once_while_they_are_taken(start, talker: Participant) -> None:
    """A JPEG in the place of pixels, as some drivers send it; it is the same file that a CompressedImage would hold."""
    collector = start("--rate", 20, "--budget", 3)
    collector.encode = lambda pixels: compressed(pixels, 0).data.tobytes()
    collector.show()
    talker.wait_for(lambda: collector.process.poll() is not None, "the end of the collecting")

    (line,) = [line for line in collector.log.splitlines() if line.startswith("warning: ")]
    assert "file_in_image: the Image labelled 'rgb8' holds a JPEG in place of pixels" in line
    assert len(collector.rows) == 3


def test_camera_that_stands_still_gives_one_image_and_a_signal_ends_it_with_all_written(
    start, talker: Participant
) -> None:
    collector = start("--rate", 50)
    collector.still = 7
    collector.show()
    talker.wait_for(lambda: collector.log.count("images/live_") == 1, "the first image")
    seen = collector.number
    talker.wait_for(lambda: collector.number > seen + 10, "ten more images")
    collector.still = 8
    talker.wait_for(lambda: collector.log.count("images/live_") == 2, "the second image")

    assert collector.end(signal.SIGTERM) == 0
    assert len(collector.rows) == 2
    assert "look like the one before" in collector.log


def test_enter_takes_an_image_and_the_end_of_the_input_ends_it(start, talker: Participant) -> None:
    collector = start("--on", "key")
    collector.show()
    collector.process.stdin.write(b"\n\n")
    collector.process.stdin.flush()
    talker.wait_for(lambda: len(collector.rows) == 2, "two rows")
    collector.process.stdin.close()
    talker.wait_for(lambda: collector.process.poll() is not None, "the end of the collecting")

    assert collector.process.returncode == 0
    assert [row["reason"] for row in collector.rows] == ["key", "key"]


def test_killed_collector_leaves_a_row_for_each_image_that_was_asked_for(start, talker: Participant) -> None:
    collector = start("--on", "service")
    collector.show()
    answer = talker.call(Trigger, f"{NODE}/collect", Trigger.Request())
    collector.process.kill()
    collector.process.wait(TIMEOUT_S)

    assert [row["path"] for row in collector.rows] == [answer.message]


def test_call_whose_image_cannot_be_written_is_told_why(start, talker: Participant, tmp_path: Path) -> None:
    with small_disk(tmp_path / "set", 2**20) as disk:
        collector = start("--on", "service")
        collector.show()
        assert talker.call(Trigger, f"{NODE}/collect", Trigger.Request()).success
        with pytest.raises(OSError, match="No space"):  # what fits is there
            (disk / "rest").write_bytes(bytes(2**21))
        answer = talker.call(Trigger, f"{NODE}/collect", Trigger.Request())
        code = collector.process.wait(ENDS_WITHIN_S)

    assert (answer.success, code) == (False, 2)
    assert answer.message.endswith("disk full; free some space, and run the same command again")
    assert "disk full; free some space" in collector.log


def test_topic_without_images_ends_with_one_line(start, talker: Participant) -> None:
    publisher = talker.node.create_publisher(String, "/words", 1)
    collector = start(topic="/words")
    talker.wait_for(lambda: collector.process.poll() is not None, "the end of the collecting")

    assert collector.process.returncode == 2
    assert "/words: is std_msgs/msg/String; name an image topic" in collector.log
    assert collector.rows == []
    talker.node.destroy_publisher(publisher)


def test_images_that_cannot_be_used_are_said_once(start, talker: Participant) -> None:
    publisher = talker.node.create_publisher(Image, TOPIC, 5)
    collector = start("--rate", 100)
    talker.wait_for(lambda: publisher.get_subscription_count() > 0, "the collector")
    bad = Image(height=48, width=64, encoding="nonsense", step=192)
    talker.repeat(lambda: publisher.publish(bad), lambda: "left out" in collector.log, "a word of it")
    collector.show()
    talker.wait_for(lambda: "images/live_" in collector.log, "a good image")
    seen = collector.number
    talker.repeat(lambda: publisher.publish(bad), lambda: collector.number > seen + 5, "more images")

    assert collector.end() == 0
    assert collector.log.count("left out") == 1


def test_nothing_that_came_in_the_given_time_is_an_error(start, talker: Participant) -> None:
    collector = start("--seconds", 0.5)
    talker.wait_for(lambda: collector.process.poll() is not None, "the end of the collecting")

    assert collector.process.returncode == 2
    assert f"no image came on {TOPIC}" in collector.log

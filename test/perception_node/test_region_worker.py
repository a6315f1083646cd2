"""Owns: the thread that answers boxes: what costs one message, what ends the process, and what keeps it out.

The stream of boxes is a stub. Leaves to others: whose image boxes are of (test_box_matching), DDS (test_node_regions).
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from boxed import boxes_message
from frames import saved
from node_parts import SaidLogger, active_model
from perception import image
from PIL import Image as Picture
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from tiny_model import write_tiny_model
from vision_msgs.msg import Detection2D, Detection2DArray

from cnn_perception.errors import FrameError
from cnn_perception.perception_node.regions import worker
from cnn_perception.perception_node.regions.counters import RegionCounters
from cnn_perception.perception_node.regions.messages import MOST_IN_MESSAGE, SerializedHeader, require_few
from cnn_perception.perception_node.regions.worker import RegionWorker
from cnn_perception.perception_node.settings import CameraSettings, LiveSettings, Settings
from cnn_perception.regions import answering
from cnn_perception.regions.box import Box
from cnn_perception.regions.matching import Pair
from cnn_perception.ros.throttled_log import ThrottledLog

TIMEOUT_S = 60.0
STAMP_NS = 5 * 10**9
BOXES = [Box(20, 24, 10, 10, id="a")]


class StubStream:
    """Has the pair that the test leaves, and remembers what became of it."""

    def __init__(self) -> None:
        self.pair: Any = None
        self.settings = CameraSettings()
        self.inputs = SimpleNamespace(kind=Image, images="/image_raw")
        self.counters = RegionCounters()
        self.outputs: Any = SimpleNamespace(publish=self._publish, is_wanted=lambda _: False)
        self.defects_in_a_row = 0
        self.dropped: list[str] = []
        self.answers: list[Any] = []
        self.done = threading.Semaphore(0)

    def has_pair(self) -> bool:
        return self.pair is not None

    def take(self) -> Any:
        pair, self.pair = self.pair, None
        return pair

    def drop(self, refusal: FrameError) -> None:
        self.dropped.append(refusal.reason)
        self.done.release()

    def _publish(self, answer: Any, rays: Any) -> None:
        self.answers.append(answer)
        self.done.release()


class Bench:
    def __init__(self, model: Path) -> None:
        self.stream = StubStream()
        self.failures: list[BaseException] = []
        self.failed = threading.Event()
        self.logger = SaidLogger()
        self.now_ns = STAMP_NS
        models: Any = SimpleNamespace(in_use=active_model(model))
        streams: Any = [self.stream]
        log = ThrottledLog(self.logger)
        self.worker = RegionWorker(streams, models, LiveSettings(Settings()), log, lambda: self.now_ns, self._fail)

    def _fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self.failed.set()

    def offer(self, boxes: bytes | None = None, picture: bytes | None = None) -> None:
        pixels = np.full((48, 80, 3), (250, 0, 0), np.uint8)
        frame = image((5, 0), pixels)
        self.stream.pair = Pair(
            STAMP_NS,
            picture or serialize_message(frame),
            boxes or serialize_message(boxes_message(frame.header, BOXES)),
        )
        self.worker.wake()

    def ask(self, **fields: Any) -> None:
        """Offers boxes and waits until they are answered or dropped."""
        self.offer(**fields)
        assert self.stream.done.acquire(timeout=TIMEOUT_S)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(write_tiny_model(tmp_path / "tiny.onnx"))
    yield one
    one.worker.close()


def test_boxes_are_answered_and_counted(bench: Bench):
    bench.ask()

    (answer,) = bench.stream.answers
    assert answer.detections[0].results[0].hypothesis.class_id == "red"
    with bench.worker.paused():  # what is counted after the answer has left
        assert bench.stream.counters.boxes()[0].answered == 1
        assert bench.stream.counters.snapshot().total.answered == 1


@pytest.mark.parametrize("payload", [b"\0\1\0\0", b"\0\1\0\0" + bytes(7) + b"\xff" * 90], ids=["cut", "absurd"])
@pytest.mark.parametrize("which", ["boxes", "picture"])
def test_message_that_is_none_costs_itself_and_is_no_defect(bench: Bench, which: str, payload: bytes):
    for _ in range(4):
        bench.ask(**{which: payload})
    bench.ask()

    assert bench.stream.dropped == ["message"] * 4
    assert not bench.failures
    assert len(bench.stream.answers) == 1


def test_compressed_images_have_boxes_too(bench: Bench):
    bench.stream.inputs.kind = CompressedImage
    file = saved(Picture.new("RGB", (80, 48), (0, 0, 250)), "PNG")
    bench.ask(picture=serialize_message(CompressedImage(format="png", data=array("B", file))))

    assert bench.stream.answers[0].detections[0].results[0].hypothesis.class_id == "blue"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_boxes_in_an_image_that_exif_turns_are_refused(bench: Bench, orientation: int):
    """Their detector may have seen it as it is stored, with other pixels in them, or turned, as this decoder does."""
    bench.stream.inputs.kind = CompressedImage
    exif = Picture.Exif()
    exif[0x0112] = orientation
    file = saved(Picture.new("RGB", (80, 48), (0, 0, 250)), "JPEG", exif=exif)
    bench.ask(picture=serialize_message(CompressedImage(format="jpeg", data=array("B", file))))

    assert bench.stream.dropped == ([] if orientation == 1 else ["rois_image_turned"])
    assert len(bench.stream.answers) == (1 if orientation == 1 else 0)


def test_picture_that_cannot_be_decoded_costs_its_boxes(bench: Bench):
    bench.ask(picture=serialize_message(Image(height=4, width=4, encoding="rgb8", step=12)))

    assert bench.stream.dropped == ["truncated"]


def test_defect_costs_one_message_and_the_third_in_a_row_ends_the_process(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise KeyError("as planned")

    sound = answering.crop
    monkeypatch.setattr(answering, "crop", broken)
    bench.ask()
    bench.ask()
    monkeypatch.setattr(answering, "crop", sound)
    bench.ask()
    assert not bench.failures
    monkeypatch.setattr(worker, "decode_frame", broken)
    for _ in range(3):
        bench.ask()
    assert bench.failed.wait(TIMEOUT_S)
    assert isinstance(bench.failures[0], KeyError)
    assert bench.stream.dropped == ["defect"] * 5
    assert len(bench.stream.answers) == 1
    assert len(bench.logger.texts("error")) >= 1


def test_boxes_that_are_too_old_when_they_are_taken_are_not_answered(bench: Bench):
    bench.stream.settings = CameraSettings(max_age_s=1.0)
    bench.now_ns = STAMP_NS + 2 * 10**9
    bench.ask()

    assert bench.stream.dropped == ["too_old"]


def test_model_that_fails_costs_the_boxes_of_the_image(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise FrameError("inference", "as planned")

    monkeypatch.setattr(worker, "infer_boxes", broken)
    bench.ask()

    assert bench.stream.dropped == ["inference"]
    assert not bench.failures


def test_nothing_is_answered_while_it_is_paused(bench: Bench):
    with bench.worker.paused():
        bench.offer()
        assert not bench.stream.done.acquire(timeout=0.05)
    assert bench.stream.done.acquire(timeout=TIMEOUT_S)


def test_many_boxes_under_way_are_given_up_where_the_node_changes_and_the_next_are_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    is_at_it, may_go_on = threading.Event(), threading.Event()
    sound = answering.crop
    shown: list[int] = []

    def slow(*arguments: Any) -> Any:
        shown.append(1)
        is_at_it.set()
        assert may_go_on.wait(TIMEOUT_S)
        return sound(*arguments)

    monkeypatch.setattr(answering, "crop", slow)
    header = image((5, 0), np.zeros((1, 1, 3), np.uint8)).header
    bench.offer(serialize_message(boxes_message(header, BOXES * 50)))
    assert is_at_it.wait(TIMEOUT_S)
    inside = threading.Event()

    def change() -> None:
        with bench.worker.paused():
            inside.set()

    changing = threading.Thread(target=change)
    changing.start()
    wait_until(lambda: bench.worker._pauses)
    assert not inside.is_set()
    may_go_on.set()
    changing.join(TIMEOUT_S)

    assert inside.is_set()
    assert bench.stream.dropped == ["rois_interrupted"]
    assert len(shown) == 1
    assert bench.stream.done.acquire(timeout=TIMEOUT_S)
    bench.ask()
    assert len(bench.stream.answers) == 1


def wait_until(is_so: Callable[[], Any]) -> None:
    limit_s = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < limit_s
        time.sleep(0.001)


def test_header_is_read_of_a_message_without_deserialising_it():
    frame = image((1_700_000_000, 123_456_789), np.zeros((1, 1, 3), np.uint8))
    little_endian = serialize_message(frame)
    assert SerializedHeader.of(little_endian) == SerializedHeader(1_700_000_000_123_456_789, "camera", 123_456_789)
    big_endian = b"\0\0\0\0" + b"".join(number.to_bytes(4, "big") for number in (7, 9, 3)) + b"ab\0"
    assert SerializedHeader.of(big_endian) == SerializedHeader(7_000_000_009, "ab", 9)
    assert SerializedHeader.of(b"\0\1\0\0\1") == SerializedHeader(0, "")


@pytest.mark.parametrize("frame_id", ["", "a", "abc", "abcd", "abcdefgh"])
def test_boxes_of_a_message_are_counted_before_it_is_deserialised(frame_id: str):
    def message(count: int) -> bytes:
        boxes = [Detection2D()] * count
        return serialize_message(Detection2DArray(header=Header(frame_id=frame_id), detections=boxes))

    require_few(message(3))
    few = message(MOST_IN_MESSAGE)
    require_few(few)
    require_few(b"\0\1\0\0\1")  # broken: is refused later
    with pytest.raises(FrameError, match=f"{MOST_IN_MESSAGE + 1} boxes") as refusal:
        require_few(message(MOST_IN_MESSAGE + 1))
    assert refusal.value.reason == "rois_too_many"
    with pytest.raises(FrameError, match="bytes"):
        require_few(message(1) + bytes(2**23))

"""Owns: which frames the node's steps drop, and which exceptions they let pass. Stubs in the place of node and cameras.

Leaves to others: what is published of an answered frame (test_node).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from perception import image, picture

from cnn_perception.errors import FrameError
from cnn_perception.perception_node.frame_stages import Steps
from cnn_perception.stream.frame_counters import FrameCounters
from cnn_perception.stream.stamps import Stamps


class DefectError(Exception):
    """What nobody foresees."""


class Bench:
    """A node with cameras, of which `outcomes` says what becomes of the next frames when they are prepared."""

    def __init__(self, *names: str) -> None:
        wanted = SimpleNamespace(anything=True)
        self.cameras = {
            name: SimpleNamespace(
                name=name,
                topic=f"/{name}",
                counters=FrameCounters(0.0),
                stamps=Stamps(),
                settings=SimpleNamespace(max_age_s=0.0),
                outputs=SimpleNamespace(wanted=lambda: wanted),
            )
            for name in names
        }
        self.settings, self.enabled = SimpleNamespace(stamp_policy="accept"), True
        self.loaded = SimpleNamespace(pipeline=SimpleNamespace(prepare=self._outcome), is_watched=False)
        self.outcomes: list[BaseException | str] = []
        self.printed: list[BaseException] = []
        self.warned: list[str] = []
        self.steps = Steps(self)  # type: ignore[arg-type]
        self._stamp_s = 0

    def _outcome(self, _: object) -> str:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def now_ns(self) -> int:
        return 10**15

    def warn(self, key: str, text: str) -> None:
        self.warned.append(text)

    def print_defect(self, error: BaseException) -> None:
        self.printed.append(error)

    def prepare(self, camera: str, outcome: BaseException | str) -> Any:
        """Prepares one frame; returns those that go on."""
        self._stamp_s += 1
        self.outcomes.append(outcome)
        return self.steps.prepare([(self.cameras[camera], image((self._stamp_s, 0), picture(1)))])


def test_frame_that_meets_a_defect_is_dropped_and_the_next_goes_on():
    bench = Bench("front")
    defect = DefectError("as planned")
    assert bench.prepare("front", defect) is None
    (frame,) = bench.prepare("front", "tensor")
    assert frame.prepared == "tensor"
    assert bench.cameras["front"].counters.snapshot(1.0).dropped == {"defect": 1}
    assert bench.printed == [defect]
    assert "/front: frame dropped (defect, 1 so far): DefectError: as planned" in bench.warned[0]


def test_defect_of_one_camera_leaves_the_others_frames_of_the_batch():
    bench = Bench("front", "rear")
    bench.outcomes = [DefectError(), "tensor"]
    cameras = [bench.cameras["front"], bench.cameras["rear"]]
    (frame,) = bench.steps.prepare([(camera, image((1, 0), picture(1))) for camera in cameras]) or []
    assert frame.camera is bench.cameras["rear"]


def test_third_defect_in_a_row_is_raised():
    bench = Bench("front")
    third = DefectError("third")
    assert bench.prepare("front", DefectError()) is None
    assert bench.prepare("front", DefectError()) is None
    with pytest.raises(DefectError) as raised:
        bench.prepare("front", third)
    assert raised.value is third


@pytest.mark.parametrize("between", ["tensor", FrameError("corrupt", "a broken file")], ids=["good", "refused"])
def test_frame_that_meets_no_defect_ends_the_row(between: BaseException | str):
    bench = Bench("front")
    for outcome in (DefectError(), DefectError(), between, DefectError(), DefectError()):
        bench.prepare("front", outcome)
    assert bench.cameras["front"].counters.snapshot(1.0).dropped["defect"] == 4


def test_row_is_of_one_camera_whatever_the_others_show():
    bench = Bench("front", "rear")
    for _ in range(2):
        bench.prepare("front", DefectError())
        bench.prepare("rear", "tensor")
    with pytest.raises(DefectError):
        bench.prepare("front", DefectError())


def test_row_of_one_camera_is_not_lengthened_by_another():
    bench = Bench("front", "rear")
    for camera in ("front", "rear", "front", "rear"):
        assert bench.prepare(camera, DefectError()) is None


@pytest.mark.parametrize("error", [DefectError(), MemoryError()], ids=repr)
def test_defect_in_inference_is_raised(error: BaseException):
    bench = Bench("front")
    frames = bench.prepare("front", "tensor")

    def infer_batch(*_: object) -> None:
        raise error

    bench.loaded.pipeline.infer_batch = infer_batch
    frames[0].wanted.map = frames[0].wanted.dense = False
    with pytest.raises(type(error)):
        bench.steps.infer(frames)

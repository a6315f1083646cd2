"""Owns: which frames the node's stages drop, count and warn of, with which model, and which exceptions they let pass.

Cameras have no topics, the pipeline of the model is a stub unless a test needs answers. Leaves to others: what a stage
makes of a frame (test_frame_stages), what is published of an answered frame (test_node).
"""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from node_parts import BLUE, CPU, RED, SaidLogger, active_model, flat_message
from tiny_model import tiny_spec, with_score_map, write_tiny_model

from cnn_perception.errors import FrameError
from cnn_perception.image.messages import Decoded, ImageOddity, RgbImage, Seen
from cnn_perception.perception_node.active_model import ActiveModel, ModelOptions, ModelOwner
from cnn_perception.perception_node.camera_stream import CameraStream
from cnn_perception.perception_node.frame_stages import FrameResult, WantedTopics
from cnn_perception.perception_node.frames.batch_stages import BatchStages
from cnn_perception.perception_node.frames.camera_views import CameraViews
from cnn_perception.perception_node.publishers import ViewedFrame
from cnn_perception.perception_node.settings import CameraSettings, LiveSettings, Settings
from cnn_perception.ros.latest_subscription import Taken
from cnn_perception.ros.throttled_log import ThrottledLog

NOW_NS = 10**15


class DefectError(Exception):
    """What nobody foresees."""


class StubOutputs:
    """The topics of a camera, of which `wants` says who wants what."""

    def __init__(self) -> None:
        self.wants = WantedTopics(answer=True)
        self.published: list[FrameResult] = []
        self.viewed: list[Any] = []

    def wanted(self) -> WantedTopics:
        return self.wants

    def publish(self, result: FrameResult, settings: Settings) -> None:
        self.published.append(result)

    def publish_views(self, views: Any) -> None:
        self.viewed.append(views)


class StubViewers:
    """Remembers what was offered: of which kinds, by which camera, and how much had been published by then; limits."""

    def __init__(self, outputs: dict[str, StubOutputs]) -> None:
        self.offered: list[tuple[list[str], str, int]] = []
        self.limits: set[tuple[float, float]] = set()
        self._outputs = outputs

    def offer(self, kinds: list[str], camera: str, frame: ViewedFrame, max_rate_hz: float, max_share: float) -> None:
        self.limits.add((max_rate_hz, max_share))
        self.offered.append((kinds, camera, len(self._outputs[camera].published)))


class Bench:
    """The stages of a node with cameras, of which `outcomes` says what becomes of the next frames when prepared."""

    def __init__(self, *names: str, black_box: Any = None) -> None:
        self.logger = SaidLogger()
        log = ThrottledLog(self.logger)
        self.cameras = {name: CameraStream(None, name, CameraSettings(), log.warn) for name in names}  # type: ignore[arg-type]
        self.outputs = {name: StubOutputs() for name in names}
        for name, camera in self.cameras.items():
            camera.topic = f"/{name}"
            camera.outputs = self.outputs[name]  # type: ignore[assignment]
        self.outcomes: list[BaseException | str] = []
        model = SimpleNamespace(path=Path("stub.onnx"), spec=tiny_spec(), provider="", fallback="")
        pipeline: Any = SimpleNamespace(prepare=self._outcome, model=model, spec=model.spec, choice="")
        isolated_load: Any = None
        self.models = ModelOwner(ActiveModel.load, isolated_load, self.logger, lambda _: None)
        self.use(ActiveModel(ModelOptions(Path("stub.onnx"), CPU), pipeline))
        self.live = LiveSettings(Settings())
        self.now_ns = NOW_NS
        cameras = list(self.cameras.values())
        self.viewers: Any = StubViewers(self.outputs)
        self.stages = BatchStages(cameras, self.models, self.live, log, lambda: self.now_ns, self.viewers, black_box)
        self.views = CameraViews(cameras, lambda: self.now_ns)
        self._second = 10**6 - 1000  # shortly before now

    def use(self, model: ActiveModel) -> None:
        self.models.replace(model)
        for camera in self.cameras.values():
            camera.use(model.pipeline.model)

    def _outcome(self, _: object) -> SimpleNamespace:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return SimpleNamespace(name=outcome, decoded=Decoded(RgbImage(np.zeros((1, 1, 3), np.uint8))))

    def show(self, camera: str, colour: tuple[int, int, int] = RED, **fields: Any) -> Any:
        """Prepares one frame; returns those that go on."""
        self._second += 1
        message = flat_message(colour, **{"second": self._second} | fields)
        return self.stages.prepare([self.taken(camera, message)])

    def taken(self, camera: str, message: Any) -> Taken[Any]:
        return Taken(self.cameras[camera], message, (time.perf_counter(), time.perf_counter()))

    def prepare(self, camera: str, outcome: BaseException | str) -> Any:
        self.outcomes.append(outcome)
        return self.show(camera)

    def answer(self, frames: Any) -> None:
        inferred = self.stages.infer(frames)
        if inferred is not None:
            self.stages.deliver(inferred)

    def counts(self, camera: str) -> Any:
        return self.cameras[camera].counters.snapshot(1.0)

    @property
    def printed(self) -> list[str]:
        return self.logger.texts("error")

    @property
    def warned(self) -> list[str]:
        return self.logger.texts("warning")


def test_frame_that_meets_a_defect_is_dropped_and_the_next_goes_on():
    bench = Bench("front")
    assert bench.prepare("front", DefectError("as planned")) is None
    (frame,) = bench.prepare("front", "tensor")
    assert frame.prepared.name == "tensor"
    assert bench.counts("front").total.dropped == {"defect": 1}
    (text,) = bench.printed
    assert text.endswith("DefectError: as planned")
    assert "/front: frame dropped (defect, 1 so far): DefectError: as planned" in bench.warned[0]


def test_defect_of_one_camera_leaves_the_others_frames_of_the_batch():
    bench = Bench("front", "rear")
    bench.outcomes = [DefectError(), "tensor"]
    taken = [bench.taken(name, flat_message(RED)) for name in ("front", "rear")]
    (frame,) = bench.stages.prepare(taken) or []
    assert frame.origin.camera == "rear"


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
    assert bench.counts("front").total.dropped["defect"] == 4


def test_frame_that_nobody_wants_does_not_end_the_row():
    bench = Bench("front")
    bench.prepare("front", DefectError())
    bench.prepare("front", DefectError())
    bench.outputs["front"].wants = WantedTopics()
    assert bench.show("front") is None
    bench.outputs["front"].wants = WantedTopics(answer=True)
    with pytest.raises(DefectError):
        bench.prepare("front", DefectError())


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

    frames[0].model.pipeline.infer_batch = infer_batch
    with pytest.raises(type(error)):
        bench.stages.infer(frames)


def test_frame_that_nobody_wants_is_received_and_no_more():
    bench = Bench("front")
    bench.outputs["front"].wants = WantedTopics()
    assert bench.show("front") is None
    bench.outputs["front"].wants = WantedTopics(answer=True)
    bench.live.enabled = False
    assert bench.show("front") is None
    counts = bench.counts("front").total
    assert (counts.received, counts.answered, counts.dropped) == (2, 0, {})


def test_frame_that_only_a_recorder_wants_goes_on():
    bench = Bench("front")
    recorder: Any = SimpleNamespace()
    bench.use(ActiveModel(ModelOptions(Path("stub.onnx"), CPU), bench.models.in_use.pipeline, recorder=recorder))
    bench.outputs["front"].wants = WantedTopics()
    assert bench.prepare("front", "tensor") is not None


def test_frame_that_only_a_black_box_wants_goes_on_with_its_answer_wanted():
    bench = Bench("front", black_box=SimpleNamespace())
    bench.outputs["front"].wants = WantedTopics()
    (frame,) = bench.prepare("front", "tensor")
    assert frame.wanted == WantedTopics(answer=True)


def test_odd_stamp_is_counted_and_the_frame_goes_on_or_is_dropped():
    bench = Bench("front")
    bench.outcomes = ["tensor"]
    assert bench.show("front", second=0) is not None
    bench.live.settings = Settings(stamps="reject")
    assert bench.show("front", second=0) is None
    counts = bench.counts("front").total
    assert (counts.oddities, counts.dropped) == ({"stamp_zero": 1}, {"stamp_zero": 1})
    assert bench.warned[0].startswith("/front: the stamp is zero")
    assert bench.warned[0].endswith("(1 so far; answered)")


@pytest.fixture
def red_green_blue(tmp_path: Path) -> ActiveModel:
    return active_model(write_tiny_model(tmp_path / "english.onnx"))


def test_frame_is_answered_with_the_model_it_was_prepared_with(red_green_blue: ActiveModel, tmp_path: Path):
    offered: list[str] = []
    recorder: Any = SimpleNamespace(offer=lambda *arguments: offered.append(arguments[2].name))
    old = ActiveModel(red_green_blue.options, red_green_blue.pipeline, recorder=recorder)
    new = active_model(write_tiny_model(tmp_path / "german.onnx", classes=("rot", "gruen", "blau")))
    bench = Bench("front")
    bench.use(old)
    frames = bench.show("front", BLUE)
    bench.models.replace(new)  # which a running node does between two frames only
    inferred = bench.stages.infer(frames)
    assert inferred is not None
    bench.stages.deliver(inferred)
    bench.answer(bench.show("front", BLUE))
    published = bench.outputs["front"].published
    assert [result.answer.name for result in published] == ["blue", "blau"]
    assert [result.frame.model for result in published] == [old, new]
    assert offered == ["blue"]


def test_answered_frames_are_counted_with_the_time_of_every_stage(red_green_blue: ActiveModel):
    bench = Bench("front", "rear")
    bench.use(red_green_blue)
    messages = [flat_message(RED, second=10**6 - 1), flat_message(BLUE, second=0)]
    bench.answer(
        bench.stages.prepare([bench.taken(name, one) for name, one in zip(bench.cameras, messages, strict=True)])
    )
    front, rear = bench.counts("front"), bench.counts("rear")
    assert (front.total.received, front.total.answered, rear.total.answered) == (1, 1, 1)
    stages = {"take", "decode", "preprocess", "inference", "postprocess", "publish", "callback_to_publish"}
    assert set(front.percentiles_ms) == stages | {"age"}
    assert set(rear.percentiles_ms) == stages  # a stamp of zero has no age
    assert front.percentiles_ms["age"] == (1000.0, 1000.0)
    assert bench.cameras["front"].drift.report().frames == 1


def test_refused_result_is_dropped_and_the_others_of_the_batch_are_answered(red_green_blue: ActiveModel):
    bench = Bench("front", "rear")
    bench.use(red_green_blue)
    frames = bench.stages.prepare([bench.taken(name, flat_message(BLUE)) for name in bench.cameras])
    assert frames is not None
    frames[0].prepared.tensor[:] = float("nan")
    bench.answer(frames)
    assert bench.counts("front").total.dropped == {"not_finite": 1}
    assert [result.answer.name for result in bench.outputs["rear"].published] == ["blue"]


def test_batch_of_which_nothing_is_left_goes_no_further(red_green_blue: ActiveModel):
    bench = Bench("front")
    bench.use(red_green_blue)
    frames = bench.show("front")
    frames[0].prepared.tensor[:] = float("nan")
    assert bench.stages.infer(frames) is None


def test_frame_that_became_too_old_is_dropped_unpublished(red_green_blue: ActiveModel):
    bench = Bench("front")
    bench.use(red_green_blue)
    bench.cameras["front"].settings = CameraSettings(max_age_s=2.0)
    frames = bench.show("front", second=10**6 - 1)
    bench.now_ns += 1_500_000_000
    bench.answer(frames)
    assert bench.counts("front").total.dropped == {"too_old": 1}
    assert bench.outputs["front"].published == []


def test_viewers_get_an_answered_frame_after_its_answer_and_what_they_want_of_it_alone(red_green_blue: ActiveModel):
    bench = Bench("front", "rear")
    bench.use(red_green_blue)
    bench.outputs["front"].wants = WantedTopics(answer=True, score_map=True, overlay=True)
    for camera in ("front", "rear"):
        bench.answer(bench.show(camera))
    assert bench.viewers.offered == [(["overlay", "score map"], "front", 1), ([], "rear", 1)]
    assert bench.viewers.limits == {(15.0, 0.15)}  # the defaults


def test_frame_that_is_dropped_is_not_for_viewers_either(red_green_blue: ActiveModel):
    bench = Bench("front")
    bench.use(red_green_blue)
    bench.outputs["front"].wants = WantedTopics(answer=True, overlay=True)
    frames = bench.show("front")
    frames[0].prepared.tensor[:] = float("nan")
    bench.answer(frames)
    assert bench.viewers.offered == []


def viewed_frame(bench: Bench, wanted: WantedTopics, **settings: Any) -> ViewedFrame:
    """Of a camera at 48x600 pixels, one second before the node's clock."""
    bench.outputs["front"].wants = wanted
    bench.answer(bench.show("front", data=bytes(3 * 600 * 48), width=600, step=1800, second=10**6 - 1))
    return ViewedFrame(bench.outputs["front"].published[-1], Settings(**settings), None)


@pytest.fixture
def dense(tmp_path: Path) -> ActiveModel:
    return active_model(write_tiny_model(tmp_path / "dense.onnx", spec=with_score_map(tiny_spec())))


def test_score_map_that_cannot_be_is_warned_of_with_the_cameras_topic(dense: ActiveModel):
    bench = Bench("front")
    bench.use(dense)
    viewed = viewed_frame(bench, WantedTopics(answer=True, score_map=True), score_map_scale=20.0)
    with pytest.raises(FrameError) as refused:
        bench.views.make("score map", viewed)
    bench.views.refuse("score map", viewed, refused.value)
    assert bench.warned == [
        "/front: no score map: score map: 12000x960 pixels are more than 8192 a side; lower the scale"
    ]


def test_every_view_is_made_of_its_frame_and_published_on_the_topics_of_its_camera(dense: ActiveModel):
    bench = Bench("front")
    bench.use(dense)
    wanted = WantedTopics(overlay=True, score_map=True, neighbours=True, unit_activation=True)
    viewed = viewed_frame(bench, wanted)
    assert list(bench.views.kinds) == wanted.views
    made = {kind: bench.views.make(kind, viewed) for kind in bench.views.kinds}
    shown = [["overlay"], ["score_map"], ["unit_activation"]]
    assert [list(one) for one in made.values()] == [[], *shown]  # the model has no gallery
    bench.views.publish(viewed, made["overlay"])
    assert bench.outputs["front"].viewed == [made["overlay"]]


@pytest.mark.parametrize(("max_age_s", "is_too_old"), [(0.0, False), (1.0, False), (0.999, True)])
def test_view_is_too_old_when_the_answer_would_be(dense: ActiveModel, max_age_s: float, is_too_old: bool):
    bench = Bench("front")
    bench.use(dense)
    viewed = viewed_frame(bench, WantedTopics(overlay=True))
    bench.cameras["front"].settings = CameraSettings(max_age_s=max_age_s)
    assert bench.views.is_too_old(viewed) == is_too_old


def test_an_odd_picture_is_counted_and_warned_of_and_answered():
    bench = Bench("front")
    image = RgbImage(np.zeros((1, 1, 3), np.uint8))
    stray, bright = (
        ImageOddity("jpeg_warning", "stray bytes", harmless=True),
        ImageOddity("significant_bits", "too bright"),
    )
    bench.cameras["front"].note_picture(Decoded(image, Seen((stray,))), 1)
    bench.cameras["front"].note_picture(Decoded(image, Seen((bright,))), 2)
    snapshot = bench.counts("front")
    assert snapshot.total.oddities == {"jpeg_warning": 1, "significant_bits": 1}
    assert snapshot.recent.odd.total() == 1  # what is harmless is no cause for alarm
    assert bench.warned == [
        "/front: stray bytes (1 so far; answered)",
        "/front: too bright (1 so far; answered)",
    ]


def test_the_cameras_parameters_decide_what_its_pixels_are(tmp_path: Path):
    bench = Bench("front", "rear")
    bench.use(active_model(write_tiny_model(tmp_path / "tiny.onnx")))
    bench.cameras["front"].settings = CameraSettings(encoding="bgr8")
    for camera, answer in (("front", "blue"), ("rear", "red")):
        bench.answer(bench.show(camera, RED))
        assert bench.outputs[camera].published[-1].answer.name == answer
    assert bench.show("rear", RED, encoding="8UC3") is None
    bench.answer(bench.show("front", RED, encoding="8UC3"))
    assert bench.outputs["front"].published[-1].answer.name == "blue"


def test_a_stream_of_numbers_of_few_bits_is_warned_of_until_the_parameter_says_so(tmp_path: Path):
    bench = Bench("front")
    bench.use(active_model(write_tiny_model(tmp_path / "tiny.onnx")))
    dark = {"encoding": "rgb16", "step": 480, "data": np.tile(np.array((4000, 20, 20), "<u2"), 48 * 80).tobytes()}
    for _ in range(35):
        bench.show("front", **dark)
    assert bench.counts("front").total.oddities["few_bits"] == 6
    (text,) = [text for text in bench.warned if "nearly black" in text]
    assert "12 bits, say so by the parameter significant_bits" in text
    bench.cameras["front"].settings = CameraSettings(significant_bits=12)
    bench.answer(bench.show("front", **dark))
    assert bench.counts("front").total.oddities["few_bits"] == 6
    assert bench.outputs["front"].published[-1].answer.score > 0.99


@pytest.mark.parametrize(("is_harmless", "told"), [(True, [1, 2, 4, 8]), (False, list(range(1, 10)))])
def test_what_is_odd_and_harmless_is_warned_of_ever_more_seldom(is_harmless: bool, told: list[int]):
    warned: list[str] = []
    camera = CameraStream(None, "front", CameraSettings(), lambda _, text: warned.append(text))  # type: ignore[arg-type]
    odd = Seen((ImageOddity("odd", "stray bytes", is_harmless),))
    for number in range(9):
        camera.note_picture(Decoded(RgbImage(np.full((2, 2, 3), number, np.uint8)), odd), number)
    assert warned == [f": stray bytes ({count} so far; answered)" for count in told]


def test_pictures_that_stand_still_are_counted_and_warned_of_and_no_alarm(tmp_path: Path):
    bench = Bench("front")
    bench.use(active_model(write_tiny_model(tmp_path / "tiny.onnx")))
    noise = np.random.default_rng(1).integers(0, 256, (11, 48 * 80 * 3), np.uint8)
    for picture in [noise[0]] * 10 + list(noise[1:]):  # a second from one to the next
        bench.answer(bench.show("front", data=picture.tobytes()))
    counts = bench.counts("front")
    assert counts.total.oddities == {"picture_frozen": 6}
    assert counts.recent.odd.total() == 0
    assert len(bench.outputs["front"].published) == 20
    (text,) = [text for text in bench.warned if "may be frozen" in text]
    assert text.startswith("/front: the picture has not changed for 4.0 s")

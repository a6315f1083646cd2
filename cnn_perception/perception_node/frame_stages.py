"""What the line does with the frames of all cameras, in three steps, each in a thread of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

from std_msgs.msg import Header

from cnn_perception.background.selection import Origin
from cnn_perception.errors import FrameError, PerceptionError, with_kind
from cnn_perception.geometry.activation_place import place_of
from cnn_perception.image.messages import EncodedFile, EncodedImage, encoded_from_message, nanoseconds
from cnn_perception.perception_node.active_model import ActiveModel
from cnn_perception.perception_node.camera_stream import CameraStream
from cnn_perception.perception_node.publishers import FrameResult, WantedTopics
from cnn_perception.perception_node.settings import Settings
from cnn_perception.pipeline.pipeline import Prepared, Result
from cnn_perception.pipeline.score_map import ScoreMap, dense_scores
from cnn_perception.stream.drift import brightness
from cnn_perception.stream.frame_counters import DEFECT
from cnn_perception.stream.stamps import too_old

_MOST_BROKEN = 3
"""So many frames in a row are no accident; one that a peer made on purpose must not end the node."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame on its way: whose it is, who wants what of it, and since when it is worked on.

    `has_age` is whether its stamp means anything beside the node's clock.
    """

    camera: CameraStream
    header: Header
    has_age: bool
    wanted: WantedTopics
    started_s: float
    encoded: EncodedImage | EncodedFile
    prepared: Prepared


@dataclass(frozen=True, eq=False)
class Inferred:
    """A frame, and what came of it."""

    frame: Frame
    result: Result | FrameError
    score_map: ScoreMap | None


class Host(Protocol):
    """What the steps need of their node; everything may change between two calls."""

    settings: Settings
    enabled: bool

    @property
    def loaded(self) -> ActiveModel:
        """The model in use."""

    def now_ns(self) -> int:
        """Returns the node's clock, nanoseconds."""

    def warn(self, key: str, text: str) -> None:
        """Logs a text, once in a while for the same key."""

    def print_defect(self, error: BaseException) -> None:
        """Logs the traceback of a defect, unless it has been logged before."""


class Steps:
    """The steps, as the line calls them. What they raise is a defect, and ends the node."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._broken: dict[str, int] = {}  # frames in a row that met a defect, by camera

    def prepare(self, taken: list[tuple[CameraStream, Any]]) -> list[Frame] | None:
        """First step, beside the inference of the frames before: decodes and preprocesses what is worth it."""
        frames: list[Frame] = []
        for camera, message in taken:
            camera.counters.receive(time.monotonic())
            try:
                frame = self._prepare(camera, message)
            except FrameError as error:
                self._drop(camera, error)
                continue
            if frame is not None:
                frames.append(frame)
        return frames or None

    def infer(self, frames: list[Frame]) -> list[Inferred]:
        """Second step: nothing else than the model stands between two runs."""
        pipeline = self._host.loaded.pipeline
        results: list[Result | FrameError]
        try:
            wants_map = any(frame.wanted.map for frame in frames)
            results = pipeline.infer_batch([frame.prepared for frame in frames], wants_map)
        except FrameError as error:  # the whole batch is lost
            results = [error] * len(frames)
        maps = [self._score_map(frame) if frame.wanted.dense else None for frame in frames]
        return [Inferred(*one) for one in zip(frames, results, maps, strict=True)]

    def deliver(self, inferred: list[Inferred]) -> None:
        """Third step, beside the inference of the next frames: publishes."""
        for one in inferred:
            try:
                if isinstance(one.result, FrameError):
                    raise one.result
                self._deliver(one.frame, one.result, one.score_map)
            except FrameError as error:
                self._drop(one.frame.camera, error)

    def _prepare(self, camera: CameraStream, message: Any) -> Frame | None:  # noqa: ANN401 messages are untyped
        """Returns a frame on its way; None if nobody wants it."""
        has_age = self._judge_stamp(camera, message.header)
        wanted = camera.outputs.wanted()
        if not self._host.enabled or not (wanted.anything or self._host.loaded.is_watched):
            return None
        started_s = time.perf_counter()
        encoded, prepared = self._decode(camera, message)
        return Frame(camera, message.header, has_age, wanted, started_s, encoded, prepared)

    def _decode(
        self,
        camera: CameraStream,
        message: Any,  # noqa: ANN401
    ) -> tuple[EncodedImage | EncodedFile, Prepared]:
        """Decodes and preprocesses; a defect costs this frame alone, unless it is the camera's third in a row."""
        broken = self._broken.pop(camera.name, 0) + 1
        try:
            encoded = encoded_from_message(message)
            return encoded, self._host.loaded.pipeline.prepare(encoded)
        except FrameError:
            raise
        except Exception as error:
            if broken == _MOST_BROKEN:
                raise
            self._broken[camera.name] = broken
            self._host.print_defect(error)
            raise FrameError(DEFECT, f"{with_kind(error)}; this is a defect of the node") from error

    def _drop(self, camera: CameraStream, error: FrameError) -> None:
        count = camera.counters.drop(error.reason)
        text = f"{camera.topic}: frame dropped ({error.reason}, {count} so far): {error}"
        self._host.warn(f"{camera.name} {error.reason}", text)

    def _judge_stamp(self, camera: CameraStream, header: Header) -> bool:
        """Counts a strange stamp, and drops the frame where it must; returns whether the frame has an age."""
        policy, max_age_s = self._host.settings.stamp_policy, camera.settings.max_age_s
        verdict = camera.stamps.check(
            nanoseconds(header.stamp), self._host.now_ns(), policy=policy, max_age_s=max_age_s
        )
        if verdict.oddity:
            count = camera.counters.note(verdict.oddity)
            self._host.warn(
                f"{camera.name} {verdict.oddity}", f"{camera.topic}: {verdict.text} ({count} so far; answered)"
            )
        return verdict.age_s is not None

    def _score_map(self, frame: Frame) -> ScoreMap | None:
        try:
            scale = self._host.settings.score_map_scale
            return dense_scores(self._host.loaded.pipeline.model, frame.prepared.image, scale)
        except PerceptionError as error:  # the frame itself can be answered all the same
            self._host.warn(f"{frame.camera.name} score_map", f"{frame.camera.topic}: no score map: {error}")
            return None

    def _deliver(self, frame: Frame, result: Result, score_map: ScoreMap | None) -> None:
        camera, header, settings = frame.camera, frame.header, self._host.settings
        stamp_ns, now_ns = nanoseconds(header.stamp), self._host.now_ns()
        if too_old(stamp_ns, now_ns, camera.settings.max_age_s):
            raise FrameError("too_old", "the frame became too old while it was worked on")
        started_s = time.perf_counter()
        prediction = result.prediction
        answer = camera.steady(prediction, (stamp_ns if stamp_ns > 0 else now_ns) / 1e9, settings.steady)
        camera.outputs.publish(FrameResult(header, result, answer, score_map), settings, frame.wanted)
        # A ray belongs to the class of the activation map: none is published where another class is answered.
        is_shown = not answer.unknown and (answer.held is None or prediction.top in answer.held)
        if frame.wanted.rays or frame.wanted.score_map_info:
            self._publish_places(frame, result, score_map, frame.wanted.rays and is_shown)
        finished_s = time.perf_counter()
        origin = Origin(camera.name, camera.topic, stamp_ns, header.frame_id)
        self._host.loaded.show(frame.encoded, result.image, prediction, origin)
        spec = self._host.loaded.pipeline.spec
        camera.drift.observe(prediction, brightness(frame.prepared.tensor, spec.input))
        stages = result.timings.by_stage() | {"publish": (finished_s - started_s) * 1e3}
        stages["callback_to_publish"] = (finished_s - frame.started_s) * 1e3
        if frame.has_age:
            stages["age"] = (self._host.now_ns() - stamp_ns) / 1e6
        camera.counters.answer(stages, answer.unknown)

    def _publish_places(self, frame: Frame, result: Result, score_map: ScoreMap | None, rays: bool) -> None:
        """Publishes what takes the camera's calibration."""
        camera, spec = frame.camera, self._host.loaded.pipeline.spec
        height, width = result.image.shape[:2]
        try:
            lens = camera.lens.model(height, width)
        except PerceptionError as error:
            self._host.warn(f"{camera.name} lens", str(error))
            lens = None
        gaze = place_of(result.prediction.activation, spec, height, width) if rays else None
        if gaze is not None and lens is not None:
            camera.outputs.publish_gaze(frame.header, gaze, lens)
        if frame.wanted.score_map_info and score_map is not None:
            info = camera.lens.info if lens is not None else None
            camera.outputs.publish_map_info(frame.header, score_map, info)

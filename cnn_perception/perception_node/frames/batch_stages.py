"""What the threads of the node do with the frames of its cameras, a batch at a time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from cnn_perception.background.viewers import Viewers
from cnn_perception.errors import FrameError
from cnn_perception.perception_node.active_model import ActiveModel, ModelOwner
from cnn_perception.perception_node.black_box.node_box import NodeBox
from cnn_perception.perception_node.camera_stream import CameraStream
from cnn_perception.perception_node.frame_stages import (
    Frame,
    InferredFrame,
    answer_frame,
    infer_frames,
    judge_stamp,
    prepare_frame,
)
from cnn_perception.perception_node.publishers import ViewedFrame, ViewMessages
from cnn_perception.perception_node.settings import LiveSettings
from cnn_perception.ros.latest_subscription import Taken
from cnn_perception.ros.throttled_log import ThrottledLog
from cnn_perception.stream.frame_counters import DEFECT

_MOST_DEFECTS = 3
"""So many frames in a row are no accident; one that a peer made on purpose must not end the node."""


class BatchStages:
    """The three stages of a batch, each for a thread of its own. What they raise is a defect, and ends the node."""

    def __init__(
        self,
        cameras: Sequence[CameraStream],
        models: ModelOwner,
        live: LiveSettings,
        log: ThrottledLog,
        now_ns: Callable[[], int],
        viewers: Viewers[ViewedFrame, ViewMessages],
        black_box: NodeBox | None = None,
    ) -> None:
        """Wires the stages.

        Args:
            cameras: Whose frames these are.
            models: Where the model in use is found.
            live: The parameters in force.
            log: Is told of defects that cost one frame.
            now_ns: The node's clock, nanoseconds.
            viewers: Get every frame whose answer has left.
            black_box: Is told of every answer; None for none.
        """
        self._black_box = black_box
        self._cameras = {camera.name: camera for camera in cameras}
        self._viewers = viewers
        self._models = models
        self._live = live
        self._log = log
        self._now_ns = now_ns

    def prepare(self, taken: Sequence[Taken[CameraStream]]) -> list[Frame] | None:
        """First stage, beside the inference of the frames before: decodes and preprocesses what is worth it."""
        model = self._models.in_use  # once for all of them: it is not swapped before they are delivered
        frames = []
        for one in taken:
            camera = one.stream
            camera.counters.receive(time.monotonic())
            frame = self._prepare_one(camera, one, model)
            if isinstance(frame, FrameError):
                camera.drop(frame)
            elif frame is not None:
                camera.note_picture(frame.prepared.decoded, frame.origin.stamp_ns)
                frames.append(frame)
        return frames or None

    def infer(self, frames: Sequence[Frame]) -> list[InferredFrame] | None:
        """Second stage: nothing else than the model stands between two runs."""
        inferred = []
        for frame, one in zip(frames, infer_frames(frames), strict=True):
            if isinstance(one, FrameError):
                self._cameras[frame.origin.camera].drop(one)
            else:
                inferred.append(one)
        return inferred or None

    def deliver(self, inferred: Sequence[InferredFrame]) -> None:
        """Third stage, beside the inference of the next frames: publishes."""
        for one in inferred:
            self._deliver_one(one)

    def _prepare_one(
        self, camera: CameraStream, taken: Taken[CameraStream], model: ActiveModel
    ) -> Frame | FrameError | None:
        """Returns None for a frame that nobody wants."""
        message = taken.message
        policy = self._live.settings.stamp_policy
        verdict = judge_stamp(message.header, camera.stamps, self._now_ns(), policy, camera.settings.max_age_s)
        if isinstance(verdict, FrameError):
            return verdict
        camera.note_stamp(verdict)
        wanted = camera.outputs.wanted()
        if self._black_box is not None:
            wanted = dataclasses.replace(wanted, answer=True)
        if not self._live.enabled or not (wanted.anything or model.is_watched):
            return None
        has_age = verdict.age_s is not None
        overrides = camera.settings.overrides
        frame = prepare_frame(
            message,
            model,
            camera.name,
            camera.topic,
            wanted=wanted,
            has_age=has_age,
            overrides=overrides,
            taken_s=taken.taken_s,
        )
        if isinstance(frame, FrameError) and frame.reason == DEFECT:
            self._note_defect(camera, frame)
        else:
            camera.defects_in_a_row = 0
        return frame

    def _note_defect(self, camera: CameraStream, refusal: FrameError) -> None:
        """A defect costs this frame alone, unless it is the camera's third in a row."""
        defect = refusal.__cause__ or refusal
        camera.defects_in_a_row += 1
        if camera.defects_in_a_row == _MOST_DEFECTS:
            raise defect
        self._log.defect(defect)

    def _deliver_one(self, inferred: InferredFrame) -> None:
        frame = inferred.frame
        camera = self._cameras[frame.origin.camera]
        settings = self._live.settings
        began_s = time.perf_counter()
        max_age_s = camera.settings.max_age_s
        result = answer_frame(inferred, camera.smoothing, settings.smoothing, self._now_ns(), max_age_s)
        if isinstance(result, FrameError):
            camera.drop(result)
            return
        viewed = camera.publish(result, settings)
        ended_s = time.perf_counter()
        frame.model.offer(frame.encoded, inferred.result.image, inferred.result.prediction, frame.origin)
        if self._black_box is not None:
            self._black_box.note_answer(camera.topic, result.answer.unknown, frame.model.shadow)
        limits = (settings.views_max_rate_hz, settings.views_max_share)
        self._viewers.offer(frame.wanted.views, camera.name, viewed, *limits)
        camera.note_answer(result, (began_s, ended_s), self._now_ns())

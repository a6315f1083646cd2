"""The three stages of a frame as plain functions: each turns a value into the next value, or into a refusal.

A frame carries the model that it is answered with. Nothing here counts, warns or publishes, or needs ROS 2: a message
is any object with the fields of one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnn_perception.background.selection import Origin
from cnn_perception.errors import FrameError, with_kind
from cnn_perception.geometry.activation_place import ActivationPlace, place_of
from cnn_perception.image.messages import (
    AS_SENT,
    EncodedFile,
    EncodedImage,
    Overrides,
    encoded_from_message,
    nanoseconds,
)
from cnn_perception.perception_node.active_model import ActiveModel
from cnn_perception.pipeline.pipeline import Prepared, Result
from cnn_perception.pipeline.score_map import ScoreMap, dense_scores
from cnn_perception.stream.frame_counters import DEFECT
from cnn_perception.stream.smoothing import AnswerSmoother, SmoothingSettings
from cnn_perception.stream.stamps import StampPolicy, Stamps, Verdict, too_old
from cnn_perception.tasks.prediction import Prediction

NEIGHBOURS, OVERLAY, SCORE_MAP, UNIT = "neighbours", "overlay", "score map", "unit activation"
VIEWS = (NEIGHBOURS, OVERLAY, SCORE_MAP, UNIT)
"""What is made of a frame after its answer has left."""


@dataclass(frozen=True)
class WantedTopics:
    """Which of the per-frame topics have a subscriber; nothing is computed for the others."""

    answer: bool = False
    raw_answer: bool = False
    activation: bool = False
    overlay: bool = False
    overlay_jpeg: bool = False
    peak_ray: bool = False
    centroid_ray: bool = False
    embedding: bool = False
    neighbours: bool = False
    score_map: bool = False
    score_map_info: bool = False
    label_map: bool = False
    label_overlay: bool = False
    unit_activation: bool = False

    @property
    def anything(self) -> bool:
        """Whether a frame has to be answered at all."""
        return any(vars(self).values())

    @property
    def rays(self) -> bool:
        """Whether a direction has to be found."""
        return self.peak_ray or self.centroid_ray

    @property
    def map(self) -> bool:
        """Whether the activation map has to be computed."""
        return self.activation or self.overlay or self.overlay_jpeg or self.rays

    @property
    def dense(self) -> bool:
        """Whether the classifier has to be run all over the image."""
        return self.score_map or self.score_map_info or self.label_map or self.label_overlay

    @property
    def views(self) -> list[str]:
        """Which of the `VIEWS` are wanted."""
        wanted = {
            NEIGHBOURS: self.neighbours,
            OVERLAY: self.overlay or self.overlay_jpeg,
            SCORE_MAP: self.dense,
            UNIT: self.unit_activation,
        }
        return [view for view in VIEWS if wanted[view]]


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame that is ready for the model.

    Attributes:
        model: What it is answered with.
        origin: Whose it is, and of when.
        header: The image's own.
        wanted: Who wants what of it.
        has_age: Whether its stamp means anything beside the node's clock.
        taken_s: When taking it from its subscription began and ended, `time.perf_counter`.
        encoded: The image as it came.
        prepared: The image decoded, and the model's input.
    """

    model: ActiveModel
    origin: Origin
    header: Any
    wanted: WantedTopics
    has_age: bool
    taken_s: tuple[float, float]
    encoded: EncodedImage | EncodedFile
    prepared: Prepared


@dataclass(frozen=True, eq=False)
class InferredFrame:
    """A frame, and what was recognised in it."""

    frame: Frame
    result: Result


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What is published of a frame.

    Attributes:
        frame: The frame.
        result: What was recognised in this frame.
        answer: What is answered: the same, or smoothed over the frames before.
    """

    frame: Frame
    result: Result
    answer: Prediction


def judge_stamp(
    header: Any,  # noqa: ANN401 messages are untyped
    stamps: Stamps,
    now_ns: int,
    policy: StampPolicy,
    max_age_s: float,
) -> Verdict | FrameError:
    """Judges a frame by its stamp before any work is spent on it.

    Args:
        header: The image's.
        stamps: What is known of the camera's earlier stamps.
        now_ns: The node's clock, nanoseconds.
        policy: What happens to an odd stamp.
        max_age_s: Seconds from which on a frame is too old; 0 for no limit.
    """
    try:
        stamp = header.stamp
        return stamps.check(nanoseconds(stamp), now_ns, policy=policy, max_age_s=max_age_s, nanosec=int(stamp.nanosec))
    except FrameError as refusal:
        return refusal


def prepare_frame(
    message: Any,  # noqa: ANN401
    model: ActiveModel,
    camera: str,
    topic: str,
    *,
    wanted: WantedTopics,
    has_age: bool,
    overrides: Overrides = AS_SENT,
    taken_s: tuple[float, float] | None = None,
) -> Frame | FrameError:
    """The first stage: decodes and preprocesses an image.

    Args:
        message: sensor_msgs/Image or CompressedImage.
        model: What it is to be answered with.
        camera: Name of its camera.
        topic: On which it came.
        wanted: Who wants what of it.
        has_age: Whether its stamp means anything beside the node's clock.
        overrides: What is known better of the camera's images than their messages say.
        taken_s: When taking it from its subscription began and ended, `time.perf_counter`; None for now.

    Returns:
        The frame; or its refusal, whose `__cause__` is the exception if it met a defect of this package.
    """
    started_s = time.perf_counter()
    header = message.header
    try:
        encoded = encoded_from_message(message)
        if overrides != AS_SENT:
            encoded = encoded.overridden(overrides)
        prepared = model.pipeline.prepare(encoded)
    except FrameError as refusal:
        return refusal
    except BaseException as error:  # of a decoder, say: a peer must not be able to end the node with one image
        return refusal_of_defect(error)
    origin = Origin(camera, topic, nanoseconds(header.stamp), header.frame_id)
    return Frame(model, origin, header, wanted, has_age, taken_s or (started_s, started_s), encoded, prepared)


def infer_frames(frames: Sequence[Frame]) -> list[InferredFrame | FrameError]:
    """The second stage: runs the model once on frames of several cameras; nothing else stands between two runs.

    Args:
        frames: At least one; all carry the same model.

    Returns:
        For each frame what came of it, or its refusal; where the run fails, it is everyone's.
    """
    pipeline = frames[0].model.pipeline
    wants_map = any(frame.wanted.map for frame in frames)
    try:
        results = pipeline.infer_batch([frame.prepared for frame in frames], wants_map)
    except FrameError as refusal:
        return [refusal] * len(frames)
    return [
        result if isinstance(result, FrameError) else InferredFrame(frame, result)
        for frame, result in zip(frames, results, strict=True)
    ]


def answer_frame(
    inferred: InferredFrame, smoothing: AnswerSmoother, settings: SmoothingSettings, now_ns: int, max_age_s: float
) -> FrameResult | FrameError:
    """The third stage, before anything is published: smooths the answer over the camera's frames.

    Args:
        inferred: The camera's next frame.
        smoothing: What is known of the camera's earlier answers.
        settings: How much is smoothed.
        now_ns: The node's clock, nanoseconds.
        max_age_s: Seconds from which on a frame is too old; 0 for no limit.
    """
    frame = inferred.frame
    stamp_ns = frame.origin.stamp_ns
    if too_old(stamp_ns, now_ns, max_age_s):
        return FrameError("too_old", "the frame became too old while it was worked on")
    time_s = (stamp_ns if stamp_ns > 0 else now_ns) / 1e9
    answer = smoothing(inferred.result.prediction, time_s, settings)
    return FrameResult(frame, inferred.result, answer)


def place_to_publish(result: FrameResult) -> ActivationPlace | None:
    """Returns where the class of the activation map is; None where no direction is wanted, or another class answered.

    A ray belongs to the class of the activation map.
    """
    prediction = result.result.prediction
    answer = result.answer
    is_shown = not answer.unknown and (answer.held is None or prediction.top in answer.held)
    if not (result.frame.wanted.rays and is_shown):
        return None
    height, width = result.result.image.shape[:2]
    return place_of(prediction.activation, result.frame.model.pipeline.spec, height, width)


def map_scores(result: FrameResult, scale: float, most_pixels: int) -> ScoreMap:
    """After the answer: returns the classifier's answers all over the image.

    Args:
        result: Of the frame.
        scale: How much larger than its own pixels the network sees the image.
        most_pixels: Most pixels that it sees.

    Raises:
        PerceptionError: If the model has no score map, or this image cannot have one.
    """
    return dense_scores(result.frame.model.pipeline.model, result.result.image, scale, most_pixels)


def stage_durations_ms(result: FrameResult, published_s: tuple[float, float], now_ns: int) -> dict[str, float]:
    """Returns how long each stage of a published frame took, and how old it is now where it has an age.

    Args:
        result: Of the frame.
        published_s: When publishing began and ended, `time.perf_counter`.
        now_ns: The node's clock, nanoseconds.
    """
    frame = result.frame
    began_s, ended_s = published_s
    taking_s, taken_s = frame.taken_s
    durations = {"take": (taken_s - taking_s) * 1e3} | result.result.timings.by_stage()
    durations["publish"] = (ended_s - began_s) * 1e3
    durations["callback_to_publish"] = (ended_s - taking_s) * 1e3
    if frame.has_age:
        durations["age"] = (now_ns - frame.origin.stamp_ns) / 1e6
    return durations


def refusal_of_defect(error: BaseException) -> FrameError:
    """Returns why a frame is dropped that met a defect, which is its cause."""
    refusal = FrameError(DEFECT, f"{with_kind(error)}; this is a defect of the node")
    refusal.__cause__ = error
    return refusal

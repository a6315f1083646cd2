"""The messages that a bag of results holds of one frame; all have the image's own header and log time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cnn_perception import topic_names
from cnn_perception.bag.decompression import ZstdError, unpacked_message
from cnn_perception.bag.messages import Messages
from cnn_perception.errors import FrameError
from cnn_perception.geometry.activation_place import place_of
from cnn_perception.image.jpeg_encoding import VIEWER_QUALITY, encode_jpeg
from cnn_perception.image.messages import RgbImage, decode
from cnn_perception.label_text import Truth, shown, text_of
from cnn_perception.model.spec import ModelSpec
from cnn_perception.pipeline.overlay import draw_overlay
from cnn_perception.results_bag.evaluated_frame import EvaluatedFrame
from cnn_perception.results_bag.image_annotations import RIGHT, UNJUDGED, WRONG, Drawing, to_annotations
from cnn_perception.tasks.multiclass import KEPT_CLASSES
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of

ImagesAs = Literal["copy", "reference"]


@dataclass(frozen=True)
class ResultsOptions:
    """What a bag of results holds.

    Attributes:
        images: Whether each image is copied as it was recorded, or only said where it is.
        source: The recording.
        topic: Its image topic.
        threshold: Score in [0, 1] below which the robot publishes nothing.
        top_k: Classes listed in overlays and annotations.
    """

    images: ImagesAs
    source: Path
    topic: str
    threshold: float
    top_k: int


@dataclass(frozen=True, eq=False)
class TopicMessage:
    """A serialised message: its topic, its type and its CDR."""

    topic: str
    type: str
    payload: bytes


class FrameMessages:
    """Makes the messages of frames; used by any number of threads."""

    def __init__(self, spec: ModelSpec, options: ResultsOptions) -> None:
        """Makes them for the answers of one model."""
        self.messages = Messages()
        self._spec = spec
        self._options = options

    def of(self, frame: EvaluatedFrame) -> list[TopicMessage]:
        """Returns the image or where it is, and the answer, overlay, annotations and truth as far as there are any."""
        header = self.messages.header(frame.image.stamp_ns, frame.image.frame_id)
        found = self._image(frame)
        if frame.prediction is not None and frame.content is not None:
            found.append(self._answer(header, frame.prediction))
            found += self._pictures(header, frame, frame.prediction, decode(frame.content))
        if frame.truth is not None:
            # a label without a stamp would be of no frame; without its own, a frame is labelled by its reception
            stamp_ns = frame.image.stamp_ns if frame.image.has_time else frame.image.log_time_ns
            known = self.messages.header(stamp_ns, frame.image.frame_id)
            found.append(self._as(topic_names.TRUTH, self._truth(known, frame.truth)))
        return found

    def _as(self, topic: str, message: Any) -> TopicMessage:  # noqa: ANN401 rosbags makes its classes at run time
        return TopicMessage(topic, message.__msgtype__, self.messages.serialized(message))

    def _image(self, frame: EvaluatedFrame) -> list[TopicMessage]:
        if self._options.images == "copy":
            try:
                payload = unpacked_message(frame.image.payload)
            except (FrameError, ZstdError):  # a bad frame, of which the diagnosis tells
                return []
            return [TopicMessage(self._options.topic, frame.image.type, payload)]
        place = {
            "bag": str(self._options.source),
            "topic": self._options.topic,
            "log_time_ns": frame.image.log_time_ns,
            "stamp_ns": frame.image.stamp_ns,
        }
        topic = topic_names.below(topic_names.RESULTS, topic_names.IMAGE_REFERENCE)
        return [self._as(topic, self.messages.string(json.dumps(place)))]

    def _answer(self, header: Any, prediction: Prediction) -> TopicMessage:  # noqa: ANN401
        task = task_of(self._spec.task)
        topic = topic_names.below(topic_names.RESULTS, task.topic)
        if not task.has_classes:
            return self._as(topic, self.messages.numbers(header, prediction.class_names, prediction.values))
        ranked = prediction.ranked(KEPT_CLASSES, self._options.threshold)
        return self._as(topic, self.messages.classification(header, ranked))

    def _pictures(
        self,
        header: Any,  # noqa: ANN401
        frame: EvaluatedFrame,
        prediction: Prediction,
        image: RgbImage,
    ) -> list[TopicMessage]:
        drawing = self._drawing(frame, prediction, *image.shape[:2])
        annotations = to_annotations(self.messages, frame.image.stamp_ns, drawing)
        found = [self._as(topic_names.below(topic_names.RESULTS, topic_names.ANNOTATIONS), annotations)]
        options = self._options
        overlay = draw_overlay(image, prediction, self._spec.input, top_k=options.top_k, threshold=options.threshold)
        try:
            content = encode_jpeg(overlay, VIEWER_QUALITY)
        except FrameError:  # no JPEG is so large
            return found
        topic = topic_names.below(topic_names.RESULTS, topic_names.OVERLAY_JPEG)
        return [*found, self._as(topic, self.messages.jpeg(header, content))]

    def _drawing(self, frame: EvaluatedFrame, prediction: Prediction, height: int, width: int) -> Drawing:
        rows = task_of(self._spec.task).rows(prediction, self._options.top_k, self._options.threshold)
        lines = [f"{row.name}  {row.figure if row.share is None else f'{row.share:.0%}'}".rstrip() for row in rows]
        if frame.truth is not None:
            lines.append(f"truth: {shown(text_of(frame.truth))}")
        place = None if prediction.unknown else place_of(prediction.activation, self._spec, height, width)
        colour = {True: RIGHT, False: WRONG, None: UNJUDGED}[frame.is_right]
        return Drawing(height, width, lines, colour, None if place is None else place.peak)

    def _truth(self, header: Any, truth: Truth) -> Any:  # noqa: ANN401
        if isinstance(truth, tuple):
            return self.messages.numbers(header, self._spec.class_names, truth)
        names = [truth] if isinstance(truth, str) else sorted(truth)
        return self.messages.classification(header, [(name, 1.0) for name in names])

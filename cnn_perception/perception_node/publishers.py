"""The node's output topics: what each carries, with which QoS, and whether anybody wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Vector3Stamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Header
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

from cnn_perception import topic_names
from cnn_perception.geometry.activation_place import ActivationPlace
from cnn_perception.geometry.camera_model import CameraModel
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.spec import ModelSpec
from cnn_perception.perception_node import messages
from cnn_perception.perception_node.frame_stages import FrameResult, WantedTopics, map_scores
from cnn_perception.perception_node.settings import Settings
from cnn_perception.pipeline.label_overlay import draw_labels
from cnn_perception.pipeline.label_pixels import has_label_map, label_pixels
from cnn_perception.pipeline.overlay import draw_overlay
from cnn_perception.pipeline.score_map import ScoreMap
from cnn_perception.ros import image_messages, topics
from cnn_perception.ros.heartbeat import Heartbeat
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of

ViewMessages = Mapping[str, Any]
"""What was made of a frame for those who look on: messages by the fields of `WantedTopics`."""


@dataclass(frozen=True, eq=False)
class ViewedFrame:
    """An answered frame for those who look on.

    Attributes:
        result: What was answered.
        settings: The parameters in force then.
        info: The camera's camera_info, where one is wanted and is good for this frame.
    """

    result: FrameResult
    settings: Settings
    info: CameraInfo | None


def result_qos() -> QoSProfile:
    """Returns the QoS of answers: a new one each time, as the others here, for rclpy writes overrides into it."""
    return QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


def picture_qos() -> QoSProfile:
    """Returns the QoS of what only a viewer wants."""
    return QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)


def latched_qos() -> QoSProfile:
    """Returns the QoS of what who comes later must know, too."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def publish_diagnoses(
    node: LifecycleNode, period_s: float, heartbeat: Heartbeat, diagnose: Callable[[], DiagnosticArray]
) -> None:
    """Publishes the node's health regularly, whatever state it is in.

    Args:
        node: Whose executor runs it, in a callback group of its own.
        period_s: Seconds between two diagnoses.
        heartbeat: Beats with each.
        diagnose: Makes one.
    """
    topic = node.create_publisher(DiagnosticArray, topic_names.DIAGNOSTICS, result_qos())
    # A steady clock, so that a simulation whose /clock stands still is diagnosed all the same.
    clock = Clock(clock_type=ClockType.STEADY_TIME)
    group = MutuallyExclusiveCallbackGroup()
    node.create_timer(period_s, heartbeat.after(lambda: topic.publish(diagnose())), group, clock)


class LifecycleTopics:
    """Some lifecycle publishers of a node, by name; none while it has no model.

    They come and go between two frames, so that no thread which publishes meets a change.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._by_name: dict[str, Any] = {}

    def _add(self, name: str, kind: Any, topic: str, qos: QoSProfile) -> None:  # noqa: ANN401 messages are untyped
        overridable = QoSOverridingOptions.with_default_policies()
        with topics.refusing_overrides(self._node, topic, qos):
            publisher = self._node.create_lifecycle_publisher(kind, topic, qos, qos_overriding_options=overridable)
        self._by_name[name] = publisher

    def activate(self) -> None:
        """Opens topics that were made while the node was active already."""
        for publisher in self._by_name.values():
            if not publisher.is_activated:
                publisher.on_activate(None)

    def remove(self) -> None:
        """Removes the topics; harmless where there are none."""
        for publisher in self._by_name.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._by_name = {}


class InfoPublishers(LifecycleTopics):
    """The latched descriptions of the model, which all cameras share."""

    def make(self, spec: ModelSpec) -> None:
        """Makes the topics in place of those of before.

        Raises:
            ConfigError: If their QoS is overridden with what cannot be.
        """
        self.remove()
        self._add("vision_info", VisionInfo, "~/vision_info", latched_qos())
        if task_of(spec.task).has_classes:
            self._add("label_info", LabelInfo, f"~/{topic_names.LABEL_INFO}", latched_qos())
        if has_label_map(spec):
            self._add("pixel_info", LabelInfo, "~/label_map/label_info", latched_qos())

    def publish(self, model: OnnxModel, settings: Settings, version: int) -> None:
        """Publishes which network runs, its labels, and what the pixels of its label maps mean."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        location = f"{self._node.get_fully_qualified_name()}/class_labels"
        vision_info = messages.to_vision_info(header, model.spec, model.sha256, location, version)
        self._by_name["vision_info"].publish(vision_info)
        if "label_info" in self._by_name:
            self._by_name["label_info"].publish(messages.to_label_info(header, model.spec, settings.threshold))
        if "pixel_info" in self._by_name:
            pixel_info = messages.to_pixel_info(header, model.spec, settings.label_map_threshold)
            self._by_name["pixel_info"].publish(pixel_info)


class ResultPublishers(LifecycleTopics):
    """Every topic about the frames of one camera; which ones depends on the model.

    Attributes:
        on_answer: Called with each answer that was published: its topic, and the message; None for nobody.
    """

    def __init__(self, node: LifecycleNode, camera: str) -> None:
        """Begins without topics; they are under `~/` or, for a camera with a name, under `~/<camera>/`."""
        super().__init__(node)
        self.on_answer: Callable[[str, Any], None] | None = None
        self._base = f"~/{camera}" if camera else "~"
        self._kinds: tuple[str | bool, ...] = ()

    def make(self, model: OnnxModel) -> None:
        """Makes the topics that a model has results for, in place of those of before.

        Raises:
            ConfigError: If their QoS is overridden with what cannot be.
        """
        self.remove()
        task = task_of(model.spec.task)
        answer_type = messages.ANSWER_TYPES[task.message]
        self._add_result("answer", answer_type, task.topic, result_qos())
        self._add_result("raw_answer", answer_type, f"{task.topic}_raw", result_qos())
        self._add_result("embedding", Image, "embedding", result_qos())
        self._add_result("unit_activation", Image, "unit_activation", picture_qos())
        self._add_result("overlay", Image, topic_names.OVERLAY, picture_qos())
        self._add_result("overlay_jpeg", CompressedImage, topic_names.OVERLAY_JPEG, picture_qos())
        if model.spec.activation is not None:
            self._add_result("activation", Image, "activation", result_qos())
            self._add_result("peak_ray", Vector3Stamped, "activation/peak_ray", result_qos())
            self._add_result("centroid_ray", Vector3Stamped, "activation/centroid_ray", result_qos())
        if model.gallery is not None:
            self._add_result("neighbours", Classification, "neighbours", result_qos())
        if model.spec.score_map is not None:
            self._add_result("score_map", Image, "score_map", picture_qos())
            self._add_result("score_map_info", CameraInfo, "score_map/camera_info", picture_qos())
        if has_label_map(model.spec):
            self._add_result("label_map", Image, "label_map", picture_qos())
            self._add_result("label_overlay", Image, "label_map/overlay", picture_qos())
        self._kinds = _kinds(model)

    def _add_result(self, field: str, kind: Any, topic: str, qos: QoSProfile) -> None:  # noqa: ANN401
        self._add(field, kind, f"{self._base}/{topic}", qos)

    def remove(self) -> None:
        """Removes the topics; harmless where there are none."""
        super().remove()
        self._kinds = ()

    def fit(self, model: OnnxModel) -> bool:
        """Returns whether there are just the topics that a model has results for."""
        return _kinds(model) == self._kinds

    @property
    def answer_topic(self) -> str:
        """Fully qualified name of the topic of the answers; empty without a model."""
        return self._topic_of("answer")

    @property
    def overlay_topic(self) -> str:
        """Fully qualified name of the topic of the compressed overlay; empty without a model."""
        return self._topic_of("overlay_jpeg")

    def _topic_of(self, field: str) -> str:
        return str(self._by_name[field].topic_name) if field in self._by_name else ""

    def wanted(self) -> WantedTopics:
        """Asks DDS which per-frame topics have a subscriber now."""
        found = {name: publisher.get_subscription_count() > 0 for name, publisher in self._by_name.items()}
        return WantedTopics(**{item.name: found.get(item.name, False) for item in fields(WantedTopics)})

    def publish(self, result: FrameResult, settings: Settings) -> None:
        """Publishes the answers to one frame, but for what needs the camera's calibration."""
        header = result.frame.header
        wanted = result.frame.wanted
        prediction = result.result.prediction
        if wanted.answer:
            message = self._to_answer(header, result.answer, settings)
            self._publish("answer", message)
            if self.on_answer is not None:
                self.on_answer(self.answer_topic, message)
        if wanted.raw_answer:
            self._publish("raw_answer", self._to_answer(header, prediction, settings))
        if wanted.activation and prediction.activation is not None:
            self._publish("activation", image_messages.to_float_image(header, prediction.activation))
        if wanted.embedding:
            self._publish("embedding", image_messages.to_float_image(header, prediction.embedding[np.newaxis]))

    def publish_views(self, views: ViewMessages) -> None:
        """Publishes what was made of a frame for those who look on."""
        for name, message in views.items():
            self._publish(name, message)

    def publish_rays(self, header: Header, place: ActivationPlace, camera: CameraModel) -> None:
        """Publishes where the class of the activation map is; nothing where the camera model has no direction."""
        for name, point in (("peak_ray", place.peak), ("centroid_ray", place.centroid)):
            direction = camera.ray(*point)
            if direction is not None:
                self._publish(name, messages.to_ray(header, direction))

    def _publish(self, name: str, message: Any) -> None:  # noqa: ANN401
        self._by_name[name].publish(message)

    def _to_answer(self, header: Header, prediction: Prediction, settings: Settings) -> Classification | JointState:
        kind = task_of(prediction.task).message
        return messages.to_answer(header, prediction, kind, settings.top_k, settings.threshold)


def to_neighbours(viewed: ViewedFrame) -> ViewMessages:
    """Returns the reference images that a frame resembles."""
    gallery = viewed.result.frame.model.pipeline.model.gallery
    if gallery is None:
        return {}
    nearest = gallery.nearest(viewed.result.result.prediction.embedding, viewed.settings.neighbours)
    return {"neighbours": messages.to_neighbours(viewed.result.frame.header, nearest)}


def to_overlay(viewed: ViewedFrame) -> ViewMessages:
    """Returns the frame with its activation map and what was published of it drawn on it, as it is wanted."""
    frame = viewed.result.frame
    picture = draw_overlay(
        viewed.result.result.image,
        viewed.result.answer,
        frame.model.pipeline.spec.input,
        alpha=viewed.settings.overlay_alpha,
        top_k=viewed.settings.overlay_classes,
        threshold=viewed.settings.threshold,
    )
    made: dict[str, Any] = {}
    if frame.wanted.overlay:
        made["overlay"] = image_messages.to_rgb_image(frame.header, picture)
    if frame.wanted.overlay_jpeg:
        made["overlay_jpeg"] = image_messages.to_jpeg(frame.header, picture)
    return made


def to_score_map(viewed: ViewedFrame) -> ViewMessages:
    """Returns the scores of one class all over the frame, where their cells are, and each pixel's class, as wanted.

    Raises:
        PerceptionError: If the model has no score map, or this image cannot have one.
    """
    frame = viewed.result.frame
    settings = viewed.settings
    found = map_scores(viewed.result, settings.score_map_scale, settings.score_map_max_pixels)
    made: dict[str, Any] = {}
    # A frame under way while the model is swapped may lack the class that is asked of the next model.
    shown = settings.score_map_class
    if frame.wanted.score_map and (not shown or shown in found.class_names):
        made["score_map"] = image_messages.to_float_image(frame.header, found.of(shown))
    if frame.wanted.score_map_info:
        shape = found.scores.shape[1:]
        made["score_map_info"] = messages.to_map_info(frame.header, found.cells, shape, viewed.info)
    if frame.wanted.label_map or frame.wanted.label_overlay:
        made |= _to_label_map(viewed, found)
    return made


def _to_label_map(viewed: ViewedFrame, scores: ScoreMap) -> ViewMessages:
    """Returns the class of each pixel, and the frame painted with them, as it is wanted."""
    frame = viewed.result.frame
    image = viewed.result.result.image
    labels = label_pixels(scores, viewed.settings.label_map_threshold, *image.shape[:2])
    made: dict[str, Any] = {}
    if frame.wanted.label_map:
        made["label_map"] = image_messages.to_label_image(frame.header, labels)
    if frame.wanted.label_overlay:
        picture = draw_labels(image, labels, scores.class_names, viewed.settings.overlay_alpha)
        made["label_overlay"] = image_messages.to_rgb_image(frame.header, picture)
    return made


def to_unit_activation(viewed: ViewedFrame) -> ViewMessages:
    """Returns what the chosen unit of an inner layer makes of the frame.

    Raises:
        PerceptionError: If the model has no such unit, or it cannot be computed.
    """
    frame = viewed.result.frame
    settings = viewed.settings
    values = frame.model.pipeline.units.run(frame.prepared.tensor, settings.unit_layer, settings.unit)
    return {"unit_activation": image_messages.to_float_image(frame.header, values)}


def _kinds(model: OnnxModel) -> tuple[str | bool, ...]:
    """What decides on the topics."""
    spec = model.spec
    task = task_of(model.spec.task)
    has_map = spec.activation is not None
    has_gallery = model.gallery is not None
    return task.topic, task.message, has_map, has_gallery, spec.score_map is not None, has_label_map(spec)

"""The node's output topics: what each carries, with which QoS, and whether anybody wants it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from geometry_msgs.msg import Vector3Stamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Header
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

from cnn_perception.geometry.activation_place import ActivationPlace
from cnn_perception.geometry.camera_model import CameraModel
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.perception_node import messages
from cnn_perception.perception_node.frame_stages import FrameResult, WantedTopics
from cnn_perception.perception_node.settings import Settings
from cnn_perception.pipeline.overlay import draw_overlay
from cnn_perception.pipeline.score_map import ScoreMap
from cnn_perception.ros import image_messages, topics
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of


def result_qos() -> QoSProfile:
    """Returns the QoS of answers: a new one each time, as the others here, for rclpy writes overrides into it."""
    return QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


def picture_qos() -> QoSProfile:
    """Returns the QoS of what only a viewer wants."""
    return QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)


def latched_qos() -> QoSProfile:
    """Returns the QoS of what who comes later must know, too."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class _Topics:
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


class InfoPublishers(_Topics):
    """The latched descriptions of the model, which all cameras share."""

    def make(self, task: str) -> None:
        """Makes the topics in place of those of before.

        Raises:
            ConfigError: If their QoS is overridden with what cannot be.
        """
        self.remove()
        self._add("vision_info", VisionInfo, "~/vision_info", latched_qos())
        if task_of(task).has_classes:
            self._add("label_info", LabelInfo, "~/label_info", latched_qos())

    def publish(self, model: OnnxModel, threshold: float, version: int) -> None:
        """Publishes which network runs, and its labels."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        location = f"{self._node.get_fully_qualified_name()}/class_labels"
        vision_info = messages.to_vision_info(header, model.spec, model.sha256, location, version)
        self._by_name["vision_info"].publish(vision_info)
        if "label_info" in self._by_name:
            self._by_name["label_info"].publish(messages.to_label_info(header, model.spec, threshold))


class ResultPublishers(_Topics):
    """Every topic about the frames of one camera; which ones depends on the model."""

    def __init__(self, node: LifecycleNode, camera: str) -> None:
        """Begins without topics; they are under `~/` or, for a camera with a name, under `~/<camera>/`."""
        super().__init__(node)
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
        self._add_result("overlay", Image, "activation/overlay", picture_qos())
        self._add_result("overlay_jpeg", CompressedImage, "activation/overlay/compressed", picture_qos())
        if model.spec.activation is not None:
            self._add_result("activation", Image, "activation", result_qos())
            self._add_result("peak_ray", Vector3Stamped, "activation/peak_ray", result_qos())
            self._add_result("centroid_ray", Vector3Stamped, "activation/centroid_ray", result_qos())
        if model.gallery is not None:
            self._add_result("neighbours", Classification, "neighbours", result_qos())
        if model.spec.score_map is not None:
            self._add_result("score_map", Image, "score_map", picture_qos())
            self._add_result("score_map_info", CameraInfo, "score_map/camera_info", picture_qos())
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
        return str(self._by_name["answer"].topic_name) if "answer" in self._by_name else ""

    def wanted(self) -> WantedTopics:
        """Asks DDS which per-frame topics have a subscriber now."""
        found = {name: publisher.get_subscription_count() > 0 for name, publisher in self._by_name.items()}
        return WantedTopics(**{item.name: found.get(item.name, False) for item in fields(WantedTopics)})

    def publish(self, result: FrameResult, settings: Settings) -> None:
        """Publishes what is wanted of one frame, but for what needs the camera's calibration; the answer first."""
        header = result.frame.header
        wanted = result.frame.wanted
        prediction = result.result.prediction
        gallery = result.frame.model.pipeline.model.gallery
        if wanted.answer:
            self._publish("answer", self._to_answer(header, result.answer, settings))
        if wanted.raw_answer:
            self._publish("raw_answer", self._to_answer(header, prediction, settings))
        if wanted.activation and prediction.activation is not None:
            self._publish("activation", image_messages.to_float_image(header, prediction.activation))
        if wanted.embedding:
            self._publish("embedding", image_messages.to_float_image(header, prediction.embedding[np.newaxis]))
        if wanted.neighbours and gallery is not None:
            nearest = gallery.nearest(prediction.embedding, settings.neighbours)
            self._publish("neighbours", messages.to_neighbours(header, nearest))
        # A frame under way while the model is swapped may lack the class that is asked of the next model.
        shown = settings.score_map_class
        has_class = not shown or shown in result.frame.model.pipeline.spec.class_names
        if wanted.score_map and result.score_map is not None and has_class:
            self._publish("score_map", image_messages.to_float_image(header, result.score_map.of(shown)))
        if wanted.overlay or wanted.overlay_jpeg:
            self._publish_overlay(result, settings)

    def publish_rays(self, header: Header, place: ActivationPlace, camera: CameraModel) -> None:
        """Publishes where the class of the activation map is; nothing where the camera model has no direction."""
        for name, point in (("peak_ray", place.peak), ("centroid_ray", place.centroid)):
            direction = camera.ray(*point)
            if direction is not None:
                self._publish(name, messages.to_ray(header, direction))

    def publish_map_info(self, header: Header, score_map: ScoreMap, info: CameraInfo | None) -> None:
        """Publishes where the cells of the score map are, for tools that know a camera_info."""
        _, rows, columns = score_map.scores.shape
        self._publish("score_map_info", messages.to_map_info(header, score_map.cells, (rows, columns), info))

    def _publish(self, name: str, message: Any) -> None:  # noqa: ANN401
        self._by_name[name].publish(message)

    def _publish_overlay(self, result: FrameResult, settings: Settings) -> None:
        frame = result.frame
        picture = draw_overlay(
            result.result.image,
            result.result.prediction,
            frame.model.pipeline.spec.input,
            alpha=settings.overlay_alpha,
            top_k=settings.overlay_classes,
        )
        if frame.wanted.overlay:
            self._publish("overlay", image_messages.to_rgb_image(frame.header, picture))
        if frame.wanted.overlay_jpeg:
            self._publish("overlay_jpeg", image_messages.to_jpeg(frame.header, picture))

    def _to_answer(self, header: Header, prediction: Prediction, settings: Settings) -> Classification | JointState:
        kind = task_of(prediction.task).message
        return messages.to_answer(header, prediction, kind, settings.top_k, settings.threshold)


def _kinds(model: OnnxModel) -> tuple[str, str, bool, bool, bool]:
    """What decides on the topics."""
    spec = model.spec
    task = task_of(model.spec.task)
    has_map = spec.activation is not None
    has_gallery = model.gallery is not None
    return task.topic, task.message, has_map, has_gallery, spec.score_map is not None

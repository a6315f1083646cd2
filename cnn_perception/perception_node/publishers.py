"""The node's output topics: what each carries, with which QoS, and whether anybody wants it."""

from __future__ import annotations

from dataclasses import dataclass, fields
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
from cnn_perception.model.spec import Task
from cnn_perception.perception_node import messages
from cnn_perception.perception_node.settings import Settings
from cnn_perception.pipeline.overlay import draw_overlay
from cnn_perception.pipeline.pipeline import Result
from cnn_perception.pipeline.postprocess import Prediction
from cnn_perception.pipeline.score_map import ScoreMap
from cnn_perception.ros import image_messages

RESULT_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
PICTURE_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class _Topics:
    """Some lifecycle publishers of a node."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._all: list[Any] = []

    def _create(self, kind: Any, topic: str, qos: QoSProfile) -> Any:  # noqa: ANN401 message classes are untyped
        overridable = QoSOverridingOptions.with_default_policies()
        publisher = self._node.create_lifecycle_publisher(kind, topic, qos, qos_overriding_options=overridable)
        self._all.append(publisher)
        return publisher

    def activate(self) -> None:
        """Opens topics that were made while the node was active already."""
        for publisher in self._all:
            if not publisher.is_activated:
                publisher.on_activate(None)

    def destroy(self) -> None:
        """Removes the topics."""
        for publisher in self._all:
            self._node.destroy_lifecycle_publisher(publisher)


class InfoPublishers(_Topics):
    """The latched descriptions of the model, which all cameras share."""

    def __init__(self, node: LifecycleNode, task: Task) -> None:
        super().__init__(node)
        self._vision_info = self._create(VisionInfo, "~/vision_info", LATCHED_QOS)
        self._label_info = None if task == "regression" else self._create(LabelInfo, "~/label_info", LATCHED_QOS)

    def publish(self, model: OnnxModel, threshold: float, version: int) -> None:
        """Publishes which network runs, and its labels."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        location = f"{self._node.get_fully_qualified_name()}/class_labels"
        self._vision_info.publish(messages.to_vision_info(header, model.spec, model.sha256, location, version))
        if self._label_info is not None:
            self._label_info.publish(messages.to_label_info(header, model.spec, threshold))


@dataclass(frozen=True)
class WantedTopics:
    """Which of the per-frame topics have a subscriber; nothing is computed for the others."""

    answer: bool
    raw_answer: bool
    activation: bool
    overlay: bool
    overlay_jpeg: bool
    peak_ray: bool
    centroid_ray: bool
    embedding: bool
    neighbours: bool
    score_map: bool
    score_map_info: bool

    @property
    def anything(self) -> bool:
        """Whether a frame has to be looked at at all."""
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
        """Whether the score map has to be computed."""
        return self.score_map or self.score_map_info


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What is known of one frame when its results are published.

    Attributes:
        header: The image's own.
        result: What was recognised in this frame.
        answer: What is answered: the same, or steadied over the frames before.
        score_map: The classifier's answers all over the image; None where nobody wants it.
    """

    header: Header
    result: Result
    answer: Prediction
    score_map: ScoreMap | None


class ResultPublishers(_Topics):
    """Every topic about the frames of one camera; which ones depends on the model.

    Attributes:
        model: Whose results are published; another may take its place if `fit`.
    """

    def __init__(self, node: LifecycleNode, camera: str, model: OnnxModel) -> None:
        """Makes the topics, under `~/` or, for a camera with a name, under `~/<camera>/`."""
        super().__init__(node)
        self._base = f"~/{camera}" if camera else "~"
        self._by_field: dict[str, Any] = {}
        self.model = model
        if model.spec.task == "regression":
            self._add("answer", JointState, "regression", RESULT_QOS)
            self._add("raw_answer", JointState, "regression_raw", RESULT_QOS)
        else:
            self._add("answer", Classification, "classification", RESULT_QOS)
            self._add("raw_answer", Classification, "classification_raw", RESULT_QOS)
        self._add("embedding", Image, "embedding", RESULT_QOS)
        self._add("overlay", Image, "activation/overlay", PICTURE_QOS)
        self._add("overlay_jpeg", CompressedImage, "activation/overlay/compressed", PICTURE_QOS)
        if model.spec.activation is not None:
            self._add("activation", Image, "activation", RESULT_QOS)
            self._add("peak_ray", Vector3Stamped, "activation/peak_ray", RESULT_QOS)
            self._add("centroid_ray", Vector3Stamped, "activation/centroid_ray", RESULT_QOS)
        if model.gallery is not None:
            self._add("neighbours", Classification, "neighbours", RESULT_QOS)
        if model.spec.score_map is not None:
            self._add("score_map", Image, "score_map", PICTURE_QOS)
            self._add("score_map_info", CameraInfo, "score_map/camera_info", PICTURE_QOS)

    def _add(self, field: str, kind: Any, topic: str, qos: QoSProfile) -> None:  # noqa: ANN401
        self._by_field[field] = self._create(kind, f"{self._base}/{topic}", qos)

    def fit(self, model: OnnxModel) -> bool:
        """Returns whether another model has results for the same topics."""
        return _kinds(model) == _kinds(self.model)

    def wanted(self) -> WantedTopics:
        """Asks DDS which per-frame topics have a subscriber now."""
        found = {name: publisher.get_subscription_count() > 0 for name, publisher in self._by_field.items()}
        return WantedTopics(**{item.name: found.get(item.name, False) for item in fields(WantedTopics)})

    def publish(self, found: FrameResult, settings: Settings, wanted: WantedTopics) -> None:
        """Publishes what is wanted of one frame, but for what needs the camera's calibration; the answer first."""
        header, prediction = found.header, found.result.prediction
        if wanted.answer:
            self._publish("answer", self._to_answer(header, found.answer, settings))
        if wanted.raw_answer:
            self._publish("raw_answer", self._to_answer(header, prediction, settings))
        if wanted.activation and prediction.activation is not None:
            self._publish("activation", image_messages.to_float_image(header, prediction.activation))
        if wanted.embedding:
            self._publish("embedding", image_messages.to_float_image(header, prediction.embedding[np.newaxis]))
        if wanted.neighbours and self.model.gallery is not None:
            nearest = self.model.gallery.nearest(prediction.embedding, settings.neighbours)
            self._publish("neighbours", messages.to_neighbours(header, nearest))
        if wanted.score_map and found.score_map is not None:
            shown = found.score_map.of(settings.score_map_class)
            self._publish("score_map", image_messages.to_float_image(header, shown))
        if wanted.overlay or wanted.overlay_jpeg:
            self._publish_overlay(found, settings, wanted)

    def publish_gaze(self, header: Header, gaze: ActivationPlace, lens: CameraModel) -> None:
        """Publishes where the class of the activation map is; nothing where the lens model has no direction."""
        for field, point in (("peak_ray", gaze.peak), ("centroid_ray", gaze.centroid)):
            direction = lens.ray(*point)
            if direction is not None:
                self._publish(field, messages.to_ray(header, direction))

    def publish_map_info(self, header: Header, score_map: ScoreMap, info: CameraInfo | None) -> None:
        """Publishes where the cells of the score map are, for tools that know a camera_info."""
        _, rows, columns = score_map.scores.shape
        self._publish("score_map_info", messages.to_map_info(header, score_map.cells, (rows, columns), info))

    def _publish(self, field: str, message: Any) -> None:  # noqa: ANN401
        self._by_field[field].publish(message)

    def _publish_overlay(self, found: FrameResult, settings: Settings, wanted: WantedTopics) -> None:
        result, spec = found.result, self.model.spec
        picture = draw_overlay(
            result.image,
            result.prediction,
            spec.input,
            alpha=settings.overlay_alpha,
            top_k=settings.overlay_classes,
        )
        if wanted.overlay:
            self._publish("overlay", image_messages.to_rgb_image(found.header, picture))
        if wanted.overlay_jpeg:
            self._publish("overlay_jpeg", image_messages.to_jpeg(found.header, picture))

    def _to_answer(self, header: Header, prediction: Prediction, settings: Settings) -> Classification | JointState:
        if prediction.task == "regression":
            return messages.to_joint_state(header, prediction)
        return messages.to_classification(header, prediction.ranked(settings.top_k, settings.threshold))


def _kinds(model: OnnxModel) -> tuple[bool, bool, bool, bool]:
    """What decides on the topics."""
    spec = model.spec
    has_map, has_gallery = spec.activation is not None, model.gallery is not None
    return spec.task == "regression", has_map, has_gallery, spec.score_map is not None

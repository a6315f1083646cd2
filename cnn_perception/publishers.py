"""The node's output topics: what each carries, with which QoS, and whether anybody wants it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

from cnn_perception import messages
from cnn_perception.inference import OnnxModel
from cnn_perception.overlay import draw_overlay
from cnn_perception.pipeline import Result
from cnn_perception.settings import Settings
from cnn_perception.spec import ModelSpec

RESULT_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
PICTURE_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class Wanted:
    """Which of the per-frame topics have a subscriber; nothing is computed for the others."""

    answer: bool
    activation: bool
    overlay: bool
    overlay_jpeg: bool
    embedding: bool

    @property
    def anything(self) -> bool:
        """Whether the model has to run at all."""
        return self.answer or self.embedding or self.map

    @property
    def map(self) -> bool:
        """Whether the activation map has to be computed."""
        return self.activation or self.overlay or self.overlay_jpeg


class Publishers:
    """Every topic the node publishes about its model and its frames; which ones depends on the model's task."""

    def __init__(self, node: LifecycleNode, spec: ModelSpec) -> None:
        self._node = node
        self._all: list[Any] = []
        self._is_regression = spec.task == "regression"
        if self._is_regression:
            self._answer = self._create(JointState, "~/regression", RESULT_QOS)
        else:
            self._answer = self._create(Classification, "~/classification", RESULT_QOS)
            self._label_info = self._create(LabelInfo, "~/label_info", LATCHED_QOS)
        self._activation = self._create(Image, "~/activation", RESULT_QOS)
        self._overlay = self._create(Image, "~/activation/overlay", PICTURE_QOS)
        self._overlay_jpeg = self._create(CompressedImage, "~/activation/overlay/compressed", PICTURE_QOS)
        self._embedding = self._create(Image, "~/embedding", RESULT_QOS)
        self._vision_info = self._create(VisionInfo, "~/vision_info", LATCHED_QOS)

    def _create(self, kind: Any, topic: str, qos: QoSProfile) -> Any:  # noqa: ANN401 message classes are untyped
        overridable = QoSOverridingOptions.with_default_policies()
        publisher = self._node.create_lifecycle_publisher(kind, topic, qos, qos_overriding_options=overridable)
        self._all.append(publisher)
        return publisher

    def destroy(self) -> None:
        """Removes the topics."""
        for publisher in self._all:
            self._node.destroy_lifecycle_publisher(publisher)

    def wanted(self) -> Wanted:
        """Asks DDS which per-frame topics have a subscriber now."""
        return Wanted(
            answer=self._answer.get_subscription_count() > 0,
            activation=self._activation.get_subscription_count() > 0,
            overlay=self._overlay.get_subscription_count() > 0,
            overlay_jpeg=self._overlay_jpeg.get_subscription_count() > 0,
            embedding=self._embedding.get_subscription_count() > 0,
        )

    def publish_infos(self, model: OnnxModel, threshold: float, version: int) -> None:
        """Publishes the latched descriptions of the model and its labels."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        location = f"{self._node.get_fully_qualified_name()}/class_labels"
        self._vision_info.publish(messages.to_vision_info(header, model.spec, model.sha256, location, version))
        if not self._is_regression:
            self._label_info.publish(messages.to_label_info(header, model.spec, threshold))

    def publish(self, header: Header, result: Result, spec: ModelSpec, settings: Settings, wanted: Wanted) -> None:
        """Publishes what is wanted of one frame's result, the answer first."""
        prediction = result.prediction
        if wanted.answer and self._is_regression:
            self._answer.publish(messages.to_joint_state(header, prediction))
        elif wanted.answer:
            ranked = prediction.ranked(settings.top_k, settings.threshold)
            self._answer.publish(messages.to_classification(header, ranked))
        if wanted.activation and prediction.activation is not None:
            self._activation.publish(messages.to_float_image(header, prediction.activation))
        if wanted.embedding:
            self._embedding.publish(messages.to_float_image(header, prediction.embedding[np.newaxis]))
        if wanted.overlay or wanted.overlay_jpeg:
            picture = draw_overlay(result.image, prediction, spec.input, alpha=settings.overlay_alpha)
            if wanted.overlay:
                self._overlay.publish(messages.to_rgb_image(header, picture))
            if wanted.overlay_jpeg:
                self._overlay_jpeg.publish(messages.to_jpeg(header, picture))

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
from cnn_perception.postprocess import Prediction
from cnn_perception.settings import Settings
from cnn_perception.spec import ModelSpec, Task

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
class Wanted:
    """Which of the per-frame topics have a subscriber; nothing is computed for the others."""

    answer: bool
    raw_answer: bool
    activation: bool
    overlay: bool
    overlay_jpeg: bool
    embedding: bool

    @property
    def anything(self) -> bool:
        """Whether the model has to run at all."""
        return self.answer or self.raw_answer or self.embedding or self.map

    @property
    def map(self) -> bool:
        """Whether the activation map has to be computed."""
        return self.activation or self.overlay or self.overlay_jpeg


class ResultPublishers(_Topics):
    """Every topic about the frames of one camera; which ones depends on the model's task."""

    def __init__(self, node: LifecycleNode, camera: str, task: Task) -> None:
        """Makes the topics, under `~/` or, for a camera with a name, under `~/<camera>/`."""
        super().__init__(node)
        base = f"~/{camera}" if camera else "~"
        self._is_regression = task == "regression"
        kind, name = (JointState, "regression") if self._is_regression else (Classification, "classification")
        self._answer = self._create(kind, f"{base}/{name}", RESULT_QOS)
        self._raw_answer = self._create(kind, f"{base}/{name}_raw", RESULT_QOS)
        self._activation = self._create(Image, f"{base}/activation", RESULT_QOS)
        self._overlay = self._create(Image, f"{base}/activation/overlay", PICTURE_QOS)
        self._overlay_jpeg = self._create(CompressedImage, f"{base}/activation/overlay/compressed", PICTURE_QOS)
        self._embedding = self._create(Image, f"{base}/embedding", RESULT_QOS)

    def wanted(self) -> Wanted:
        """Asks DDS which per-frame topics have a subscriber now."""
        return Wanted(
            answer=self._answer.get_subscription_count() > 0,
            raw_answer=self._raw_answer.get_subscription_count() > 0,
            activation=self._activation.get_subscription_count() > 0,
            overlay=self._overlay.get_subscription_count() > 0,
            overlay_jpeg=self._overlay_jpeg.get_subscription_count() > 0,
            embedding=self._embedding.get_subscription_count() > 0,
        )

    def publish(
        self,
        header: Header,
        result: Result,
        answer: Prediction,
        spec: ModelSpec,
        settings: Settings,
        wanted: Wanted,
    ) -> None:
        """Publishes what is wanted of one frame's result, the answer first.

        Args:
            header: The image's own.
            result: What was recognised in this frame.
            answer: What is answered: the same, or steadied over the frames before.
            spec: The model's description.
            settings: The node's.
            wanted: What has a subscriber.
        """
        prediction = result.prediction
        if wanted.answer:
            self._answer.publish(self._to_answer(header, answer, settings))
        if wanted.raw_answer:
            self._raw_answer.publish(self._to_answer(header, prediction, settings))
        if wanted.activation and prediction.activation is not None:
            self._activation.publish(messages.to_float_image(header, prediction.activation))
        if wanted.embedding:
            self._embedding.publish(messages.to_float_image(header, prediction.embedding[np.newaxis]))
        if wanted.overlay or wanted.overlay_jpeg:
            picture = draw_overlay(
                result.image, prediction, spec.input, alpha=settings.overlay_alpha, top_k=settings.overlay_classes
            )
            if wanted.overlay:
                self._overlay.publish(messages.to_rgb_image(header, picture))
            if wanted.overlay_jpeg:
                self._overlay_jpeg.publish(messages.to_jpeg(header, picture))

    def _to_answer(self, header: Header, prediction: Prediction, settings: Settings) -> Classification | JointState:
        if self._is_regression:
            return messages.to_joint_state(header, prediction)
        return messages.to_classification(header, prediction.ranked(settings.top_k, settings.threshold))

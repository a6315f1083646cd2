"""The topics of the answers to boxes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseArray
from rclpy.lifecycle import LifecycleNode
from vision_msgs.msg import Detection2DArray

from cnn_perception import topic_names
from cnn_perception.errors import ConfigError
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.perception_node.publishers import LifecycleTopics, result_qos
from cnn_perception.tasks.registry import task_of

ANSWERS, RAYS = topic_names.DETECTIONS, topic_names.DETECTION_RAYS


class RegionPublishers(LifecycleTopics):
    """The topics about the boxes of one camera, under `~/` or, for a camera with a name, under `~/<camera>/`.

    Attributes:
        on_answer: Called with each answer that was published: its topic, and the message; None for nobody.
    """

    def __init__(self, node: LifecycleNode, camera: str) -> None:
        """Begins without topics."""
        super().__init__(node)
        # The thread that takes boxes asks whether anybody wants them, also while the topics are made anew.
        self._changing = threading.RLock()
        self.on_answer: Callable[[str, Any], None] | None = None
        self._base = f"~/{camera}" if camera else "~"

    def make(self, model: OnnxModel) -> None:
        """Makes the topics.

        Raises:
            ConfigError: If the model has no classes, or their QoS is overridden with what cannot be.
        """
        with self._changing:
            self.remove()
            self._make(model)

    def _make(self, model: OnnxModel) -> None:
        if not task_of(model.spec.task).has_classes:
            raise ConfigError(
                f"{model.path}: is a {model.spec.task} model, and boxes are answered with classes; leave out rois_topic"
            )
        self._add(ANSWERS, Detection2DArray, f"{self._base}/{ANSWERS}", result_qos())
        self._add(RAYS, PoseArray, f"{self._base}/{RAYS}", result_qos())

    def remove(self) -> None:
        """Removes the topics; harmless where there are none."""
        with self._changing:
            super().remove()

    def fit(self, model: OnnxModel) -> bool:
        """Returns whether there are just the topics that a model has results for."""
        return bool(self._by_name) and task_of(model.spec.task).has_classes

    @property
    def answer_topic(self) -> str:
        """Fully qualified name of the topic of the answers; empty without a model."""
        return str(self._by_name[ANSWERS].topic_name) if ANSWERS in self._by_name else ""

    def is_wanted(self, name: str) -> bool:
        """Asks DDS whether `ANSWERS` or `RAYS` has a subscriber now."""
        with self._changing:
            publisher = self._by_name.get(name)
            return publisher is not None and publisher.get_subscription_count() > 0

    def publish(self, answer: Detection2DArray, rays: PoseArray | None) -> None:
        """Publishes the answers to the boxes of one image."""
        self._by_name[ANSWERS].publish(answer)
        if self.on_answer is not None:
            self.on_answer(self.answer_topic, answer)
        if rays is not None:
            self._by_name[RAYS].publish(rays)

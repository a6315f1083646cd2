"""One camera's place in the node: where its frames come from, where its results go, and how they fare."""

from __future__ import annotations

import time
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.perception_node.camera_info import Lens
from cnn_perception.perception_node.diagnostics import CameraStatus
from cnn_perception.perception_node.publishers import ResultPublishers
from cnn_perception.perception_node.settings import CameraSettings
from cnn_perception.ros.latest_subscription import Inlet
from cnn_perception.stream.drift import Drift
from cnn_perception.stream.frame_counters import FrameHealth
from cnn_perception.stream.smoothing import AnswerSmoother
from cnn_perception.stream.stamps import Stamps


class Channel:
    """A camera as the node sees it; an `latest_subscription.Feed`.

    Attributes:
        name: Of the camera; empty for the only one.
        settings: Its parameters; live ones may be replaced at any time.
        health: What became of its frames since the node was activated.
        outputs: The topics of its results; there while a model is loaded.
        drift: Whether it shows what the model was trained on; there while a model is loaded.
        stamps: Judges its frames' stamps.
        steady: Steadies its answers.
    """

    outputs: ResultPublishers
    drift: Drift

    def __init__(self, node: LifecycleNode, name: str, settings: CameraSettings) -> None:
        self._node = node
        self.name, self.settings = name, settings
        self.health = FrameHealth(time.monotonic())
        self.stamps, self.steady = Stamps(), AnswerSmoother()
        self._inlet: Inlet[Any] | None = None
        self._lens: Lens | None = None
        self.topic = ""

    @property
    def lens(self) -> Lens:
        """The calibration; there while the node is active."""
        assert self._lens is not None
        return self._lens

    @property
    def inlet(self) -> Inlet[Any]:
        """The subscription; there while the node is active."""
        assert self._inlet is not None
        return self._inlet

    @property
    def min_period_s(self) -> float:
        """Least time between two frames, in seconds; 0 for no limit."""
        return 1.0 / self.settings.max_rate_hz if self.settings.max_rate_hz else 0.0

    def make_topics(self, model: OnnxModel) -> None:
        """Makes the topics that the model has results for."""
        self.outputs = ResultPublishers(self._node, self.name, model)

    def use(self, model: OnnxModel) -> None:
        """Makes a model the one whose results are published, and begins to watch for drift anew."""
        self.outputs.model = model
        self.drift = Drift(model.spec)
        self.steady = AnswerSmoother()

    def subscribe(self) -> None:
        """Begins to listen to the camera, and to count anew."""
        kind: type[Image | CompressedImage] = Image
        self.topic = self._node.resolve_topic_name(self.settings.image_topic)
        self._lens = Lens(self._node, self.topic, self.settings.rectified)
        if self.settings.image_transport == "compressed":
            kind, self.topic = CompressedImage, f"{self.topic}/compressed"
        self.health = FrameHealth(time.monotonic())
        self.stamps, self.steady = Stamps(), AnswerSmoother()
        self._inlet = Inlet(self._node, kind, self.topic, ReliabilityPolicy.BEST_AVAILABLE, self.health.miss)

    def unsubscribe(self) -> None:
        """Stops listening; harmless when it does not."""
        if self._inlet is not None:
            self._inlet.destroy()
            self.lens.destroy()
            self._inlet = self._lens = None

    def reason_of_silence(self, timeout_s: float) -> str:
        """Says why no image arrives: who publishes the topic, with which type and QoS; empty if it is too soon."""
        if self._inlet is None:
            return ""
        wanted = self._inlet.type_name
        infos = self._node.get_publishers_info_by_topic(self.topic)
        misfits = "; ".join(self._inlet.misfits())
        if not misfits and self.health.silence_s(time.monotonic()) <= timeout_s:
            return ""
        offers = ", ".join(
            f"{info.node_namespace.rstrip('/')}/{info.node_name} "
            f"({info.topic_type}, {info.qos_profile.reliability.name}, {info.qos_profile.durability.name})"
            for info in infos
        )
        if not infos:
            text = "nobody publishes it; check the remapping of image_raw, and ROS_DOMAIN_ID"
        elif all(info.topic_type != wanted for info in infos):
            text = f"published by {offers}; this node wants {wanted}, see the parameter image_transport"
        elif misfits:
            text = f"published by {offers}, whose QoS does not fit: {misfits} See qos_overrides"
        else:
            text = f"published by {offers}; it has stopped"
        return f"no images on {self.topic}: {text}"

    def status(self, enabled: bool, timeout_s: float) -> CameraStatus:
        """Returns how the camera fares now, with rates since the previous call."""
        now_s = time.monotonic()
        return CameraStatus(
            camera=self.name,
            topic=self.topic,
            active=self._inlet is not None,
            enabled=enabled,
            silence_s=self.health.silence_s(now_s),
            timeout_s=timeout_s,
            snapshot=self.health.snapshot(now_s),
            drift=self.drift.report() if self._inlet is not None else None,
        )

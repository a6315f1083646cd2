"""The camera_info beside an image topic: in which direction a pixel lies."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from cnn_perception.errors import ConfigError
from cnn_perception.geometry.camera_model import CameraModel
from cnn_perception.ros.latest_subscription import LatestSubscription


class CameraInfoReader:
    """The calibration of one camera, as it was published last; for one thread."""

    def __init__(self, node: Node, topic: str, rectified: bool, qos_id: str | None = None) -> None:
        """Subscribes.

        Args:
            node: Whose subscription this is.
            topic: Fully qualified name of the calibration's topic.
            rectified: Whether these images are rectified ones.
            qos_id: As for `LatestSubscription`.

        Raises:
            ConfigError: If the QoS is overridden with what cannot be.
        """
        self.topic = topic
        self._rectified = rectified
        # It comes as often as the images but says the same each time: read when a ray is wanted, by nobody else.
        # Best effort, which every publisher matches, loses nothing so small.
        self._subscription = LatestSubscription(
            node, CameraInfo, self.topic, ReliabilityPolicy.BEST_EFFORT, lambda _: None, lambda _: None, qos_id=qos_id
        )
        self._info: CameraInfo | None = None
        self._model: CameraModel | None = None

    def model(self, height: int, width: int) -> CameraModel:
        """Returns the calibration for images of this size, in pixels.

        Raises:
            ConfigError: If none was published, or it is unusable for these images; one line.
        """
        info = self._subscription.take()
        if info is not None:
            if self._info is not None:
                info.header = self._info.header  # the rest is what is compared
            if info != self._info:
                self._info = info
                self._model = None
        if self._info is None:
            raise ConfigError(f"no ray can be told: nothing is published on {self.topic}; start the camera's driver")
        if self._model is None:
            self._model = CameraModel.from_message(self._info, self.topic, self._rectified)
        self._model.check_size(height, width)
        return self._model

    @property
    def info(self) -> CameraInfo | None:
        """The message that `model` used last; its header is of some earlier time."""
        return self._info

    def destroy(self) -> None:
        """Unsubscribes."""
        self._subscription.destroy()

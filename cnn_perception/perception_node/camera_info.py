"""The camera_info beside an image topic: in which direction a pixel lies."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from cnn_perception.errors import ConfigError
from cnn_perception.geometry.camera_model import CameraModel, differs_once_rectified, doubt_of_size
from cnn_perception.regions.matching import is_same_frame
from cnn_perception.ros import topics
from cnn_perception.ros.latest_subscription import FIT_PERIOD_S, LatestSubscription


@dataclass(frozen=True)
class Rectification:
    """Whether a camera's images are rectified ones, as far as is known.

    A rectified image has no camera_info of its own: image_pipeline publishes it beside the driver's, which is of the
    raw image (K, D) and of the rectified one (P). Which of the two an image is, nothing but the user says for sure.

    Attributes:
        images: Fully qualified name of their topic.
        parameter: Name of the parameter `rectified`.
        is_rectified: Its value.
        is_given: Whether the user has given it, or it is the default.
    """

    images: str
    parameter: str
    is_rectified: bool
    is_given: bool

    def check(self, info: CameraInfo, topic: str) -> str:
        """Returns what is to be warned of where the name of the images contradicts the parameter; empty if nothing.

        Args:
            info: The calibration; where rays are the same in raw and rectified images there is nothing to be said.
            topic: Its topic.

        Raises:
            ConfigError: If the parameter is the default, and so nobody has decided.
        """
        named = topics.is_rectified(self.images)
        if named is None or named == self.is_rectified or not differs_once_rectified(info):
            return ""
        if not self.is_given:
            raise ConfigError(
                f"no ray can be told on {self.images}: it is named as rectified images are, and {topic} gives raw and "
                f"rectified ones different rays; give the node the parameter {self.parameter}: true (P), or, if the "
                f"images are raw ones, false (K and D)"
            )
        used, kind = ("P", "raw") if self.is_rectified else ("K and D", "rectified")
        return (
            f"rays on {self.images} follow from {used} of {topic}, because {self.parameter} is "
            f"{str(self.is_rectified).lower()}, but it is named as {kind} images are: if they are, set it to "
            f"{str(named).lower()}"
        )


class CameraInfoReader:
    """The calibration of one camera, as it was published last; for one thread.

    Attributes:
        name: Of its topic, before remapping.
        topic: The same after remapping.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        rectification: Callable[[], Rectification],
        warn: Callable[[str, str], None],
        qos_id: str | None = None,
    ) -> None:
        """Subscribes.

        Args:
            node: Whose subscription this is.
            name: Of the calibration's topic, fully qualified, before remapping.
            rectification: Returns whether these images are rectified ones, as far as is known by now.
            warn: Logs a warning (key, text); called in the thread that asks for the model.
            qos_id: As for `LatestSubscription`.

        Raises:
            ConfigError: If the QoS is overridden with what cannot be.
        """
        self._rectification = rectification
        self._warn = warn
        # It comes as often as the images but says the same each time, or comes once for all: read when a ray is wanted,
        # by nobody else.
        self._subscription = LatestSubscription(
            node,
            CameraInfo,
            name,
            ReliabilityPolicy.BEST_AVAILABLE,
            lambda _: None,
            lambda _: None,
            qos_id=qos_id,
            is_small=True,
        )
        self._fitted_s = time.monotonic()
        self.name, self.topic = self._subscription.name, self._subscription.topic
        self._frame_id = ""  # of the newest one
        self._info: CameraInfo | None = None
        self._model: CameraModel | None = None
        self._used: Rectification | None = None  # by the model

    def model(self, height: int, width: int, frame_id: str) -> CameraModel:
        """Returns the calibration for images of this size, in pixels, and frame.

        Where the two name different frames sensor_msgs/Image leaves undefined what a ray is in: that of the images
        may be one of a simulated camera whose x axis looks ahead, where the optical frame has z.

        Raises:
            ConfigError: If none was published, or it is unusable for these images; one line.
        """
        self._fit_publishers()
        info = self._subscription.take()
        if info is not None:
            self._frame_id = info.header.frame_id
            if self._info is not None:
                info.header = self._info.header  # the rest is what is compared
            if info != self._info:
                self._info = info
                self._model = None
        if self._info is None:
            raise ConfigError(f"no ray can be told: {self._why_none()}")
        if not is_same_frame(self._frame_id, frame_id):
            raise ConfigError(
                f"no ray can be told: the images are in the frame {frame_id[:100]!r}, {self.topic} is in "
                f"{self._frame_id[:100]!r}; have the driver give both the frame_id of the camera's optical frame"
            )
        rectification = self._rectification()
        if self._model is None or rectification != self._used:
            self._model = None
            doubt = rectification.check(self._info, self.topic)
            self._model = CameraModel.from_message(self._info, self.topic, rectification.is_rectified)
            self._used = rectification
            if doubt:
                self._warn("rectified", doubt)
            if not rectification.is_rectified and (doubt := doubt_of_size(self._info, self.topic)):
                self._warn("calibration", doubt)
        self._model.check_size(height, width)
        return self._model

    def _fit_publishers(self) -> None:
        """Here, because no other thread may replace the subscription that this one takes from."""
        now_s = time.monotonic()
        if now_s - self._fitted_s >= FIT_PERIOD_S:
            self._fitted_s = now_s
            self._subscription.fit()

    def _why_none(self) -> str:
        """Says why no calibration is known, and what to do."""
        infos = self._subscription.publishers()
        if not infos:
            return f"nothing is published on {self.topic}; start the camera's driver"
        kind, misfits = self._subscription.type_name, self._subscription.misfits()
        advice = "check the remapping of camera_info"
        reason = topics.why_none_arrives(infos, "camera_info", kind, misfits, advice)
        reason = reason or f"published by {topics.in_words(infos)}, but none has come yet"
        return f"nothing is known from {self.topic}, {reason}"

    @property
    def info(self) -> CameraInfo | None:
        """What `model` was made from last, as the camera_info of these images; its header is of some earlier time.

        That of rectified images has no distortion and P for K, so that whoever reads it has the rays of the model.
        """
        if self._info is None or self._used is None or not self._used.is_rectified:
            return self._info
        found = copy.deepcopy(self._info)
        found.distortion_model = "plumb_bob"
        found.d = [0.0] * 5
        found.k = np.array(found.p).reshape(3, 4)[:, :3].ravel()
        found.r = np.eye(3).ravel()
        return found

    def destroy(self) -> None:
        """Unsubscribes."""
        self._subscription.destroy()

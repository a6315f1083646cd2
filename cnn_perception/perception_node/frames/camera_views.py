"""What is made of answered frames for those who look on, and published on the topics of their camera."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnn_perception.errors import PerceptionError
from cnn_perception.perception_node.camera_stream import CameraStream
from cnn_perception.perception_node.frame_stages import NEIGHBOURS, OVERLAY, SCORE_MAP, UNIT, VIEWS
from cnn_perception.perception_node.publishers import (
    ViewedFrame,
    ViewMessages,
    to_neighbours,
    to_overlay,
    to_score_map,
    to_unit_activation,
)
from cnn_perception.stream.stamps import too_old


class CameraViews:
    """What is made of the cameras' frames for those who look on; a `viewers.Views`.

    Attributes:
        kinds: What can be made.
        heavy_kinds: Which of them run a network.
        unlimited_kinds: Which of them are made of every frame.
    """

    kinds = VIEWS
    heavy_kinds = (SCORE_MAP, UNIT)
    unlimited_kinds = (NEIGHBOURS,)

    def __init__(self, cameras: Sequence[CameraStream], now_ns: Callable[[], int]) -> None:
        """Looks at these cameras, by the node's clock in nanoseconds."""
        self._cameras = {camera.name: camera for camera in cameras}
        self._now_ns = now_ns
        self._makers = {
            NEIGHBOURS: to_neighbours,
            OVERLAY: to_overlay,
            SCORE_MAP: to_score_map,
            UNIT: to_unit_activation,
        }

    def make(self, kind: str, frame: ViewedFrame) -> ViewMessages:
        """Returns the messages of one kind."""
        return self._makers[kind](frame)

    def is_too_old(self, frame: ViewedFrame) -> bool:
        """Whether a frame would not be answered any more either."""
        origin = frame.result.frame.origin
        return too_old(origin.stamp_ns, self._now_ns(), self._cameras[origin.camera].settings.max_age_s)

    def publish(self, frame: ViewedFrame, made: ViewMessages) -> None:
        """Publishes on the topics of the frame's camera."""
        self._cameras[frame.result.frame.origin.camera].outputs.publish_views(made)

    def refuse(self, kind: str, frame: ViewedFrame, error: PerceptionError) -> None:
        """Warns of it, once in a while."""
        camera = self._cameras[frame.result.frame.origin.camera]
        camera.warn(kind, f"{camera.topic}: no {kind}: {error}")

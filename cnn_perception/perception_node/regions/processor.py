"""Puts boxes and the thread that answers them together: those of all cameras are answered while the node is active."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from cnn_perception.perception_node.active_model import ModelOwner
from cnn_perception.perception_node.regions.status import RegionStatus, region_status
from cnn_perception.perception_node.regions.stream import RegionInputs, RegionStream
from cnn_perception.perception_node.regions.worker import RegionWorker
from cnn_perception.perception_node.settings import LiveSettings
from cnn_perception.ros.throttled_log import ThrottledLog


class RegionProcessor:
    """Answers the boxes of all cameras: it has subscriptions and a thread while it is started, if there are any boxes.

    It has no lock of its own: those of `FrameProcessor` keep `start`, `unsubscribe` and `statuses` apart.
    """

    def __init__(
        self,
        streams: Sequence[RegionStream],
        models: ModelOwner,
        live: LiveSettings,
        log: ThrottledLog,
        now_ns: Callable[[], int],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Begins without subscriptions and without a thread.

        Args:
            streams: The boxes of each camera that has any.
            models: Owns the model that answers them.
            live: The parameters in force.
            log: Is told of defects that cost the boxes of one image.
            now_ns: The node's clock, nanoseconds.
            on_failure: Called in one of the threads with the defect that ends it.
        """
        self._streams = streams
        self._models = models
        self._live = live
        self._log = log
        self._now_ns = now_ns
        self._on_failure = on_failure
        self._worker: RegionWorker | None = None

    def record(self, keep: Callable[[str, Any], None]) -> None:
        """Has all boxes answered, whoever subscribes, and the answers kept."""
        for stream in self._streams:
            stream.outputs.on_answer = keep
            stream.is_recorded = True

    def start(self, inputs: Sequence[Sequence[tuple[type[Any], str]]]) -> None:
        """Starts the thread that answers boxes, and begins to listen to them.

        Args:
            inputs: (message class, fully qualified name before remapping) of images and calibration, of the camera of
                each stream.

        Raises:
            ConfigError: If a topic's name is none, or its QoS is overridden with what cannot be; then it is to be
                stopped and unsubscribed all the same.
        """
        if not self._streams:
            return
        self._worker = RegionWorker(self._streams, self._models, self._live, self._log, self._now_ns, self._on_failure)
        for stream, (of_images, of_calibration) in zip(self._streams, inputs, strict=True):
            kind, images = of_images
            stream.subscribe(
                RegionInputs(
                    kind=kind,
                    images=images,
                    camera_info=of_calibration[1],
                    policy=lambda: self._live.settings.stamp_policy,
                    is_enabled=lambda: self._live.enabled,
                    now_ns=self._now_ns,
                    on_pair=self._worker.wake,
                    on_failure=self._on_failure,
                )
            )

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Keeps the thread out of a block; the boxes under way are given up."""
        return self._worker.paused() if self._worker is not None else contextlib.nullcontext()

    def stop(self) -> None:
        """Ends the thread, and waits for it; `unsubscribe` comes after. Harmless where there is none."""
        if self._worker is not None:
            self._worker.close()

    def unsubscribe(self) -> None:
        """Stops listening; harmless when it does not listen."""
        for stream in self._streams:
            stream.unsubscribe()
        self._worker = None

    def statuses(self) -> list[RegionStatus]:
        """Returns how the boxes of each camera fare now, with rates since the previous call."""
        timeout_s = self._live.settings.image_timeout_s
        stalled = self._worker.stalled() if self._worker is not None else ""
        return [region_status(stream, self._live.enabled, timeout_s, stalled) for stream in self._streams]

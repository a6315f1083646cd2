"""Puts cameras, model and threads together: frames of all cameras are answered while the node is active."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode

from cnn_perception.background.viewers import Viewers
from cnn_perception.errors import ConfigError
from cnn_perception.perception_node import diagnostics
from cnn_perception.perception_node.active_model import ActiveModel, ModelOwner
from cnn_perception.perception_node.black_box.node_box import NodeBox
from cnn_perception.perception_node.camera_stream import NEWS_S, CameraStream
from cnn_perception.perception_node.frame_stages import Frame, InferredFrame
from cnn_perception.perception_node.frames.batch_stages import BatchStages
from cnn_perception.perception_node.frames.camera_views import CameraViews
from cnn_perception.perception_node.publishers import InfoPublishers, ResultPublishers
from cnn_perception.perception_node.regions.processor import RegionProcessor
from cnn_perception.perception_node.regions.publishers import RegionPublishers
from cnn_perception.perception_node.settings import LiveSettings
from cnn_perception.perception_node.staged_executor import StagedExecutor
from cnn_perception.ros.latest_subscription import SubscriptionSet, Taken
from cnn_perception.ros.supervised_executor import SupervisedExecutor
from cnn_perception.ros.throttled_log import ThrottledLog
from cnn_perception.ros.topics import namesakes

_OVERDUE_S = 1.0
"""A callback that takes longer is diagnosed; others of its group are not answered meanwhile."""


@dataclass(frozen=True, eq=False)
class _Running:
    """What is there while the node is active."""

    source: SubscriptionSet[CameraStream]
    executor: StagedExecutor[list[Taken[CameraStream]], list[Frame], list[InferredFrame]]


class FrameProcessor:
    """Answers the frames of all cameras: it has topics while there is a model, and threads while it is started.

    One lock is held during each of the calls that change what there is, which wait for the frames under way; the other
    one only while subscriptions or topics come and go, and by diagnostics, which look at them and must not wait for a
    frame that hangs. The threads that answer frames take neither.
    """

    def __init__(
        self,
        node: LifecycleNode,
        cameras: Sequence[CameraStream],
        models: ModelOwner,
        live: LiveSettings,
        log: ThrottledLog,
        on_failure: Callable[[BaseException], None],
        black_box: NodeBox | None = None,
    ) -> None:
        """Begins without topics and threads.

        Args:
            node: Whose topics these are.
            cameras: Whose frames are answered.
            models: Owns the model that answers them.
            live: The parameters in force.
            log: Is told of defects that cost one frame.
            on_failure: Called in one of the threads with the defect that ends it.
            black_box: Is given what comes and what is answered; None for none.
        """
        self._node = node
        self._black_box = black_box
        self._cameras = cameras
        self._models = models
        self._live = live
        self._log = log
        self._on_failure = on_failure
        # Its pool has the priority of the thread that first uses it, and all of them wait for it.
        cv2.setNumThreads(1)
        self._viewers = Viewers(CameraViews(cameras, self._now_ns), on_failure)
        self._stages = BatchStages(cameras, models, live, log, self._now_ns, self._viewers, black_box)
        streams = [camera.regions for camera in cameras if camera.regions is not None]
        self._regions = RegionProcessor(streams, models, live, log, self._now_ns, on_failure)
        if black_box is not None:
            for camera in cameras:
                camera.outputs.on_answer = black_box.keep
            self._regions.record(black_box.keep)
        self._infos = InfoPublishers(node)
        self._changing = threading.RLock()
        # Taken after the one above. Re-entrant: a topic that is made declares parameters of its QoS, and the node
        # applies all of them by `wake`.
        self._lock = threading.RLock()
        self._running: _Running | None = None  # guarded by the lock, as everything that follows the state

    def use(self, model: ActiveModel) -> None:
        """Takes a verified model into use, between two frames if it is started.

        Raises:
            ConfigError: If the QoS of a topic is overridden with what cannot be; the model before goes on.
        """
        with self._changing, self._between_frames(), self._lock:
            self._viewers.withdraw()
            self._fit_topics(model)
            self._models.replace(model)
            for camera in self._cameras:
                camera.use(model.pipeline.model)
            if self._running is not None:
                self._publish_infos()
        self._models.free_replaced()

    def forget(self) -> None:
        """Takes the model out of use, frees it and removes its topics; `stop` comes before."""
        with self._changing, self._lock:
            self._models.forget()
            self._infos.remove()
            for topics in self._published():
                topics.remove()
        self._models.free_replaced()

    def start(self) -> None:
        """Subscribes to the cameras and starts the threads; there must be a model.

        Raises:
            ConfigError: If a topic's name is none, or its QoS is overridden with what cannot be.
        """
        with self._changing, self._lock:
            self._publish_infos()
            try:
                for camera in self._cameras:
                    camera.subscribe()
                self._regions.start([camera.inputs[:2] for camera in self._cameras if camera.regions is not None])
                if self._black_box is not None:
                    self._black_box.start([one for camera in self._cameras for one in camera.inputs])
                source = SubscriptionSet(self._node.context, self._cameras, self._live.settings.max_batch_size)
                stages = self._stages
                executor = StagedExecutor(source, stages.prepare, stages.infer, stages.deliver, self._on_failure)
            except BaseException:
                self._stop_black_box()
                self._regions.stop()
                self._unsubscribe()
                raise
            self._running = _Running(source, executor)

    def stop(self) -> None:
        """Unsubscribes and waits for the frames under way; harmless when it is not started."""
        with self._changing:
            running = self._running
            if running is None:
                return
            running.source.close()
            running.executor.join()
            self._regions.stop()
            self._stop_black_box()
            self._viewers.withdraw()
            with self._lock:
                self._unsubscribe()
                running.source.destroy()
                self._running = None

    def close(self) -> None:
        """Ends what is made for viewers; `stop` comes before, and the models are freed, which ends their runs."""
        self._viewers.close()
        if self._black_box is not None:
            self._black_box.close()

    def wake(self) -> None:
        """Lets changed rate limits take effect at once."""
        with self._lock:
            if self._running is not None:
                self._running.source.wake()

    def publish_infos(self) -> None:
        """Publishes what is known of the model again; nothing where there is none."""
        with self._lock:
            self._publish_infos()

    def diagnose(self, refusal: str) -> DiagnosticArray:
        """Returns the status of everything, with rates since the previous call; warns of cameras that are silent.

        Args:
            refusal: Why the node is not in the state that was asked for; empty where it is.
        """
        settings = self._live.settings
        with self._lock:
            running = self._running
            stalled = "" if running is None else running.executor.stalled()
            statuses = [
                camera.status(self._live.enabled, settings.image_timeout_s, stalled) for camera in self._cameras
            ]
            rois = self._regions.statuses()
            for status in statuses:
                self._tell_of_silence(status)
                self._tell_of_losses(status)
                self._tell_of_mixture(status)
            others = self._tell_of_namesakes()
            stamp = self._node.get_clock().now().to_msg()
            name = self._node.get_fully_qualified_name()
            overdue = self._overdue_callbacks()
            loading = self._models.load_under_way
            report = self._viewers.report()
            model = self._models.current
            box = None if self._black_box is None else self._black_box.report()
            array = diagnostics.to_array(stamp, name, statuses, model, overdue, loading, others, report, refusal, box)
            array.status += [one.to_message(name, refusal) for one in rois]
        if self._black_box is not None:
            self._black_box.note_diagnoses(array, statuses)
        return array

    def _tell_of_silence(self, status: diagnostics.CameraStatus) -> None:
        """Logs once, and then seldom, that no image comes and why, and that images come again."""
        key = f"{status.camera} silence"
        if status.silence:
            self._log.lasts(key, f"no images on {status.topic}: {status.silence}")
        elif status.snapshot.total.received and not status.stalled and status.silence_s <= NEWS_S:
            self._log.is_over(key, f"images on {status.topic} again")

    def _tell_of_losses(self, status: diagnostics.CameraStatus) -> None:
        """Logs once, and then seldom, that frames are lost on the way, and what can be done."""
        key = f"{status.camera} losses"
        if diagnostics.is_losing(status.snapshot):
            self._log.lasts(key, f"frames of {status.topic} are lost on the way: {status.remedy}")
        elif status.active:
            self._log.is_over(key, f"frames of {status.topic} are lost no more")

    def _tell_of_mixture(self, status: diagnostics.CameraStatus) -> None:
        """Logs once, and then seldom, that several nodes publish the images."""
        key = f"{status.camera} mixed"
        if status.mixed:
            self._log.lasts(key, f"images on {status.topic}: {status.mixed}")
        elif status.active:
            self._log.is_over(key, f"images on {status.topic} come from one publisher again")

    def _tell_of_namesakes(self) -> str:
        """Logs, and returns, that other nodes have this node's name; empty if none has."""
        found = namesakes(self._node)
        if found:
            self._log.lasts("namesakes", found)
        else:
            self._log.is_over("namesakes", "no other node has this node's name any more")
        return found

    def _now_ns(self) -> int:
        now_ns: int = self._node.get_clock().now().nanoseconds
        return now_ns

    def _overdue_callbacks(self) -> str:
        executor = self._node.executor
        return executor.overdue(_OVERDUE_S) if isinstance(executor, SupervisedExecutor) else ""

    @contextlib.contextmanager
    def _between_frames(self) -> Iterator[None]:
        running = self._running
        if running is None:
            yield
            return
        with self._regions.paused(), running.executor.paused():  # the frames go on while boxes are waited for
            yield

    def _published(self) -> Iterator[ResultPublishers | RegionPublishers]:
        for camera in self._cameras:
            yield from camera.published

    def _fit_topics(self, model: ActiveModel) -> None:
        """Makes the topics of a model, unless they are the same; those of the model before if that cannot be."""
        if all(topics.fit(model.pipeline.model) for topics in self._published()):
            return
        try:
            self._make_topics(model)
        except ConfigError:
            if self._models.current is not None:
                self._make_topics(self._models.current)
            raise

    def _make_topics(self, model: ActiveModel) -> None:
        self._infos.make(model.pipeline.spec)
        for topics in self._published():
            topics.make(model.pipeline.model)
        if self._running is not None:
            self._infos.activate()
            for topics in self._published():
                topics.activate()

    def _publish_infos(self) -> None:
        model = self._models.current
        if model is not None:
            self._infos.publish(model.pipeline.model, self._live.settings, self._models.version)

    def _stop_black_box(self) -> None:
        if self._black_box is not None:
            self._black_box.stop()

    def _unsubscribe(self) -> None:
        self._regions.unsubscribe()
        for camera in self._cameras:
            camera.unsubscribe()

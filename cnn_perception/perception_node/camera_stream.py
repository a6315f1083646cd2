"""One camera of the node: where its frames come from, where its results go, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from cnn_perception import topic_names
from cnn_perception.errors import ConfigError, FrameError, PerceptionError
from cnn_perception.geometry.camera_model import CameraModel
from cnn_perception.image.messages import Decoded, way_out
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.perception_node.camera_info import CameraInfoReader, Rectification
from cnn_perception.perception_node.diagnostics import CameraStatus
from cnn_perception.perception_node.frame_stages import FrameResult, place_to_publish, stage_durations_ms
from cnn_perception.perception_node.publishers import ResultPublishers, ViewedFrame
from cnn_perception.perception_node.regions.publishers import RegionPublishers
from cnn_perception.perception_node.regions.stream import RegionStream
from cnn_perception.perception_node.settings import CameraSettings, Settings
from cnn_perception.ros import given_parameters, parameters, topics
from cnn_perception.ros.latest_subscription import LatestSubscription
from cnn_perception.ros.transport import remedy_of_loss
from cnn_perception.stream.drift import Drift, brightness
from cnn_perception.stream.few_bits import FewBits
from cnn_perception.stream.frame_counters import FrameCounters
from cnn_perception.stream.frozen import FrozenPicture, PictureSample
from cnn_perception.stream.smoothing import AnswerSmoother
from cnn_perception.stream.stamps import Stamps, Verdict

NEWS_S = 1.0
"""After so many seconds without a frame it is looked for who cannot be received; before that, images come."""
_FRAMES_OF_FEW_BITS = 30
"""About a second: a camera's exposure has settled by then."""
_TURNED = (
    "the images are turned as their EXIF orientation says, camera_info is of images as they are stored; have the "
    "driver send them upright, without the tag"
)


@dataclass(frozen=True, eq=False)
class _Subscriptions:
    """What is there while the node is active."""

    images: LatestSubscription[Any]
    camera_info: CameraInfoReader


class CameraStream:
    """A camera as the node sees it; a `latest_subscription.Stream`.

    Attributes:
        name: Of the camera; empty for the only one.
        settings: Its parameters. Replaced as a whole by the node's callbacks, read by the threads that answer frames.
        topic: Of its images, after remapping; empty until the node is active.
        counters: What became of its frames since the node was activated; guards itself.
        outputs: The topics of its results; there while a model is loaded.
        drift: Whether it shows what the model was trained on; there while a model is loaded; guards itself.
        stamps: Judges its frames' stamps; for the thread that prepares frames.
        few_bits: Watches how many bits its frames use; for the thread that prepares frames.
        frozen: Watches whether its pictures stand still; for the thread that prepares frames.
        smoothing: Smooths its answers; for the thread that delivers frames.
        defects_in_a_row: How many frames on end met a defect; for the thread that prepares frames.
        regions: The boxes of another detector in its images; None where there are none.
    """

    # `use` replaces `drift` and `smoothing` between two frames; `subscribe` and `unsubscribe` are called while no
    # thread answers frames. So neither meets a frame under way; `FrameProcessor`'s lock keeps diagnostics out.
    drift: Drift

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        settings: CameraSettings,
        warn: Callable[[str, str], None],
        given: Collection[str] = (),
    ) -> None:
        """Begins without a model and without a subscription.

        Args:
            node: Whose camera it is.
            name: Of the camera; empty for the only one.
            settings: Its parameters.
            warn: Logs a warning (key, text), once in a while for the same key; called from several threads.
            given: Names of the parameters that the user has given, of any camera.
        """
        self._node = node
        self._warn = warn
        self._subscriptions: _Subscriptions | None = None
        self.name = name
        self.settings = settings
        self.topic = ""
        self.outputs = ResultPublishers(node, name)
        has_rois = bool(settings.rois_topic)
        self.regions = RegionStream(node, name, lambda: self.settings, warn, self._rectification) if has_rois else None
        self._is_rectified_given = False
        self.note_given(given)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.counters = FrameCounters(time.monotonic())
        self.stamps = Stamps()
        self.few_bits = FewBits(_FRAMES_OF_FEW_BITS)
        self.frozen = FrozenPicture()
        self.smoothing = AnswerSmoother()
        self.defects_in_a_row = 0

    @property
    def prefix(self) -> str:
        """What its parameters' names begin with."""
        return f"{self.name}." if self.name else ""

    def note_given(self, names: Collection[str]) -> None:
        """Notes which parameters the user has given or set; that without a prefix is the default of every camera."""
        if not {"rectified", f"{self.prefix}rectified"}.isdisjoint(names):
            self._is_rectified_given = True

    def _rectification(self) -> Rectification:
        name = f"{self.prefix}rectified"
        return Rectification(self.topic, name, self.settings.rectified, self._is_rectified_given)

    @property
    def subscription(self) -> LatestSubscription[Any]:
        """Of its images; there while the node is active."""
        return self._subscribed.images

    @property
    def _subscribed(self) -> _Subscriptions:
        assert self._subscriptions is not None
        return self._subscriptions

    @property
    def min_period_s(self) -> float:
        """Least time between two frames, in seconds; 0 for no limit."""
        max_rate_hz = self.settings.max_rate_hz
        return 1.0 / max_rate_hz if max_rate_hz else 0.0

    # ---- what comes and goes with the model and the node's state

    def use(self, model: OnnxModel) -> None:
        """Begins to watch a new model's answers for drift, and to smooth them anew."""
        self.drift = Drift(model.spec)
        self.smoothing = AnswerSmoother()

    def subscribe(self) -> None:
        """Begins to listen to the camera, and to count anew.

        Raises:
            ConfigError: If its topic's name is none, or the QoS is overridden with what cannot be.
        """
        kind: type[Image | CompressedImage] = Image
        raw = name = topics.expanded(self._node, self.settings.image_topic, f"{self.prefix}image_topic")
        is_compressed = self.settings.image_transport == "compressed"
        if is_compressed:
            kind = CompressedImage
            name = topics.compressed_of(self._node, raw)
        self._begin_anew()
        counters = self.counters
        best = ReliabilityPolicy.BEST_AVAILABLE
        images = LatestSubscription(self._node, kind, name, best, counters.overtake, counters.lose)
        self.topic = images.topic
        if hint := topics.transport_hint(topic_names.without_transport(self.topic) if is_compressed else self.topic):
            self.warn("transport", hint)
        try:
            calibration = topics.camera_info_of(self._node, raw, self.topic)
            camera_info = CameraInfoReader(self._node, calibration, self._rectification, self.warn)
        except BaseException:
            images.destroy()
            raise
        self._subscriptions = _Subscriptions(images, camera_info)

    def unsubscribe(self) -> None:
        """Stops listening; harmless when it does not."""
        if self._subscriptions is not None:
            self._subscriptions.images.destroy()
            self._subscriptions.camera_info.destroy()
            self._subscriptions = None

    @property
    def inputs(self) -> list[tuple[type[Any], str]]:
        """(message class, name before remapping) of what it listens to; there while the node is active."""
        subscribed = self._subscribed
        found = [(subscribed.images.kind, subscribed.images.name), (CameraInfo, subscribed.camera_info.name)]
        return found if self.regions is None else [*found, (Detection2DArray, self.regions.topic_name)]

    @property
    def published(self) -> list[ResultPublishers | RegionPublishers]:
        """The topics of everything about its frames; there while a model is loaded."""
        return [self.outputs] if self.regions is None else [self.outputs, self.regions.outputs]

    # ---- frames

    def note_nothing(self) -> None:
        """Notes that the thread which waits for frames has looked, and there was none."""
        self.counters.look(time.monotonic())

    def drop(self, refusal: FrameError) -> None:
        """Counts a frame that is not answered, and warns of it."""
        count = self.counters.drop(refusal.reason, str(refusal))
        text = f"{self.topic}: frame dropped ({refusal.reason}, {count} so far): {refusal}"
        self.warn(refusal.reason, text)

    def note_stamp(self, verdict: Verdict) -> None:
        """Counts a frame with an odd stamp that is answered all the same, and warns of it."""
        if verdict.oddity:
            count = self.counters.note(verdict.oddity, text=verdict.text)
            self.warn(verdict.oddity, f"{self.topic}: {verdict.text} ({count} so far; answered)")

    def note_picture(self, picture: Decoded, stamp_ns: int) -> None:
        """Counts a frame whose picture is odd, and warns of it; it is answered all the same.

        Args:
            picture: What it shows.
            stamp_ns: The frame's stamp, nanoseconds.
        """
        seen = picture.seen
        frozen = self.frozen.observe(PictureSample.of(picture.image, stamp_ns))
        for oddity in (*seen.oddities, *self.few_bits.observe(seen), *frozen):
            count = self.counters.note(oddity.kind, oddity.harmless, oddity.text)
            if not oddity.harmless or count & (count - 1) == 0:  # ever more seldom: at 1, 2, 4, 8 and so on
                self.warn(oddity.kind, f"{self.topic}: {oddity.text} ({count} so far; answered)")

    def publish(self, result: FrameResult, settings: Settings) -> ViewedFrame:
        """Publishes the answers to one frame; returns what is left to those who look on."""
        self.outputs.publish(result, settings)
        wanted = result.frame.wanted
        calibration = self._calibration(result) if wanted.rays or wanted.score_map_info else None
        place = place_to_publish(result)
        if place is not None and calibration is not None:
            self.outputs.publish_rays(result.frame.header, place, calibration)
        info = None if calibration is None else self._subscribed.camera_info.info
        return ViewedFrame(result, settings, info)

    def note_answer(self, result: FrameResult, published_s: tuple[float, float], now_ns: int) -> None:
        """Counts a frame that was published, and watches it for drift; see `stage_durations_ms` for the arguments."""
        frame = result.frame
        self.drift.observe(result.result.prediction, brightness(frame.prepared.tensor, frame.model.pipeline.spec.input))
        self.counters.answer(stage_durations_ms(result, published_s, now_ns), result.answer.unknown)

    def warn(self, key: str, text: str) -> None:
        """Logs a warning, once in a while for the same key."""
        self._warn(f"{self.name} {key}", text)

    def _calibration(self, result: FrameResult) -> CameraModel | None:
        """Returns the camera's calibration, or says why it has none that is good for this frame."""
        if result.frame.prepared.decoded.seen.turned:
            self.warn("turned", f"no ray can be told on {self.topic}: {_TURNED}")
            return None
        try:
            height, width = result.result.image.shape[:2]
            return self._subscribed.camera_info.model(height, width, result.frame.header.frame_id)
        except PerceptionError as error:
            self.warn("camera_info", str(error))
            return None

    # ---- diagnostics

    def status(self, enabled: bool, timeout_s: float, stalled: str = "") -> CameraStatus:
        """Returns how the camera fares now, with rates since the previous call; the arguments are `CameraStatus`'s."""
        is_active = self._subscriptions is not None
        images = self._subscriptions.images if self._subscriptions is not None else None
        wanted = self.outputs.wanted()
        snapshot = self.counters.snapshot(time.monotonic())
        kept_by = "" if images is None else images.sent_once()
        silence = ""
        if images is not None and not (stalled or kept_by):
            silence = self._reason_of_silence(images, timeout_s, snapshot.total.received > 0)
        return CameraStatus(
            camera=self.name,
            topic=self.topic,
            camera_info=self._subscriptions.camera_info.topic if self._subscriptions is not None else "",
            active=is_active,
            enabled=enabled,
            silence_s=self.counters.silence_s(),
            timeout_s=timeout_s,
            snapshot=snapshot,
            drift=self.drift.report() if is_active else None,
            stalled=stalled,
            silence=silence,
            kept_by=kept_by,
            subscription="" if images is None else images.choice,
            remedy="" if images is None else _remedy_of_loss(images),
            not_counted="" if images is None else images.not_counted,
            mixed="" if images is None else images.mixed(time.monotonic()),
            unheard="" if wanted.answer else self.outputs.answer_topic,
            is_wanted=wanted.anything,
            answers=self.outputs.answer_topic,
            overlay=self.outputs.overlay_topic,
        )

    def _reason_of_silence(self, subscription: LatestSubscription[Any], timeout_s: float, has_begun: bool) -> str:
        """Names who publishes the topic, with which type and QoS; empty if it is too soon, or images come."""
        silence_s = self.counters.silence_s()
        misfits = subscription.misfits() if silence_s > NEWS_S else []
        if not misfits and silence_s <= timeout_s:
            return ""
        infos = subscription.publishers()
        if not infos:
            published = topics.published_images(self._node, [self._node.get_fully_qualified_name()])
            if elsewhere := topics.images_elsewhere(self.topic, subscription.type_name, published, self.prefix):
                return f"nobody publishes it; {elsewhere}"
            if self.settings.image_topic != CameraSettings().image_topic:
                return f"nobody publishes it; check {self.prefix}image_topic, and ROS_DOMAIN_ID"
        hints = [way_out(info.topic_type) for info in infos if way_out(info.topic_type)]
        advice = hints[0] if hints else "see the parameter image_transport"
        if reason := topics.why_none_arrives(infos, "image_raw", subscription.type_name, misfits, advice):
            return reason
        text = f"published by {topics.in_words(infos)}; it has {'stopped' if has_begun else 'sent none yet'}"
        if subscription.is_reliable:
            return text
        return f"{text}, or all of its frames are lost: {_remedy_of_loss(subscription)}"


def _remedy_of_loss(subscription: LatestSubscription[Any]) -> str:
    return remedy_of_loss(subscription.is_reliable, subscription.is_overridden)


def declared_cameras(node: LifecycleNode, names: Sequence[str], warn: Callable[[str, str], None]) -> list[CameraStream]:
    """Declares the parameters of the cameras with these names, of which a single one may be empty, and returns them.

    Parameters without a prefix are the only camera's, or the defaults, given at start, of those with a name.

    Raises:
        ConfigError: If a parameter is unusable.
    """
    given = given_parameters.given(node)
    parameters.declare(node, CameraSettings, only_at_start=any(names))
    defaults = parameters.read(node, CameraSettings)
    if any(names) and defaults.image_topic != CameraSettings().image_topic:  # which a dump of all parameters holds
        own = ", ".join(f"{name}.image_topic" for name in names)
        warn(
            "image_topic",
            f"image_topic is without effect, because each of the cameras {', '.join(names)} has its own: set {own}",
        )
    cameras = []
    for name in names:
        settings = defaults
        if name:
            prefix = f"{name}."
            parameters.declare(node, CameraSettings, prefix, defaults.of_camera(name))
            settings = parameters.read(node, CameraSettings, prefix=prefix)
        cameras.append(CameraStream(node, name, settings, warn, given))
    _warn_of_remappings(node, cameras, warn)
    return cameras


def _warn_of_remappings(node: LifecycleNode, cameras: Sequence[CameraStream], warn: Callable[[str, str], None]) -> None:
    """Warns of those, by `image` of perception.launch.py too, of topics that no camera listens to."""
    names = [f"{camera.prefix}image_topic" for camera in cameras]
    try:
        images = [
            topics.expanded(node, camera.settings.image_topic, name)
            for camera, name in zip(cameras, names, strict=True)
        ]
    except ConfigError:  # is told where it is subscribed
        return
    infos = [topic_names.camera_info_beside(topic) for topic in images]
    for name, used in ((CameraSettings().image_topic, images), (topic_names.CAMERA_INFO, infos)):
        if text := topics.remapping_without_effect(node, name, used, names):
            warn(f"remapping of {name}", text)

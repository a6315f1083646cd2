"""The boxes of one camera: where they come from, which image they belong to, and what became of them.

The boxes of a slow detector come long after their image, which may have been overtaken on its way to being answered as
a whole. So the images have a subscription of their own here, whose every message is kept, serialised as it came, for as
long as it may wait; whole frames are answered as if there were no boxes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.perception_node.camera_info import CameraInfoReader, Rectification
from cnn_perception.perception_node.regions.counters import RegionCounters
from cnn_perception.perception_node.regions.messages import SerializedHeader, require_few
from cnn_perception.perception_node.regions.publishers import ANSWERS, RAYS, RegionPublishers
from cnn_perception.perception_node.settings import CameraSettings
from cnn_perception.regions.matching import Matcher, Pair, is_same_frame
from cnn_perception.ros import topics
from cnn_perception.ros.every_message import EveryMessage
from cnn_perception.stream.stamps import StampPolicy, Stamps

BoxedImage = Pair["bytes | None", bytes]
"""Boxes and their image, serialised; None in place of an image that nobody wanted when it came."""
_BOXES = "vision_msgs/msg/Detection2DArray"
_PLACE_BYTES = 1024
"""Of an image that waits, whatever is left of it: tiny or refused ones must not be any number."""
PURPOSE = "rois"
"""Of the parameters that override the QoS of its subscriptions."""


@dataclass(frozen=True, eq=False)
class RegionInputs:
    """What a stream of boxes listens to, and whom it tells.

    Attributes:
        kind: Message class of the images.
        images: Name of their topic for rclpy, before remapping.
        camera_info: The same of their calibration's.
        policy: What happens to an image with an odd stamp.
        is_enabled: Whether boxes are answered now.
        now_ns: The node's clock, nanoseconds.
        on_pair: Called in the thread that takes once there are boxes with their image.
        on_failure: Called in that thread with the defect that ends it.
    """

    kind: type[Image | CompressedImage]
    images: str
    camera_info: str
    policy: Callable[[], StampPolicy]
    is_enabled: Callable[[], bool]
    now_ns: Callable[[], int]
    on_pair: Callable[[], None]
    on_failure: Callable[[BaseException], None]


class RegionStream:
    """The boxes of one camera as the node sees them.

    Attributes:
        inputs: What it listens to; there while the node is active.
        camera_info: The camera's calibration, for the thread that answers; there while the node is active.
        name: Of the camera; empty for the only one.
        topic: Of its boxes, after remapping; empty until the node is active.
        topic_name: The same for rclpy, before remapping.
        outputs: The topics of the answers; there while a model is loaded.
        counters: What became of its boxes since the node was activated; guards itself.
        is_recorded: Whether boxes are answered even where nobody subscribes.
        defects_in_a_row: How many messages on end met a defect; for the thread that answers.
    """

    inputs: RegionInputs
    camera_info: CameraInfoReader

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        settings: Callable[[], CameraSettings],
        warn: Callable[[str, str], None],
        rectification: Callable[[], Rectification],
    ) -> None:
        """Begins without a model and without a subscription.

        Args:
            node: Whose boxes these are.
            name: Of the camera; empty for the only one.
            settings: Returns the camera's parameters in force.
            warn: Logs a warning (key, text), once in a while for the same key; called from several threads.
            rectification: Returns whether the camera's images are rectified ones.
        """
        self._node = node
        self._settings = settings
        self._warn = warn
        self._rectification = rectification
        self._messages: EveryMessage | None = None
        self._lock = threading.Lock()  # guards the next two
        self._matcher: Matcher[bytes | None, bytes] = Matcher()
        self._newest: BoxedImage | None = None
        self._stamps = Stamps()  # for the thread that takes messages
        self._heard_s = 0.0  # when boxes came last; written by that thread
        self._frame_id = ""  # of the images; for that thread
        self.name = name
        self.topic = ""
        self.topic_name = ""
        self.outputs = RegionPublishers(node, name)
        self.counters = RegionCounters()
        self.is_recorded = False
        self.defects_in_a_row = 0

    @property
    def settings(self) -> CameraSettings:
        """The camera's parameters in force."""
        return self._settings()

    # ---- what comes and goes with the node's state

    def subscribe(self, inputs: RegionInputs) -> None:
        """Begins to listen to boxes and images, and to count anew.

        Raises:
            ConfigError: If the topic's name is none, or a QoS is overridden with what cannot be.
        """
        settings = self._settings()
        prefix = f"{self.name}." if self.name else ""
        self.topic_name = topics.expanded(self._node, settings.rois_topic, f"{prefix}rois_topic")
        self.topic = self._node.resolve_topic_name(self.topic_name)
        self._matcher = Matcher()
        self._newest = None
        self._stamps = Stamps()
        self.counters = RegionCounters()
        self.defects_in_a_row = 0
        self._heard_s = time.monotonic()
        self._frame_id = ""
        if self.topic == self._node.resolve_topic_name(inputs.images):
            raise ConfigError(
                f"parameter {prefix}rois_topic is {self.topic}, the topic of the images; name that of boxes"
            )
        # All of it before the first message can come.
        self.inputs = inputs
        self.camera_info = CameraInfoReader(
            self._node, inputs.camera_info, self._rectification, self.warn, qos_id=PURPOSE
        )
        listened = [(inputs.kind, inputs.images), (Detection2DArray, self.topic_name)]
        lose = self.counters.messages.lose
        try:
            self._messages = EveryMessage(self._node, listened, PURPOSE, self._on_message, lose, inputs.on_failure)
        except BaseException:
            self.camera_info.destroy()
            raise

    def unsubscribe(self) -> None:
        """Stops listening, and forgets what waits; harmless when it does not listen."""
        if self._messages is None:
            return
        self._messages.close()
        self.camera_info.destroy()
        self._messages = None
        with self._lock:
            self._matcher = Matcher()
            self._newest = None

    @property
    def is_active(self) -> bool:
        """Whether it listens."""
        return self._messages is not None

    # ---- boxes and images

    def _on_message(self, topic: str, _kind: str, _received_ns: int, payload: bytes) -> None:
        """Takes a message; in the thread that does nothing else."""
        now_s = time.monotonic()
        self.expire(now_s)
        header = SerializedHeader.of(payload)
        if topic == self.topic:
            self._heard_s = now_s
            if not is_same_frame(header.frame_id, self._frame_id):
                self._leave_to_others(header.frame_id)
                return
            found = self._matched(header.stamp_ns, payload, now_s)
        else:
            self._frame_id = header.frame_id
            image = self._judged(header, payload)
            size = _PLACE_BYTES + (len(payload) if image is payload else 0)
            with self._lock:
                found = self._matcher.add_image(header.stamp_ns, image, size, now_s)
        if isinstance(found, FrameError):
            self.refuse(found)
        elif found is not None:
            self._offer(found)

    def _matched(self, stamp_ns: int, payload: bytes, now_s: float) -> BoxedImage | FrameError | None:
        """Returns boxes with their image if that is there, or why they are refused."""
        try:
            require_few(payload)
        except FrameError as refusal:
            return refusal.with_traceback(None)
        with self._lock:
            return self._matcher.add_boxes(stamp_ns, payload, now_s, len(payload))

    def _leave_to_others(self, frame_id: str) -> None:
        """Counts boxes of another camera, which must not keep this one's out."""
        self.counters.leave_to_others()
        ours, theirs = self._frame_id[:100], frame_id[:100]
        self.warn("frame_id", f"{self.topic}: boxes of frame_id {theirs!r} are left out, the images are of {ours!r}")

    def _judged(self, header: SerializedHeader, payload: bytes) -> bytes | FrameError | None:
        """Returns an image if boxes of it may be answered, why not, or None while nobody wants them."""
        inputs = self.inputs
        try:
            self._stamps.check(
                header.stamp_ns,
                inputs.now_ns(),
                policy=inputs.policy(),
                max_age_s=self._settings().max_age_s,
                nanosec=header.nanosec,
            )
        except FrameError as refusal:
            return refusal.with_traceback(None)  # which would keep the image in memory
        return payload if inputs.is_enabled() and self.is_wanted else None

    @property
    def is_wanted(self) -> bool:
        """Whether boxes have to be answered at all."""
        return self.is_recorded or self.outputs.is_wanted(ANSWERS) or self.outputs.is_wanted(RAYS)

    def _offer(self, pair: BoxedImage) -> None:
        """Leaves boxes to be answered; a newer pair than one that waits takes its place."""
        if isinstance(pair.image, FrameError):
            self.refuse(pair.image)
        elif pair.image is not None:
            with self._lock:
                is_overtaken = self._newest is not None
                self._newest = pair
            if is_overtaken:
                self.counters.messages.overtake(1)
            self.inputs.on_pair()

    def has_pair(self) -> bool:
        """Returns whether there are boxes to be answered."""
        return self._newest is not None

    def take(self) -> BoxedImage | None:
        """Returns the newest boxes with their image, once; None if there are none."""
        with self._lock:
            pair = self._newest
            self._newest = None
        return pair

    def expire(self, now_s: float) -> None:
        """Gives up what has waited for too long."""
        with self._lock:
            refusals = self._matcher.expire(now_s, self._settings().rois_wait_s)
        for refusal in refusals:
            if self.inputs.is_enabled() and self.is_wanted:
                self.refuse(refusal)

    def refuse(self, refusal: FrameError) -> None:
        """Counts boxes that never reach the thread that answers, and warns of them."""
        self.counters.messages.receive(time.monotonic())
        self.drop(refusal)

    def drop(self, refusal: FrameError) -> None:
        """Counts boxes that are not answered, and warns of them."""
        count = self.counters.messages.drop(refusal.reason, str(refusal))
        self.warn(refusal.reason, f"{self.topic}: boxes dropped ({refusal.reason}, {count} so far): {refusal}")

    def warn(self, key: str, text: str) -> None:
        """Logs a warning, once in a while for the same key."""
        self._warn(f"{self.name} rois {key}", text)

    # ---- diagnostics

    def expire_now(self) -> None:
        """Gives up what has waited for too long where nothing comes any more; for the thread that diagnoses."""
        self.expire(time.monotonic())

    def silence(self, timeout_s: float) -> str:
        """Says why boxes cannot come; a detector that sees nothing may send nothing, which is no fault."""
        if time.monotonic() - self._heard_s <= timeout_s:
            return ""
        infos = self._messages.publishers(self.topic) if self._messages is not None else []
        if not infos:
            return "nobody publishes it; see the parameter rois_topic"
        kinds = sorted({info.topic_type for info in infos})
        if _BOXES not in kinds:
            return f"it is {', '.join(kinds)}, and boxes must be {_BOXES}; have them republished as such"
        return "; ".join(self._messages.misfits()) if self._messages is not None else ""

    @property
    def lonely_images(self) -> int:
        """How many images no boxes came to."""
        return self._matcher.lonely_images

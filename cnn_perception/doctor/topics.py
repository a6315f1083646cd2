"""Checks of an image topic: who publishes it with which type and QoS, and whether its frames can be converted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from cnn_perception import topic_names
from cnn_perception.doctor.finding import Finding, Level, from_error
from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.geometry.camera_model import CameraModel, differs_once_rectified, doubt_of_size
from cnn_perception.image.messages import decode, encoded_from_message, nanoseconds, way_out
from cnn_perception.regions.matching import is_same_frame
from cnn_perception.ros.latest_subscription import IMAGE_QOS, fitting_policies
from cnn_perception.ros.topics import UNNAMED_NODE, images_elsewhere, is_rectified, node_of, type_name
from cnn_perception.ros.transport import name_in_use, remedy_of_loss
from cnn_perception.stream.stamps import Stamps, has_too_many, invalid_text

IMAGE_TYPES: Mapping[str, type[Image | CompressedImage]] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
}
_QUEUE = 30
"""A second of frames: the doctor counts all, while the node wants the newest only."""
_TOLERATED_LOSS = 0.05
_AT_ONCE_NS = 100_000_000
"""Within which two messages arrive that were kept, of 6 MB some 10 ms, and"""
_AT_ONCE = 0.25
"""within which share of the time between their being sent."""
_STALE_S = 1.0
"""An image of this age is no use to a robot; a camera's own delay is a tenth of it."""


@dataclass(frozen=True)
class Publisher:
    """One publisher of a topic, as DDS announces it.

    Attributes:
        node: Fully qualified name of its node.
        message_type: Such as `sensor_msgs/msg/Image`.
        incompatibility: Why its QoS does not fit the subscription; empty if it does.
    """

    node: str
    message_type: str
    incompatibility: str = ""


def publishers_of(node: Node, topic: str, wanted: QoSProfile = IMAGE_QOS) -> list[Publisher]:
    """Returns the publishers of a topic, each compared with the QoS of a subscription."""
    found = []
    for info in node.get_publishers_info_by_topic(topic):
        verdict, reason = qos_check_compatible(info.qos_profile, wanted)
        incompatibility = reason if verdict == QoSCompatibility.ERROR else ""
        found.append(Publisher(node_of(info), info.topic_type, incompatibility.removeprefix("ERROR: ").strip()))
    return found


def is_discovered(node: Node, topic: str) -> bool:
    """Returns whether a topic has publishers, all known by the names of their nodes."""
    names = [info.node_name for info in node.get_publishers_info_by_topic(topic)]
    return bool(names) and UNNAMED_NODE not in names


def check_publishers(
    topic: str, wanted: str, publishers: Sequence[Publisher], others: Mapping[str, str]
) -> Iterator[Finding]:
    """Checks who publishes a topic.

    Args:
        topic: Fully qualified name.
        wanted: Message type that is expected.
        publishers: Its publishers.
        others: Types of all published image topics by name.
    """
    subject = f"topic {topic}"
    if not publishers:
        nowhere = "no image topic is published: start the camera, with the same ROS_DOMAIN_ID and RMW_IMPLEMENTATION"
        remedy = images_elsewhere(topic, wanted, others) or nowhere
        yield Finding("FAIL", subject, "nobody publishes it", remedy)
        return
    fitting = [publisher for publisher in publishers if publisher.message_type == wanted]
    for publisher in publishers:
        offer = f"published by {publisher.node} as {publisher.message_type}"
        if publisher.message_type != wanted:
            level: Level = "warn" if fitting else "FAIL"
            yield Finding(level, subject, f"{offer}, not {wanted}", _type_remedy(topic, publisher.message_type))
        elif publisher.incompatibility:
            remedy = "set the subscription's policy by qos_overrides, or the publisher's"
            yield Finding(
                "FAIL", subject, f"{offer}, whose QoS does not fit: {publisher.incompatibility.rstrip('.;')}", remedy
            )
        else:
            yield Finding("ok", subject, offer)
    if len(fitting) > 1:
        yield Finding("warn", subject, f"{len(fitting)} publishers at once mix their frames", "remap all but one")


def _type_remedy(topic: str, found: str) -> str:
    if found == "sensor_msgs/msg/CompressedImage":
        return f"set image_transport to compressed, with {topic_names.without_transport(topic)} as the topic"
    if found == "sensor_msgs/msg/Image":
        return f"set image_transport to raw, with {topic} as the topic"
    return way_out(found) or "this is no image topic: remap image_raw, or set image_topic"


@dataclass
class ReceivedFrames:
    """What arrived on one image topic.

    Attributes:
        topic: Fully qualified name.
        duration_s: How long the subscription lasted, in seconds.
        latest: The newest message.
        times_ns: (stamp, arrival) of each frame, both in nanoseconds of the ROS clock. What was published before it was
            subscribed, and kept, is none of them.
        invalid: Of each stamp that is no time, what its field nanosec held.
        is_reliable: Whether it was subscribed so.
        sent: How many frames its publisher sent between the first and the last that arrived; 0 if that is not known.
        is_numbered: Whether the middleware numbers its messages, so that it can be known.
        camera_info: The newest message of its calibration.
        camera_info_topic: Where that comes; beside the images where no other is given.
        is_rectified: The parameter `rectified` of the node that listens to it; None where that is not known.
    """

    topic: str
    duration_s: float = 0.0
    latest: Any = None
    times_ns: list[tuple[int, int]] = field(default_factory=list)
    invalid: list[int] = field(default_factory=list)
    is_reliable: bool = False
    sent: int = 0
    is_numbered: bool = True
    camera_info: Any = None
    camera_info_topic: str = ""
    is_rectified: bool | None = None

    def __post_init__(self) -> None:
        self.camera_info_topic = self.camera_info_topic or topic_names.camera_info_beside(self.topic)

    @property
    def image_bytes(self) -> int:
        """Size of the newest message; 0 without one."""
        return 0 if self.latest is None else len(self.latest.data)


class KeptMessages:
    """Tells what was published before it was subscribed, and kept, from what is published now, whatever clocks say.

    A publisher that keeps messages sends them all at once to who subscribes, before any other; what is published then
    comes in the time in which it is published. Both times are differences on one clock each: the sender's may be off.
    """

    def __init__(self) -> None:
        # When the latest one of each publisher was received and sent; None once it has sent one that was not kept.
        self._latest_ns: dict[bytes, tuple[int, int] | None] = {}

    def has(self, info: Mapping[str, Any]) -> bool:
        """Returns whether a message was kept; to be asked of each one in turn.

        Args:
            info: What rclpy says of the message.
        """
        gid = info.get("publisher_gid")
        publisher = b"" if gid is None else bytes(gid["data"])
        received_ns, sent_ns = info.get("received_timestamp") or time.time_ns(), info.get("source_timestamp") or 0
        if publisher in self._latest_ns:
            before_ns = self._latest_ns[publisher]
            if before_ns is None or received_ns - before_ns[0] >= min(_AT_ONCE_NS, _AT_ONCE * (sent_ns - before_ns[1])):
                self._latest_ns[publisher] = None
                return False
        self._latest_ns[publisher] = received_ns, sent_ns
        return True


class FrameListener:
    """A subscription to an image topic and to its calibration, which counts what arrives.

    It is as reliable as the publishers are, as that of a perception node: it loses what the node would lose.
    """

    def __init__(self, node: Node, topic: str, message_type: str, camera_info: str = "") -> None:
        """Subscribes.

        Args:
            node: The doctor's node.
            topic: Fully qualified name of the images' topic.
            message_type: Its type.
            camera_info: The same of the calibration's topic; empty for the one beside the images.
        """
        self.topic = topic
        qos = _fitting_qos(node, topic, message_type)
        is_reliable = qos.reliability == ReliabilityPolicy.RELIABLE
        received = self._received = ReceivedFrames(topic, is_reliable=is_reliable, camera_info_topic=camera_info)
        self._node = node
        self._started_s = time.monotonic()
        self._kept = KeptMessages() if qos.durability == DurabilityPolicy.TRANSIENT_LOCAL else None
        self._sequence_numbers: dict[bytes, tuple[int, int]] = {}  # the first and the last of each publisher
        node.create_subscription(IMAGE_TYPES[message_type], topic, self._on_frame, qos)
        info_qos = _fitting_qos(node, received.camera_info_topic, type_name(CameraInfo))
        node.create_subscription(CameraInfo, received.camera_info_topic, self._on_camera_info, info_qos)

    def finish(self) -> ReceivedFrames:
        """Returns what arrived until now."""
        self._received.duration_s = time.monotonic() - self._started_s
        if len(self._sequence_numbers) == 1:
            ((first, last),) = self._sequence_numbers.values()
            self._received.sent = last - first + 1
        return self._received

    def _on_frame(self, message: Any, info: Mapping[str, Any]) -> None:  # noqa: ANN401 messages are untyped
        stamp = message.header.stamp
        now_ns = self._node.get_clock().now().nanoseconds
        self._received.latest = message
        if self._kept is not None and self._kept.has(info):
            return
        self._received.times_ns.append((nanoseconds(stamp), now_ns))
        if has_too_many(stamp.nanosec):
            self._received.invalid.append(stamp.nanosec)
        number = info.get("publication_sequence_number")
        publisher = info.get("publisher_gid")
        self._received.is_numbered = number is not None
        if number is not None and publisher is not None:
            first, _ = self._sequence_numbers.setdefault(bytes(publisher["data"]), (number, number))
            self._sequence_numbers[bytes(publisher["data"])] = first, number

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._received.camera_info = message


def _fitting_qos(node: Node, topic: str, message_type: str) -> QoSProfile:
    reliability, durability = fitting_policies(node, topic, message_type) or (
        ReliabilityPolicy.BEST_EFFORT,
        DurabilityPolicy.VOLATILE,
    )
    return QoSProfile(depth=_QUEUE, reliability=reliability, durability=durability)


def check_frames(frames: ReceivedFrames) -> Iterator[Finding]:
    """Checks what arrived on a topic that somebody publishes with the wanted type."""
    subject = f"frames of {frames.topic}"
    count = len(frames.times_ns)
    if frames.latest is None:
        remedy = f"see that the camera streams; if it does: {remedy_of_loss(frames.is_reliable)}; firewall, multicast"
        yield Finding("FAIL", subject, f"none in {frames.duration_s:.1f} s", remedy)
        return
    if count:
        yield from _check_traffic(subject, frames)
    else:
        text = f"none in {frames.duration_s:.1f} s but one that was published before, and kept"
        yield Finding(
            "warn", subject, text, "a node answers it once, when it is activated; see that the camera streams"
        )
    message = frames.latest
    try:
        height, width, _ = decode(encoded_from_message(message)).shape
    except FrameError as error:
        yield from_error(subject, FrameError(error.reason, f"refused ({error.reason}): {error}"))
        return
    pixels = message.format if isinstance(message, CompressedImage) else message.encoding
    yield Finding("ok", subject, f"{width}x{height}, {pixels}: converted")
    yield from _check_headers(subject, frames)
    yield from _check_calibration(frames, width, height)


def _check_traffic(subject: str, frames: ReceivedFrames) -> Iterator[Finding]:
    count = len(frames.times_ns)
    size = frames.image_bytes
    spread_s = (frames.times_ns[-1][1] - frames.times_ns[0][1]) / 1e9
    rate_hz = (count - 1) / spread_s if spread_s > 0 else count / frames.duration_s
    traffic = f"{count} in {frames.duration_s:.1f} s ({rate_hz:.1f} Hz), {size / 2**20:.2f} MiB each"
    yield Finding("ok", subject, traffic)
    if not frames.is_numbered:
        yield Finding("ok", subject, f"how many were lost is not known: {name_in_use()} does not number messages")
    lost = frames.sent - count
    if lost > _TOLERATED_LOSS * frames.sent:
        text = f"{lost} of {frames.sent} that were sent did not arrive"
        yield Finding("warn", subject, text, f"{remedy_of_loss(frames.is_reliable)}; see that this CPU is not full")


def _check_headers(subject: str, frames: ReceivedFrames) -> Iterator[Finding]:
    if frames.invalid:
        text = invalid_text(frames.invalid[-1])
        yield Finding("warn", subject, f"stamp_invalid in {len(frames.invalid)} of {len(frames.times_ns)}: {text}")
    else:
        yield from _check_stamps(subject, frames)
    if not frames.latest.header.frame_id:
        yield Finding("warn", subject, "frame_id is empty", "set the camera's frame, or nothing can be placed in space")


def _check_stamps(subject: str, frames: ReceivedFrames) -> Iterator[Finding]:
    stamps = Stamps()
    verdicts = [stamps.check(*times_ns, policy="accept", max_age_s=0.0) for times_ns in frames.times_ns]
    for oddity in dict.fromkeys(verdict.oddity for verdict in verdicts if verdict.oddity):
        strange = [verdict.text for verdict in verdicts if verdict.oddity == oddity]
        yield Finding("warn", subject, f"{oddity} in {len(strange)} of {len(verdicts)}: {strange[-1]}")
    ages_s = [verdict.age_s for verdict in verdicts if verdict.age_s is not None]
    if ages_s and min(ages_s) > _STALE_S:
        remedy = "synchronise the clocks (chrony), set use_sim_time for a bag, or mend the camera's delay"
        yield Finding("warn", subject, f"they are {min(ages_s):.1f} s old when they arrive", remedy)
    elif ages_s:
        yield Finding("ok", subject, f"{max(ages_s) * 1e3:.0f} ms old at most when they arrive")


def _check_calibration(frames: ReceivedFrames, width: int, height: int) -> Iterator[Finding]:
    subject = f"topic {frames.camera_info_topic}"
    info = frames.camera_info
    without = "there are no rays to what is recognised without it"
    if info is None:
        yield Finding("warn", subject, "nothing arrives", f"let the camera driver publish it; {without}")
    elif reason := _why_no_rays(frames, width, height):
        yield Finding("warn", subject, reason, without)
    elif not is_same_frame(info.header.frame_id, frames.latest.header.frame_id):
        ours, theirs = frames.latest.header.frame_id[:100], info.header.frame_id[:100]
        text = f"is in the frame {theirs!r}, the images are in {ours!r}: there are no rays to what is recognised"
        yield Finding("warn", subject, text, "have the driver give both the frame_id of the camera's optical frame")
    else:
        yield Finding("ok", subject, f"calibrated, {info.distortion_model or 'no distortion model'}")
        yield from _check_rectification(frames, subject)
        if not frames.is_rectified and (doubt := doubt_of_size(info, "camera_info")):
            yield Finding("warn", subject, doubt)


def _why_no_rays(frames: ReceivedFrames, width: int, height: int) -> str:
    """Returns why a node refuses the calibration for images of this size, with what to do; empty where it does not."""
    try:
        model = CameraModel.from_message(frames.camera_info, "camera_info", bool(frames.is_rectified))
        model.check_size(height, width)
    except ConfigError as error:
        return str(error)
    return ""


def _check_rectification(frames: ReceivedFrames, subject: str) -> Iterator[Finding]:
    named = is_rectified(frames.topic)
    used = frames.is_rectified
    if named is None or named == bool(used) or not differs_once_rectified(frames.camera_info):
        return
    kind = "rectified" if named else "raw"
    text = f"gives raw and rectified images different rays, and {frames.topic} is named as {kind} ones are"
    value = str(named).lower()
    if used is None:
        yield Finding("warn", subject, text, f"give the node that listens to it the parameter rectified: {value}")
    else:
        text += f", but the node's parameter rectified is {str(used).lower()}"
        yield Finding("warn", subject, text, f"set rectified to {value}, or rename the topic")

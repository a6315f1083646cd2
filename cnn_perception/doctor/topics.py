"""Doctor's look at an image topic: who publishes it and how, and what becomes of the frames that arrive."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from cnn_perception.doctor.finding import Finding, Level, from_error
from cnn_perception.errors import FrameError
from cnn_perception.image.messages import decode, encoded_from_message, nanoseconds
from cnn_perception.ros.latest_subscription import IMAGE_QOS
from cnn_perception.stream.stamps import Stamps

IMAGE_TYPES: Mapping[str, type[Image | CompressedImage]] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
}
_NAMELESS = "_NODE_NAME_UNKNOWN_"
"""Source: rmw_dds_common, graph_cache.cpp: of a publisher whose node has not been announced yet, or that is no node."""
_QUEUE = 30
"""A second of frames: the doctor counts all, while the node wants the newest only."""
_LOSS_WORTH_SAYING = 0.05
_OLD_S = 1.0
"""An image of this age is no use to a robot; a camera's own delay is a tenth of it."""
_LISTED = 8


@dataclass(frozen=True)
class Publisher:
    """One publisher of a topic, as DDS announces it.

    Attributes:
        node: Fully qualified name of its node.
        type: Message type, such as `sensor_msgs/msg/Image`.
        misfit: Why its QoS does not fit the subscription; empty if it does.
    """

    node: str
    type: str
    misfit: str = ""


def publishers_of(node: Node, topic: str, wanted: QoSProfile = IMAGE_QOS) -> list[Publisher]:
    """Returns who publishes a topic, judged by the QoS of a subscription."""
    found = []
    for info in node.get_publishers_info_by_topic(topic):
        verdict, reason = qos_check_compatible(info.qos_profile, wanted)
        misfit = reason if verdict == QoSCompatibility.ERROR else ""
        named = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
        name = "a process without a node" if info.node_name == _NAMELESS else named
        found.append(Publisher(name, info.topic_type, misfit.removeprefix("ERROR: ").strip()))
    return found


def is_introduced(node: Node, topic: str) -> bool:
    """Returns whether a topic has publishers, all known by the names of their nodes."""
    names = [info.node_name for info in node.get_publishers_info_by_topic(topic)]
    return bool(names) and _NAMELESS not in names


def published_image_topics(node: Node, but: Sequence[str] = ()) -> dict[str, str]:
    """Returns the types of all image topics that somebody publishes, by name, those in the namespace of `but` not."""
    topics = ((name, kind) for name, kinds in node.get_topic_names_and_types() for kind in kinds)
    ours = tuple(f"{name}/" for name in but)
    return {
        name: kind
        for name, kind in topics
        if kind in IMAGE_TYPES and not name.startswith(ours) and node.count_publishers(name)
    }


def check_publishers(
    topic: str, wanted: str, publishers: Sequence[Publisher], others: Mapping[str, str]
) -> Iterator[Finding]:
    """Judges who publishes a topic.

    Args:
        topic: Fully qualified name.
        wanted: Message type that is expected.
        publishers: Its publishers.
        others: Types of all published image topics by name.
    """
    what = f"topic {topic}"
    if not publishers:
        yield Finding("FAIL", what, "nobody publishes it", _where_else(topic, wanted, others))
        return
    fitting = [publisher for publisher in publishers if publisher.type == wanted]
    for publisher in publishers:
        offer = f"published by {publisher.node} as {publisher.type}"
        if publisher.type != wanted:
            level: Level = "warn" if fitting else "FAIL"
            yield Finding(level, what, f"{offer}, not {wanted}", _other_transport(topic, publisher.type))
        elif publisher.misfit:
            remedy = "set the subscription's policy by qos_overrides, or the publisher's"
            yield Finding("FAIL", what, f"{offer}, whose QoS does not fit: {publisher.misfit.rstrip('.;')}", remedy)
        else:
            yield Finding("ok", what, offer)
    if len(fitting) > 1:
        yield Finding("warn", what, f"{len(fitting)} publishers at once mix their frames", "remap all but one")


def _where_else(topic: str, wanted: str, others: Mapping[str, str]) -> str:
    if not others:
        return "no image topic is published: start the camera, with the same ROS_DOMAIN_ID and RMW_IMPLEMENTATION"
    is_compressed = wanted == "sensor_msgs/msg/CompressedImage"
    counterpart = topic.removesuffix("/compressed") if is_compressed else f"{topic}/compressed"
    if counterpart in others:
        return f"{counterpart} is published: set image_transport to {'raw' if is_compressed else 'compressed'}"
    alike = difflib.get_close_matches(topic, others, n=1, cutoff=0.6)
    # A camera in a namespace: /front/image_raw for /image_raw.
    alike += [name for name in others if name.endswith(topic)]
    if alike:
        hint = "" if others[alike[0]] == wanted else f" ({others[alike[0]]})"
        return f"did you mean {alike[0]}{hint}? Remap image_raw to it, or set image_topic"
    listed = ", ".join(sorted(others)[:_LISTED])
    return f"there are image topics: {listed}; remap image_raw to one, or set image_topic"


def _other_transport(topic: str, found: str) -> str:
    if found == "sensor_msgs/msg/CompressedImage":
        return f"set image_transport to compressed, with {topic.removesuffix('/compressed')} as the topic"
    if found == "sensor_msgs/msg/Image":
        return f"set image_transport to raw, with {topic} as the topic"
    return "this is no image topic: remap image_raw, or set image_topic"


@dataclass
class Arrivals:
    """What arrived on one image topic.

    Attributes:
        topic: Fully qualified name.
        seconds: How long was listened.
        latest: The newest message.
        times: (stamp, arrival) of each frame, both in nanoseconds of the ROS clock.
        sent: How many frames its publisher sent between the first and the last that arrived; 0 if nobody knows.
        calibration: The newest message of the camera_info beside it.
    """

    topic: str
    seconds: float = 0.0
    latest: Any = None
    times: list[tuple[int, int]] = field(default_factory=list)
    sent: int = 0
    calibration: Any = None

    @property
    def image_bytes(self) -> int:
        """Size of the newest message; 0 without one."""
        return 0 if self.latest is None else len(self.latest.data)


class Ear:
    """Listens to an image topic and to the camera_info beside it, while the node spins."""

    def __init__(self, node: Node, topic: str, kind: str) -> None:
        self.arrivals = Arrivals(topic)
        self._node, self._began_s = node, time.monotonic()
        self._numbers: dict[bytes, tuple[int, int]] = {}  # first and last sequence number of each publisher
        qos = QoSProfile(depth=_QUEUE, reliability=ReliabilityPolicy.BEST_EFFORT)
        node.create_subscription(IMAGE_TYPES[kind], topic, self._hear, qos)
        node.create_subscription(CameraInfo, camera_info_of(topic), self._calibrate, IMAGE_QOS)

    def finish(self) -> Arrivals:
        """Returns what arrived until now."""
        self.arrivals.seconds = time.monotonic() - self._began_s
        if len(self._numbers) == 1:
            ((first, last),) = self._numbers.values()
            self.arrivals.sent = last - first + 1
        return self.arrivals

    def _hear(self, message: Any, info: Mapping[str, Any]) -> None:  # noqa: ANN401 messages are untyped
        stamp = message.header.stamp
        now_ns = self._node.get_clock().now().nanoseconds
        self.arrivals.times.append((nanoseconds(stamp), now_ns))
        self.arrivals.latest = message
        number, publisher = info.get("publication_sequence_number"), info.get("publisher_gid")
        if number is not None and publisher is not None:
            first, _ = self._numbers.setdefault(bytes(publisher["data"]), (number, number))
            self._numbers[bytes(publisher["data"])] = first, number

    def _calibrate(self, message: CameraInfo) -> None:
        self.arrivals.calibration = message


def camera_info_of(topic: str) -> str:
    """Returns the topic of a camera's calibration, which lies beside its images."""
    return f"{topic.removesuffix('/compressed').rpartition('/')[0]}/camera_info"


def check_frames(arrivals: Arrivals) -> Iterator[Finding]:
    """Judges what arrived on a topic that somebody publishes with the wanted type."""
    what = f"frames of {arrivals.topic}"
    count = len(arrivals.times)
    if arrivals.latest is None:
        remedy = "see that the camera streams; if it does: the Fast DDS profile on its side, firewall, multicast"
        yield Finding("FAIL", what, f"none in {arrivals.seconds:.1f} s", remedy)
        return
    message, size = arrivals.latest, arrivals.image_bytes
    spread_s = (arrivals.times[-1][1] - arrivals.times[0][1]) / 1e9
    rate_hz = (count - 1) / spread_s if spread_s > 0 else count / arrivals.seconds
    traffic = f"{count} in {arrivals.seconds:.1f} s ({rate_hz:.1f} Hz), {size / 2**20:.2f} MiB each"
    yield Finding("ok", what, traffic)
    lost = arrivals.sent - count
    if lost > _LOSS_WORTH_SAYING * arrivals.sent:
        text = f"{lost} of {arrivals.sent} that were sent did not arrive"
        yield Finding(
            "warn", what, text, "give the camera's process the Fast DDS profile; see that this CPU is not full"
        )
    try:
        height, width, _ = decode(encoded_from_message(message)).shape
    except FrameError as error:
        yield from_error(what, FrameError(error.reason, f"refused ({error.reason}): {error}"))
        return
    pixels = message.format if isinstance(message, CompressedImage) else message.encoding
    yield Finding("ok", what, f"{width}x{height}, {pixels}: converted")
    yield from _check_headers(what, arrivals)
    yield from _check_calibration(arrivals, width, height)


def _check_headers(what: str, arrivals: Arrivals) -> Iterator[Finding]:
    stamps = Stamps()
    verdicts = [stamps.check(*times, policy="accept", max_age_s=0.0) for times in arrivals.times]
    for oddity in dict.fromkeys(verdict.oddity for verdict in verdicts if verdict.oddity):
        strange = [verdict.text for verdict in verdicts if verdict.oddity == oddity]
        yield Finding("warn", what, f"{oddity} in {len(strange)} of {len(verdicts)}: {strange[-1]}")
    ages_s = [verdict.age_s for verdict in verdicts if verdict.age_s is not None]
    if ages_s and min(ages_s) > _OLD_S:
        remedy = "synchronise the clocks (chrony), set use_sim_time for a bag, or mend the camera's delay"
        yield Finding("warn", what, f"they are {min(ages_s):.1f} s old when they arrive", remedy)
    elif ages_s:
        yield Finding("ok", what, f"{max(ages_s) * 1e3:.0f} ms old at most when they arrive")
    if not arrivals.latest.header.frame_id:
        yield Finding("warn", what, "frame_id is empty", "set the camera's frame, or nothing can be placed in space")


def _check_calibration(arrivals: Arrivals, width: int, height: int) -> Iterator[Finding]:
    what, info = f"topic {camera_info_of(arrivals.topic)}", arrivals.calibration
    without = "there are no rays to what is recognised without it"
    if info is None:
        yield Finding("warn", what, "nothing arrives", f"let the camera driver publish it; {without}")
    elif not any(info.k):
        yield Finding("warn", what, "the camera is not calibrated (K is zero)", f"calibrate it; {without}")
    elif (info.width, info.height) != (width, height):
        text = f"is for {info.width}x{info.height}, the images have {width}x{height}"
        yield Finding("warn", what, text, "calibrate for this resolution")
    else:
        yield Finding("ok", what, f"calibrated, {info.distortion_model or 'no distortion model'}")

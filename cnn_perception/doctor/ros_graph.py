"""Checks of the running system: the perception nodes, their image topics, and what arrives within some seconds."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from rclpy.qos import QoSProfile

from cnn_perception import topic_names
from cnn_perception.doctor import nodes, topics
from cnn_perception.doctor.finding import Finding
from cnn_perception.doctor.machine import check_model
from cnn_perception.doctor.ros_client import RosClient, connected_client
from cnn_perception.doctor.topics import FrameListener
from cnn_perception.errors import ConfigError
from cnn_perception.ros.latest_subscription import IMAGE_QOS
from cnn_perception.ros.topics import expanded, published_images

_DISCOVERY_S = 4.0
"""A participant that has missed the others' first announcements hears the next 3 s later.

Source: Fast DDS documentation, `leaseDuration_announcementperiod`."""
_SETTLING_S = 0.5
"""Once a participant is known, its topics and services follow one by one."""
_DIAGNOSIS_S = 3.0
"""So long it is waited for the nodes to say which topics they listen to, once a second by default."""
_RAW = "sensor_msgs/msg/Image"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"

_SubscribedImages = Mapping[str, Mapping[str, tuple[str, QoSProfile]]]
"""Of each active node the image topics that it subscribes to, with the type and QoS of its subscription."""


@dataclass(frozen=True)
class GraphOptions:
    """Which part of the running system to check.

    Attributes:
        image_topics: Image topics to check; without any, those of the perception nodes.
        transport: `raw` or `compressed`; empty to take the node's.
        node: The perception node to check; empty for all that run.
        listen_s: How long to listen, in seconds.
        is_model_checked: Whether a model file has been checked already.
    """

    image_topics: Sequence[str]
    transport: str
    node: str
    listen_s: float
    is_model_checked: bool


@dataclass(frozen=True)
class _ExpectedTopic:
    """The message type and the QoS that somebody expects of an image topic."""

    message_type: str
    qos: QoSProfile


def check_graph(options: GraphOptions) -> Generator[Finding, None, int]:
    """Checks nodes and topics.

    Args:
        options: What to check.

    Returns:
        After the findings, the size in bytes of the largest image that arrived; 0 without one.

    Raises:
        ConfigError: If what was given as an image topic names none.
    """
    with connected_client() as client:
        node = client.node
        asked_images = [_asked_topic(node, name) for name in options.image_topics]
        deadline_s = time.monotonic() + _DISCOVERY_S
        named, active = yield from _check_nodes(client, options)
        statuses = {name: nodes.subscribe_to_diagnostics(node, name) for name in active}
        client.spin(_DIAGNOSIS_S, lambda: all(statuses.values()))
        subscribed = nodes.subscribed_images(client, statuses, _DISCOVERY_S)
        expected = _expected_topics(asked_images, options.transport, subscribed, is_default=not named)
        client.spin(deadline_s - time.monotonic(), lambda: all(topics.is_discovered(node, topic) for topic in expected))
        asked = list(expected) if options.image_topics else []
        for name in active:
            yield from nodes.check_subscriptions(name, asked, list(subscribed[name]))
        published = published_images(node, named)
        return (yield from _check_traffic(client, options.listen_s, expected, published, subscribed, statuses))


def _check_nodes(
    client: RosClient, options: GraphOptions
) -> Generator[Finding, None, tuple[Sequence[str], Sequence[str]]]:
    """Checks the perception nodes; returns the names of those that were looked for, and of those that are active."""
    node = client.node
    requested = [f"/{options.node.lstrip('/')}"] if options.node else []

    def is_found() -> bool:
        found = nodes.perception_nodes(node)
        return bool(found) and set(requested) <= set(found)

    client.spin(_DISCOVERY_S, is_found)
    client.spin(_SETTLING_S)
    running = nodes.perception_nodes(node)
    named = requested or running
    active = []
    if not named:
        yield nodes.check_presence("", [])
    for name in named:
        if name not in running:
            yield nodes.check_presence(name, node.get_fully_qualified_node_names())
            continue
        yield from nodes.check_namesakes(name, node.get_fully_qualified_node_names())
        state = nodes.lifecycle_state(client, name)
        yield nodes.check_state(name, state)
        if state == "active":
            active.append(name)
        elif state == "unconfigured" and not options.is_model_checked:
            yield from check_model(Path(nodes.model_parameter(client, name)))
    return named, active


def _check_traffic(
    client: RosClient,
    seconds: float,
    expected: Mapping[str, _ExpectedTopic],
    published: Mapping[str, str],
    subscribed: _SubscribedImages,
    statuses: nodes.Statuses,
) -> Generator[Finding, None, int]:
    """Checks the topics' publishers, then what arrives in some seconds on the topics and from the active nodes.

    Args:
        client: Listens.
        seconds: How long.
        expected: The image topics to check.
        published: Types of all published image topics by name.
        subscribed: Of each active node the image topics that it subscribes to.
        statuses: The latest diagnostics of each active node.

    Returns:
        After the findings, the size in bytes of the largest image that arrived; 0 without one.
    """
    node = client.node
    cameras = {name: nodes.cameras_of(name, statuses[name]) for name in subscribed}
    camera_infos = {camera.images: camera.camera_info for of_node in cameras.values() for camera in of_node}
    listeners = []
    for topic, wanted in expected.items():
        publishers = topics.publishers_of(node, topic, wanted.qos)
        yield from topics.check_publishers(topic, wanted.message_type, publishers, published)
        if any(publisher.message_type == wanted.message_type for publisher in publishers):
            listeners.append(FrameListener(node, topic, wanted.message_type, camera_infos.get(topic, "")))
    outputs = {name: nodes.subscribe_to_output(node, name, statuses[name]) for name in subscribed}
    if listeners or outputs:
        client.spin(seconds)
    received = {listener.topic: listener.finish() for listener in listeners}
    rectified: dict[str, bool] = {}
    for name, known in cameras.items():  # a node whose diagnostics are seldom may have told of its cameras meanwhile
        rectified |= nodes.rectified_topics(client, name, known or nodes.cameras_of(name, statuses[name]))
    for frames in received.values():
        frames.is_rectified = rectified.get(frames.topic)
        yield from topics.check_frames(frames)
    for name, image_topics in subscribed.items():
        count = sum(len(received[topic].times_ns) for topic in image_topics if topic in received)
        yield from nodes.check_output(name, outputs[name], count)
    return max((frames.image_bytes for frames in received.values()), default=0)


def _expected_topics(
    asked: Sequence[str], asked_transport: str, subscribed: _SubscribedImages, is_default: bool
) -> dict[str, _ExpectedTopic]:
    """Returns the topics to check: those asked for, those of the nodes, or what a node would take by default."""
    taken = {}
    for images in subscribed.values():
        for topic, (message_type, qos) in images.items():
            taken[topic] = _ExpectedTopic(message_type, qos)
    if not asked and not is_default:
        return taken
    expected = {}
    for name in asked or [topic_names.IMAGE]:
        compressed = topic_names.below(topic_names.without_transport(name), topic_names.COMPRESSED)
        transport = asked_transport or ("compressed" if compressed in (name, *taken) else "raw")
        topic = compressed if transport == "compressed" else name
        message_type = _COMPRESSED if transport == "compressed" else _RAW
        expected[topic] = _ExpectedTopic(message_type, taken[topic].qos if topic in taken else IMAGE_QOS)
    return expected


def _asked_topic(node: Node, name: str) -> str:
    """Returns the fully qualified name of a topic that was asked for; a relative one is in no namespace.

    Raises:
        ConfigError: If it is no name of a topic, or a node's private one, for it does not say whose.
    """
    if name.startswith("~"):
        raise ConfigError(f"--image is {name!r}, which is private to a node; give the whole name, as the node logs it")
    return expanded(node, name, "--image", kind="option")

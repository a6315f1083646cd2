"""Doctor's visit to the running system: its nodes, their topics, and what arrives while it listens for some seconds."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rclpy.qos import QoSProfile

from cnn_perception.doctor import nodes
from cnn_perception.doctor import topics as topic_checks
from cnn_perception.doctor.finding import Finding
from cnn_perception.doctor.machine import check_model
from cnn_perception.doctor.ros_client import Observer, observing
from cnn_perception.ros.latest_subscription import IMAGE_QOS

_DISCOVERY_S = 4.0
"""A participant that has missed the others' first announcements hears the next 3 s later.

Source: Fast DDS documentation, `leaseDuration_announcementperiod`."""
_SETTLING_S = 0.5
"""Once a participant is known, its topics and services follow one by one."""
_DEFAULT_TOPIC = "/image_raw"
_RAW, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@dataclass(frozen=True)
class Question:
    """What the doctor is asked.

    Attributes:
        images: Image topics to look at; without any, those of the perception nodes.
        transport: `raw` or `compressed`; empty to take the node's.
        node: The perception node to look at; empty for all that run.
        seconds: How long to listen.
        model_is_known: Whether a model file has been looked at already.
    """

    images: Sequence[str]
    transport: str
    node: str
    seconds: float
    model_is_known: bool


@dataclass(frozen=True)
class _Wish:
    """An image topic, and how somebody wants to receive it."""

    kind: str
    qos: QoSProfile


def check_graph(question: Question) -> Generator[Finding, None, int]:
    """Looks at nodes and topics.

    Args:
        question: What to look at.

    Returns:
        After the findings, the size in bytes of the largest image that arrived; 0 without one.
    """
    with observing() as observer:
        node = observer.node
        deadline_s = time.monotonic() + _DISCOVERY_S
        named, active = yield from _check_nodes(observer, question)
        observer.spin(deadline_s - time.monotonic(), lambda: all(nodes.images_of(node, name) for name in active))
        subscribed = {name: nodes.images_of(node, name) for name in active}
        wishes = _wishes(question, subscribed, is_default=not named)
        introduced = topic_checks.is_introduced
        observer.spin(deadline_s - time.monotonic(), lambda: all(introduced(node, topic) for topic in wishes))
        for name in active:
            asked = list(wishes) if question.images else []
            yield from nodes.check_listening(name, asked, list(subscribed[name]))
        others = topic_checks.published_image_topics(node, named)
        return (yield from _check_traffic(observer, question.seconds, wishes, others, subscribed))


def _check_nodes(
    observer: Observer, question: Question
) -> Generator[Finding, None, tuple[Sequence[str], Sequence[str]]]:
    """Looks for the perception nodes; returns the names of those looked for, and of those that are active."""
    node = observer.node
    one = [_absolute(question.node)] if question.node else []
    observer.spin(_DISCOVERY_S, lambda: bool(found := nodes.perception_nodes(node)) and {*one} <= {*found})
    observer.spin(_SETTLING_S)
    running = nodes.perception_nodes(node)
    named = one or running
    active = []
    if not named:
        yield nodes.check_presence("", [])
    for name in named:
        if name not in running:
            yield nodes.check_presence(name, node.get_fully_qualified_node_names())
            continue
        state = nodes.state_of(observer, name)
        yield nodes.check_state(name, state)
        if state == "active":
            active.append(name)
        elif state == "unconfigured" and not question.model_is_known:
            yield from check_model(Path(nodes.model_of(observer, name)))
    return named, active


def _check_traffic(
    observer: Observer,
    seconds: float,
    wishes: Mapping[str, _Wish],
    others: Mapping[str, str],
    subscribed: Mapping[str, Collection[str]],
) -> Generator[Finding, None, int]:
    """Looks at the topics, then listens to them and to the active nodes, whose image topics are `subscribed`."""
    node = observer.node
    ears = []
    for topic, wish in wishes.items():
        publishers = topic_checks.publishers_of(node, topic, wish.qos)
        yield from topic_checks.check_publishers(topic, wish.kind, publishers, others)
        if any(publisher.type == wish.kind for publisher in publishers):
            ears.append(topic_checks.Ear(node, topic, wish.kind))
    words = {name: nodes.listen(node, name) for name in subscribed}
    if ears or words:
        observer.spin(seconds)
    arrivals = {ear.arrivals.topic: ear.finish() for ear in ears}
    for one in arrivals.values():
        yield from topic_checks.check_frames(one)
    for name, topics in subscribed.items():
        frames = sum(len(arrivals[topic].times) for topic in topics if topic in arrivals)
        yield from nodes.check_words(name, words[name], frames)
    return max((one.image_bytes for one in arrivals.values()), default=0)


def _wishes(
    question: Question, subscribed: Mapping[str, Mapping[str, tuple[str, QoSProfile]]], is_default: bool
) -> dict[str, _Wish]:
    """Returns the topics to look at: those asked for, those of the nodes, or what a node would take by default."""
    taken = {topic: _Wish(*wish) for topics in subscribed.values() for topic, wish in topics.items()}
    asked = [_absolute(topic) for topic in question.images]
    if not asked and not is_default:
        return taken
    wishes = {}
    for name in asked or [_DEFAULT_TOPIC]:
        compressed = f"{name.removesuffix('/compressed')}/compressed"
        transport = question.transport or ("compressed" if compressed in (name, *taken) else "raw")
        topic, kind = (compressed, _COMPRESSED) if transport == "compressed" else (name, _RAW)
        wishes[topic] = _Wish(kind, taken[topic].qos if topic in taken else IMAGE_QOS)
    return wishes


def _absolute(name: str) -> str:
    return f"/{name.lstrip('/')}"

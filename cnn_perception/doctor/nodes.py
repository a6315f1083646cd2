"""Doctor's look at a running perception node: its state, what it listens to, what it says of itself, who listens."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from sensor_msgs.msg import JointState
from vision_msgs.msg import Classification

from cnn_perception.doctor.finding import Finding, Level
from cnn_perception.doctor.ros_client import Observer
from cnn_perception.doctor.topics import IMAGE_TYPES

_ANSWER_TYPES: Mapping[str, Any] = {
    "vision_msgs/msg/Classification": Classification,
    "sensor_msgs/msg/JointState": JointState,
}
_LEVELS: Mapping[bytes, Level] = {
    DiagnosticStatus.OK: "ok",
    DiagnosticStatus.WARN: "warn",
    DiagnosticStatus.ERROR: "FAIL",
    DiagnosticStatus.STALE: "warn",
}
_BESIDES_RESULTS = ("/parameter_events", "/rosout", "/diagnostics")


def perception_nodes(node: Node) -> list[str]:
    """Returns the perception nodes that run, known by their services, whatever their names are."""
    services = dict(node.get_service_names_and_types())
    bases = (name.removesuffix("/set_enabled") for name in services if name.endswith("/set_enabled"))
    return sorted(base for base in bases if f"{base}/get_state" in services)


def check_presence(name: str, all_nodes: Sequence[str]) -> Finding:
    """Says that a node is not running, and which one may be meant.

    Args:
        name: Fully qualified name of the node that was asked for; empty for any perception node.
        all_nodes: The fully qualified names of those that run.
    """
    if not name:
        text = "no perception node runs in this domain"
        return Finding("warn", "node", text, "ros2 launch cnn_perception perception.launch.py model:=FILE image:=TOPIC")
    if name in all_nodes:
        return Finding("FAIL", f"node {name}", "is no perception node: it has no ~/set_enabled", "name another one")
    alike = difflib.get_close_matches(name, all_nodes, n=1)
    alike += [other for other in all_nodes if other.rpartition("/")[2] == name.rpartition("/")[2]]
    remedy = f"did you mean {alike[0]}?" if alike else "start it, with the same ROS_DOMAIN_ID and RMW_IMPLEMENTATION"
    return Finding("FAIL", f"node {name}", "does not run", remedy)


def state_of(observer: Observer, name: str) -> str:
    """Returns the lifecycle state of a node; empty if it does not answer."""
    answer = observer.call(GetState, f"{name}/get_state", GetState.Request())
    return "" if answer is None else str(answer.current_state.label)


def check_state(name: str, state: str) -> Finding:
    """Judges a node's lifecycle state."""
    what = f"node {name}"
    remedies = {
        "unconfigured": f"ros2 lifecycle set {name} configure, then activate; its log says why it is not, if it failed",
        "inactive": f"ros2 lifecycle set {name} activate",
        "finalized": "start it again",
    }
    if state == "active":
        return Finding("ok", what, "active")
    if not state:
        return Finding("FAIL", what, "does not answer", "it hangs or has just died: see its log, start it again")
    return Finding("FAIL", what, f"is {state}, so it takes no images", remedies.get(state, "wait until it is active"))


def model_of(observer: Observer, name: str) -> str:
    """Returns the parameter `model` of a node; empty if it has none or does not answer."""
    answer = observer.call(GetParameters, f"{name}/get_parameters", GetParameters.Request(names=["model"]))
    if answer is None or not answer.values or answer.values[0].type != ParameterType.PARAMETER_STRING:
        return ""
    return str(answer.values[0].string_value)


def images_of(node: Node, name: str) -> dict[str, tuple[str, QoSProfile]]:
    """Returns the image topics a node subscribes to, with the type and QoS of its subscription."""
    found = {}
    for topic, kinds in _topics(node.get_subscriber_names_and_types_by_node, name):
        for info in node.get_subscriptions_info_by_topic(topic) if set(kinds) & IMAGE_TYPES.keys() else ():
            if _full_name(info) == name:
                found[topic] = info.topic_type, info.qos_profile
    return found


def check_listening(name: str, asked: Sequence[str], subscribed: Sequence[str]) -> Iterator[Finding]:
    """Says which of the topics that were asked about the node does not listen to."""
    what = f"node {name}"
    if subscribed:
        yield Finding("ok", what, f"listens to {', '.join(subscribed)}")
    else:
        yield Finding("warn", what, "listens to no image topic that is known here", "see its log, or run this again")
    for topic in asked:
        if topic not in subscribed:
            remedy = f"start it with image:={topic.removesuffix('/compressed')}, see also image_transport"
            yield Finding("FAIL", what, f"does not listen to {topic}", remedy)


@dataclass
class Words:
    """What a node says while the doctor listens: its latest diagnoses by name, and the number of its answers by topic.

    Attributes:
        statuses: The latest status of each name.
        answers: How many answers arrived, by topic.
        listeners: How many others subscribe to its results.
        misfits: Subscriptions that cannot receive, and why.
    """

    statuses: dict[str, DiagnosticStatus] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    listeners: int = 0
    misfits: list[str] = field(default_factory=list)


def listen(node: Node, name: str) -> Words:
    """Subscribes to a node's diagnoses and answers; what is returned fills while the doctor's node spins."""
    words = Words()
    for topic, kinds in _topics(node.get_publisher_names_and_types_by_node, name):
        if topic in _BESIDES_RESULTS or topic.endswith("/transition_event"):
            continue
        if not topic.endswith("_info"):  # of the model, not of frames
            _note_listeners(node, name, topic, words)
        for kind in set(kinds) & _ANSWER_TYPES.keys():
            if not topic.endswith("_raw"):
                words.answers[topic] = 0
                node.create_subscription(_ANSWER_TYPES[kind], topic, _counter(words.answers, topic), 10)

    def hear(array: DiagnosticArray) -> None:
        ours = (status for status in array.status if status.name.startswith(f"{name}: "))
        words.statuses.update({status.name: status for status in ours})

    node.create_subscription(DiagnosticArray, "/diagnostics", hear, 10)
    return words


def _counter(counts: dict[str, int], topic: str) -> Callable[[Any], None]:
    def count(_message: Any) -> None:  # noqa: ANN401 messages are untyped
        counts[topic] += 1

    return count


def _note_listeners(node: Node, name: str, topic: str, words: Words) -> None:
    offers = [info for info in node.get_publishers_info_by_topic(topic) if _full_name(info) == name]
    for wish in node.get_subscriptions_info_by_topic(topic):
        words.listeners += 1
        for offer in offers:
            verdict, reason = qos_check_compatible(offer.qos_profile, wish.qos_profile)
            if offer.topic_type != wish.topic_type:
                words.misfits.append(f"{_full_name(wish)} wants {topic} as {wish.topic_type}, not {offer.topic_type}")
            elif verdict == QoSCompatibility.ERROR:
                words.misfits.append(f"{_full_name(wish)} on {topic}: {reason.removeprefix('ERROR: ').rstrip('.; ')}")


def check_words(name: str, words: Words, frames: int) -> Iterator[Finding]:
    """Judges what an active node said.

    Args:
        name: Fully qualified name of the node.
        words: What it said.
        frames: How many images arrived at the doctor meanwhile.
    """
    what = f"node {name}"
    if not words.statuses:
        yield Finding("warn", what, "says nothing on /diagnostics", "see that its diagnostics_period_s is below 3")
    for status in words.statuses.values():
        drops = [f"{pair.key} {pair.value}" for pair in status.values if pair.key.startswith("dropped")]
        text = "; ".join([status.message, *drops])
        yield Finding(_LEVELS.get(status.level, "warn"), f"diagnosis {status.name}", text)
    for misfit in words.misfits:
        yield Finding("FAIL", what, f"cannot reach a subscriber, {misfit}", "let it ask for what the node offers")
    if not words.listeners:
        text = "nobody else subscribes to its results; it computes only what somebody wants"
        yield Finding("ok", what, text, f"ros2 topic echo {next(iter(words.answers), name + '/classification')}")
    for topic, count in words.answers.items():
        if count or not frames:
            yield Finding("ok", f"topic {topic}", f"{count} answers while {frames} images arrived here")
        else:
            remedy = "see the diagnoses above; ~/set_enabled may have been called with false"
            yield Finding("FAIL", f"topic {topic}", f"no answer while {frames} images arrived here", remedy)


def _topics(ask: Callable[[str, str], list[tuple[str, list[str]]]], name: str) -> list[tuple[str, list[str]]]:
    """Asks for the topics of a node by its fully qualified name."""
    namespace, _, base = name.rpartition("/")
    try:
        return sorted(ask(base, namespace or "/"))
    except rclpy_implementation.NodeNameNonExistentError:  # it has just gone
        return []


def _full_name(info: Any) -> str:  # noqa: ANN401 TopicEndpointInfo has no public type
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"

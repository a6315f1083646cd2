"""Checks of a running perception node: its state, subscriptions, diagnostics and results, and who receives these."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.srv import GetState
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from sensor_msgs.msg import JointState
from vision_msgs.msg import Classification

from cnn_perception import topic_names
from cnn_perception.commands import for_shell
from cnn_perception.doctor.finding import Finding, Level
from cnn_perception.doctor.ros_client import RosClient
from cnn_perception.doctor.topics import IMAGE_TYPES
from cnn_perception.ros.topics import node_of

_RESULT_TYPES: Mapping[str, Any] = {
    "vision_msgs/msg/Classification": Classification,
    "sensor_msgs/msg/JointState": JointState,
}
_LEVELS: Mapping[bytes, Level] = {
    DiagnosticStatus.OK: "ok",
    DiagnosticStatus.WARN: "warn",
    DiagnosticStatus.ERROR: "FAIL",
    DiagnosticStatus.STALE: "warn",
}
_NO_HASH = "INVALID"
"""Source: rclpy, TypeHash: of an endpoint that announces none, as those of distributions before Iron."""
Statuses = Mapping[str, dict[str, DiagnosticStatus]]
"""Of each node the latest diagnostic status of each name, filled while the doctor's node spins."""
_NO_RESULTS = ("/parameter_events", "/rosout", topic_names.DIAGNOSTICS)


def perception_nodes(node: Node) -> list[str]:
    """Returns the names of the perception nodes that run, recognised by their services."""
    services = dict(node.get_service_names_and_types())
    bases = (name.removesuffix("/set_enabled") for name in services if name.endswith("/set_enabled"))
    return sorted(base for base in bases if f"{base}/get_state" in services)


def check_presence(name: str, all_nodes: Sequence[str]) -> Finding:
    """Returns the finding that a node is not running, and which one may be meant.

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


def check_namesakes(name: str, all_nodes: Sequence[str]) -> Iterator[Finding]:
    """Checks that a node that runs is the only one of its name."""
    count = all_nodes.count(name)
    if count > 1:
        text = f"{count} nodes have this name: their topics, services and parameters are mixed up"
        remedy = "end one, or start it with `--ros-args -r __node:=ANOTHER_NAME`"
        yield Finding("warn", f"node {name}", text, f"{remedy} (one that was killed is seen for some 20 s more)")


def lifecycle_state(client: RosClient, name: str) -> str:
    """Returns the lifecycle state of a node; empty if it does not answer."""
    answer = client.call(GetState, f"{name}/get_state", GetState.Request())
    return "" if answer is None else str(answer.current_state.label)


def _set(name: str, transition: str) -> str:
    """Returns the command that makes a transition of a node."""
    return for_shell("ros2", "lifecycle", "set", name, transition)


def check_state(name: str, state: str) -> Finding:
    """Checks a node's lifecycle state."""
    subject = f"node {name}"
    remedies = {
        "unconfigured": f"{_set(name, 'configure')}, then activate; its log says why it is not, if it failed",
        "inactive": _set(name, "activate"),
        "finalized": "start it again",
    }
    if state == "active":
        return Finding("ok", subject, "active")
    if not state:
        return Finding("FAIL", subject, "does not answer", "it hangs or has just died: see its log, start it again")
    return Finding(
        "FAIL", subject, f"is {state}, so it takes no images", remedies.get(state, "wait until it is active")
    )


def model_parameter(client: RosClient, name: str) -> str:
    """Returns the parameter `model` of a node; empty if it has none or does not answer."""
    found = _parameters(client, name, ["model"])
    return str(found[0].string_value) if found and found[0].type == ParameterType.PARAMETER_STRING else ""


@dataclass(frozen=True)
class NodeCamera:
    """A camera of a perception node, by what the node says of it: only the node knows how its names are remapped.

    Attributes:
        name: Of the camera; empty for the only one.
        images: Fully qualified name of the topic of its images.
        camera_info: The same of its calibration; empty where the node does not say it.
    """

    name: str
    images: str
    camera_info: str


def cameras_of(name: str, statuses: Mapping[str, DiagnosticStatus]) -> list[NodeCamera]:
    """Returns the cameras of an active node with the topics that it listens to; none where it has not said them.

    Args:
        name: Fully qualified name of the node.
        statuses: The latest diagnostic status of each name.
    """
    prefix = f"{name}: camera"
    found = []
    for status in statuses.values():
        if status.name == prefix or status.name.startswith(f"{prefix} "):
            values = {pair.key: pair.value for pair in status.values}
            camera = status.name.removeprefix(prefix).strip()
            topics = (values.get(key, "") for key in (topic_names.IMAGES_KEY, topic_names.CAMERA_INFO_KEY))
            found.append(NodeCamera(camera, *topics))
    return [camera for camera in found if camera.images]


def rectified_topics(client: RosClient, name: str, cameras: Sequence[NodeCamera]) -> dict[str, bool]:
    """Returns the parameter `rectified` of a node's cameras by the topics of their images; none if it does not answer.

    Args:
        client: Asks.
        name: Fully qualified name of the node.
        cameras: Its cameras.
    """
    asked = [f"{camera.name}.rectified".removeprefix(".") for camera in cameras]
    values = _parameters(client, name, asked) if asked else []
    return {camera.images: bool(value.bool_value) for camera, value in zip(cameras, values, strict=False)}


def _parameters(client: RosClient, name: str, asked: Sequence[str]) -> list[ParameterValue]:
    """Returns the values of a node's parameters; none if it does not answer."""
    answer = client.call(GetParameters, f"{name}/get_parameters", GetParameters.Request(names=list(asked)))
    values = [] if answer is None else list(answer.values)
    return values if len(values) == len(asked) else []


def image_subscriptions(node: Node, name: str) -> dict[str, tuple[str, QoSProfile]]:
    """Returns the image topics a node subscribes to, with the type and QoS of its subscription."""
    found = {}
    for topic, message_types in _topics(node.get_subscriber_names_and_types_by_node, name):
        if not set(message_types) & IMAGE_TYPES.keys():
            continue
        for info in node.get_subscriptions_info_by_topic(topic):
            if node_of(info) == name:
                found[topic] = (info.topic_type, info.qos_profile)
    return found


def subscribed_images(
    client: RosClient, statuses: Statuses, at_most_s: float
) -> dict[str, dict[str, tuple[str, QoSProfile]]]:
    """Returns `image_subscriptions` of each node, once those are known that its diagnostics name.

    The subscriptions of a node become known one after the other: the first ones are not all of them.

    Args:
        client: Waits.
        statuses: The diagnostics of each node; one that has told of no camera is waited for until it has any.
        at_most_s: How long to wait, in seconds.
    """
    named = {name: {camera.images for camera in cameras_of(name, statuses[name])} for name in statuses}

    def are_known() -> bool:
        known = {name: image_subscriptions(client.node, name).keys() for name in statuses}
        return all(known[name] and named[name] <= known[name] for name in statuses)

    client.spin(at_most_s, are_known)
    return {name: image_subscriptions(client.node, name) for name in statuses}


def check_subscriptions(name: str, asked: Sequence[str], subscribed: Sequence[str]) -> Iterator[Finding]:
    """Checks whether the node subscribes to image topics, and to each of those that were asked about."""
    subject = f"node {name}"
    if subscribed:
        yield Finding("ok", subject, f"listens to {', '.join(subscribed)}")
    else:
        yield Finding("warn", subject, "listens to no image topic that is known here", "see its log, or run this again")
    for topic in asked:
        if topic not in subscribed:
            remedy = f"start it with image:={topic_names.without_transport(topic)}, see also image_transport"
            yield Finding("FAIL", subject, f"does not listen to {topic}", remedy)


@dataclass
class NodeOutput:
    """What a node publishes while the doctor listens: its diagnostics and results, and who else receives them.

    Attributes:
        statuses: The latest diagnostic status of each name.
        result_counts: How many results arrived, by topic.
        subscribers: How many others subscribe to its results.
        incompatible: Subscriptions that cannot receive, and why.
    """

    statuses: dict[str, DiagnosticStatus] = field(default_factory=dict)
    result_counts: dict[str, int] = field(default_factory=dict)
    subscribers: int = 0
    incompatible: list[str] = field(default_factory=list)


def subscribe_to_diagnostics(node: Node, name: str) -> dict[str, DiagnosticStatus]:
    """Returns the latest diagnostic statuses of a node by their names, filled while the doctor's node spins.

    Args:
        node: The doctor's node.
        name: Fully qualified name of the perception node.
    """
    statuses: dict[str, DiagnosticStatus] = {}

    def keep_latest(array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name.startswith(f"{name}: "):
                statuses[status.name] = status

    node.create_subscription(DiagnosticArray, topic_names.DIAGNOSTICS, keep_latest, 10)
    return statuses


def subscribe_to_output(node: Node, name: str, statuses: dict[str, DiagnosticStatus]) -> NodeOutput:
    """Returns what a node publishes, by subscriptions that fill it while the doctor's node spins.

    Args:
        node: The doctor's node.
        name: Fully qualified name of the perception node.
        statuses: Its diagnostics, see `subscribe_to_diagnostics`.
    """
    output = NodeOutput(statuses)
    for topic, message_types in _topics(node.get_publisher_names_and_types_by_node, name):
        if topic in _NO_RESULTS or topic.endswith("/transition_event"):
            continue
        if not topic.endswith("_info"):  # of the model, not of frames
            _note_subscribers(node, name, topic, output)
        for message_type in set(message_types) & _RESULT_TYPES.keys():
            if not topic.endswith("_raw"):
                output.result_counts[topic] = 0
                count = _counter(output.result_counts, topic)
                node.create_subscription(_RESULT_TYPES[message_type], topic, count, 10)
    return output


def _counter(counts: dict[str, int], topic: str) -> Callable[[Any], None]:
    def count(_message: Any) -> None:  # noqa: ANN401 messages are untyped
        counts[topic] += 1

    return count


def _note_subscribers(node: Node, name: str, topic: str, output: NodeOutput) -> None:
    offers = [info for info in node.get_publishers_info_by_topic(topic) if node_of(info) == name]
    for subscription in node.get_subscriptions_info_by_topic(topic):
        output.subscribers += 1
        misfits = [misfit(topic, offer, subscription) for offer in offers]
        output.incompatible += [f"{node_of(subscription)} {text}" for text in misfits if text]


def misfit(topic: str, offer: Any, subscription: Any) -> str:  # noqa: ANN401 TopicEndpointInfo has no public type
    """Says why a subscription receives nothing, or nonsense, of what is published on its topic; empty if it does."""
    kind = subscription.topic_type
    if offer.topic_type != kind:
        return f"wants {topic} as {kind}, not {offer.topic_type}"
    verdict, reason = qos_check_compatible(offer.qos_profile, subscription.qos_profile)
    if verdict == QoSCompatibility.ERROR:
        return f"on {topic}: {reason.removeprefix('ERROR: ').rstrip('.; ')}"
    # The middleware goes by the name alone: what arrives is read as if it had the other's fields.
    hashes = {str(info.topic_type_hash) for info in (offer, subscription)} - {_NO_HASH}
    if len(hashes) > 1:
        return f"reads {topic} as another version of {kind}: {kind.partition('/')[0]} differs between the two machines"
    return ""


def check_output(name: str, output: NodeOutput, frames: int) -> Iterator[Finding]:
    """Checks what an active node published.

    Args:
        name: Fully qualified name of the node.
        output: What it published.
        frames: How many images arrived at the doctor meanwhile.
    """
    subject = f"node {name}"
    if not output.statuses:
        yield Finding("warn", subject, "says nothing on /diagnostics", "see that its diagnostics_period_s is below 3")
    for status in output.statuses.values():
        drops = [f"{pair.key} {pair.value}" for pair in status.values if _tells_of_loss(pair)]
        text = "; ".join([status.message, *drops])
        yield Finding(_LEVELS.get(status.level, "warn"), f"diagnosis {status.name}", text)
    for text in output.incompatible:
        yield Finding("FAIL", subject, f"cannot reach a subscriber, {text}", "let it ask for what the node offers")
    if not output.subscribers:
        text = "nobody else subscribes to its results; it computes only what somebody wants"
        topic = next(iter(output.result_counts), f"{name}/classification")
        yield Finding("ok", subject, text, for_shell("ros2", "topic", "echo", topic))
    for topic, count in output.result_counts.items():
        if count or not frames:
            yield Finding("ok", f"topic {topic}", f"{count} answers while {frames} images arrived here")
        else:
            remedy = "see the diagnoses above; ~/set_enabled may have been called with false"
            yield Finding("FAIL", f"topic {topic}", f"no answer while {frames} images arrived here", remedy)


def _tells_of_loss(pair: KeyValue) -> bool:
    """Returns whether a figure of a camera's status says what became of frames that were not answered."""
    is_loss: bool = pair.key in ("lost on the way", "overtaken", "not counted") or pair.key.startswith("dropped")
    return is_loss and pair.value != "0"


def _topics(ask: Callable[[str, str], list[tuple[str, list[str]]]], name: str) -> list[tuple[str, list[str]]]:
    """Returns the topics of a node and their types, sorted; none if the node is gone.

    Args:
        ask: Takes the name and the namespace of a node.
        name: Fully qualified name of the node.
    """
    namespace, _, base = name.rpartition("/")
    try:
        return sorted(ask(base, namespace or "/"))
    except rclpy_implementation.NodeNameNonExistentError:  # it has just gone
        return []

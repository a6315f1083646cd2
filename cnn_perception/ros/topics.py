"""Topic names and QoS that the user chooses: those that cannot be are refused in one line, misfits are named.

A topic has two names here. The one that rclpy is given is fully qualified, and not remapped: rclpy remaps whatever name
it is given, and what was remapped before would be remapped again, so that two names that are exchanged would be
exchanged back. The other one is what rclpy makes of it, `Node.resolve_topic_name`: the graph, logs and diagnostics know
the topic by that.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rclpy.exceptions import InvalidParameterTypeException, NameValidationException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.qos_overriding_options import InvalidQosOverridesError
from rclpy.topic_endpoint_info import TopicEndpointInfo

from cnn_perception.errors import ConfigError, one_line
from cnn_perception.image.messages import way_out
from cnn_perception.ros.parameter_types import shown
from cnn_perception.topic_names import COMPRESSED, below, camera_info_beside, name_to_write, without_transport

_TRANSPORTS = ("compressed", "compressedDepth", "theora", "ffmpeg", "zstd", "draco", "avif", "foxglove")
"""Under whose names image_transport publishes the images of a base topic."""

UNNAMED_NODE = "_NODE_NAME_UNKNOWN_"
"""Source: rmw_dds_common, graph_cache.cpp: of a publisher whose node has not been announced yet, or that is no node."""

_IMAGES = frozenset({"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"})
_MOST_SHOWN = 4
"""Of topics in one line."""

_RECTIFIED = re.compile("(?<![a-z])(?<!un_)(?<!not_)rect(?![a-z])|(?<!un)(?<!un_)(?<!not_)rectif")
_RAW = re.compile("(?<![a-z])raw(?![a-z])")


def expanded(node: Node, name: str, parameter: str, kind: str = "parameter") -> str:
    """Returns the fully qualified name of a topic by which rclpy is to be given it: no remapping is applied.

    Args:
        node: Whose topic it is.
        name: As the user gave it.
        parameter: By which the user gave it.
        kind: What that is.

    Raises:
        ConfigError: If it is no name of a topic.
    """
    try:
        return node.resolve_topic_name(name, only_expand=True)
    except (NameValidationException, rclpy_implementation.RCLError) as error:
        if not node.context.ok():
            raise  # no error: a signal came meanwhile
        text = f"{kind} {parameter} is {shown(name)}, which names no topic: {name_to_write(name, 'topic')}"
        raise ConfigError(text) from error


def remapping_without_effect(node: Node, name: str, used: Sequence[str], parameters: Sequence[str]) -> str:
    """Says that a topic is remapped which this node, as it is set up, does not use; empty where that misses nothing.

    Args:
        node: Whose topics these are.
        name: Of the topic, relative.
        used: Of the topics that it uses instead, fully qualified, before remapping.
        parameters: By which the user has named those.
    """
    found = node.resolve_topic_name(name)
    is_used = node.resolve_topic_name(name, only_expand=True) in (found, *used)
    if is_used or found in [node.resolve_topic_name(one) for one in used]:
        return ""
    return (
        f"the remapping of {name} to {found} is without effect, because {', '.join(parameters)} "
        f"{'names another topic' if len(parameters) == 1 else 'name other topics'}: remap {', '.join(used)}"
    )


def namesakes(node: Node) -> str:
    """Says that several nodes of the graph have this node's name, and the cure; empty if none other has it.

    Their topics, services and parameters are mixed up then: whoever calls one reaches any of them.
    """
    name = node.get_fully_qualified_name()
    count = node.get_fully_qualified_node_names().count(name)
    if count < 2:
        return ""
    return (
        f"{count} nodes are called {name}: their topics, services and parameters are mixed up; end one, or start it "
        "with `--ros-args -r __node:=ANOTHER_NAME` (one that was killed is seen for some 20 s more)"
    )


def compressed_of(node: Node, images: str) -> str:
    """Returns the name, for rclpy, of compressed images: below the raw ones, wherever a remapping takes those.

    A remapping of the compressed images themselves wins.

    Args:
        node: Who publishes or subscribes.
        images: Topic of the raw images, fully qualified, before remapping.
    """
    return _followed(node, below(images, COMPRESSED), below(node.resolve_topic_name(images), COMPRESSED))


def node_of(endpoint: TopicEndpointInfo) -> str:
    """Returns the fully qualified name of the node of a publisher or subscription."""
    if endpoint.node_name == UNNAMED_NODE:
        return "a process without a node"
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def camera_info_of(node: Node, images: str, found_images: str) -> str:
    """Returns the name, for rclpy, of the calibration: beside the images, wherever a remapping takes them.

    A remapping of the calibration itself wins.

    Args:
        node: Who publishes or subscribes.
        images: Topic of the raw images, fully qualified, before remapping.
        found_images: Where the images are, raw or compressed: the name after remapping.
    """
    return _followed(node, camera_info_beside(images), camera_info_beside(found_images))


def _followed(node: Node, name: str, followed: str) -> str:
    """Returns a name if there is a remapping of it, otherwise the one that follows from another topic's remapping.

    The latter is remapped by rclpy, too, where a rule names it: rclpy takes no name as it is.
    """
    return followed if node.resolve_topic_name(name) == name else name


def is_rectified(topic: str) -> bool | None:
    """Returns whether images are rectified ones by the name of their topic; None where it does not say.

    What image_pipeline rectifies it names `image_rect` and `image_rect_color`, what comes from a driver `image_raw`;
    others put the word into the name before, such as `rect/image`. Where a name has both, as RealSense's
    `image_rect_raw`, the camera rectifies.

    Args:
        topic: Its name; that of a transport at its end does not count.
    """
    parts = topic.lower().split("/")
    if parts[-1] in map(str.lower, _TRANSPORTS):
        parts.pop()
    for part in reversed(parts[-2:]):
        if _RECTIFIED.search(part):
            return True
        if _RAW.search(part):
            return False
    return None


def transport_hint(topic: str) -> str:
    """Returns what to do about an image topic whose name ends in that of an image transport; empty for others.

    Args:
        topic: Fully qualified, to which the transport's name would be added once more.
    """
    base, _, transport = topic.rpartition("/")
    if transport not in _TRANSPORTS or not base:
        return ""
    if transport == "compressed":
        return f"{topic} ends in a transport's name: give its base topic {base}, and image_transport compressed"
    return (
        f"{topic} is of the transport {transport}, which is not read: give its base topic {base}, or republish it with "
        f"`ros2 run image_transport republish --ros-args -p in_transport:={transport} -p out_transport:=raw`"
    )


def type_name(kind: type[Any]) -> str:
    """Returns a message type as those who publish and subscribe announce it, such as `sensor_msgs/msg/Image`."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


def in_words(infos: Sequence[TopicEndpointInfo]) -> str:
    """Returns who publishes or subscribes, each with its type and QoS."""
    pairs = [(info, info.qos_profile) for info in infos]
    return ", ".join(
        f"{node_of(info)} ({info.topic_type}, {qos.reliability.name}, {qos.durability.name})" for info, qos in pairs
    )


def misfits(publishers: Sequence[TopicEndpointInfo], wanted: QoSProfile) -> list[str]:
    """Says of which publishers nothing is received because their QoS does not fit, and why."""
    verdicts = [(info, *qos_check_compatible(info.qos_profile, wanted)) for info in publishers]
    return [f"{info.node_name}: {reason}" for info, verdict, reason in verdicts if verdict == QoSCompatibility.ERROR]


def published_images(node: Node, excluded: Collection[str]) -> dict[str, str]:
    """Returns the types of all published image topics by name, those of pictures that are not read among them.

    Args:
        node: That asks.
        excluded: Fully qualified names of nodes; what they alone publish does not count.
    """
    found = {}
    for name, kinds in node.get_topic_names_and_types():
        if any(_is_of_images(kind) for kind in kinds):
            infos = [info for info in node.get_publishers_info_by_topic(name) if node_of(info) not in excluded]
            if published := [info.topic_type for info in infos if _is_of_images(info.topic_type)]:
                found[name] = published[-1]
    return found


def _is_of_images(kind: str) -> bool:
    return kind in _IMAGES or bool(way_out(kind))


def images_elsewhere(topic: str, wanted: str, published: Mapping[str, str], prefix: str = "") -> str:
    """Says where images are published while nobody publishes those of a topic, and what to do; empty if nowhere.

    Args:
        topic: Where they are waited for, after remapping.
        wanted: Their type.
        published: What `published_images` returns.
        prefix: Of the camera's parameters; empty for an only one.
    """
    others = {name: kind for name, kind in sorted(published.items()) if kind in _IMAGES}
    unread = [name for name in published if name not in others and (not others or name.startswith(f"{topic}/"))]
    if unread:
        return f"{unread[0]} is published: {way_out(published[unread[0]])}"
    if not others:
        return ""
    is_compressed = wanted == "sensor_msgs/msg/CompressedImage"
    counterpart = without_transport(topic) if is_compressed else below(topic, COMPRESSED)
    if counterpart in others:
        return f"{counterpart} is published: set {prefix}image_transport to {'raw' if is_compressed else 'compressed'}"
    way = f"set {prefix}image_topic" if prefix else "remap image_raw to it, or set image_topic"
    alike = set(difflib.get_close_matches(topic, others, n=2, cutoff=0.6))
    # A camera in a namespace: /front/image_raw for /image_raw.
    alike |= {name for name in others if name.endswith(topic)}
    if len(alike) == 1:
        (name,) = alike
        hint = "" if others[name] == wanted else f" ({others[name]})"
        return f"did you mean {name}{hint}? {way[0].upper()}{way[1:]}"
    listed = ", ".join(list(others)[:_MOST_SHOWN])
    listed += f" and {len(others) - _MOST_SHOWN} more" * (len(others) > _MOST_SHOWN)
    return f"images are published on {listed}; {way.replace('to it', 'to one')}"


def why_none_arrives(
    publishers: Sequence[TopicEndpointInfo], name: str, wanted: str, unfit: Sequence[str], advice: str
) -> str:
    """Says why no message of a topic can arrive: nobody publishes it, or as another type or QoS; empty if it can.

    Args:
        publishers: Of the topic.
        name: Of the topic as the node names it, for its remapping.
        wanted: The type that the node subscribes to.
        unfit: What `misfits` says of them.
        advice: What to do where all of them publish another type.
    """
    if not publishers:
        return f"nobody publishes it; check the remapping of {name}, and ROS_DOMAIN_ID"
    if all(info.topic_type != wanted for info in publishers):
        return f"published by {in_words(publishers)}; this node wants {wanted}, {advice}"
    if unfit:
        return f"published by {in_words(publishers)}, whose QoS does not fit: {'; '.join(unfit)} See qos_overrides"
    return ""


@contextlib.contextmanager
def refusing_overrides(node: Node, topic: str, qos: QoSProfile) -> Iterator[None]:
    """Turns what rclpy raises of a topic whose QoS the user overrides into one line.

    Args:
        node: Whose topic it is.
        topic: Its name, for the line.
        qos: Into which rclpy writes the overrides.

    Raises:
        ConfigError: If the overrides are misspelt or cannot be.
    """
    try:
        yield
    # rclpy raises bare RuntimeErrors for misspelt values; the middleware's own errors are RuntimeErrors, too.
    except (InvalidParameterTypeException, InvalidQosOverridesError, RuntimeError) as error:
        if not node.context.ok():
            raise
        so_far = f"depth {qos.depth}, {qos.reliability.name.lower()}, {qos.history.name.lower()}"
        text = f"topic {topic}: its QoS cannot be ({so_far}): {_reason(error)}; see qos_overrides"
        raise ConfigError(text) from error


def _reason(error: Exception) -> str:
    """What an error says; rcl adds the places in its source."""
    return one_line(error).partition(", at /")[0]

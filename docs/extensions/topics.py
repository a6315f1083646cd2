"""Topics and services of the programs, with their types and QoS, from the code that makes them."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from cnn_perception.perception_node import publishers
from cnn_perception.tasks.registry import TASKS
from extensions.imports import named
from extensions.markdown import code, terms, text

_MAKERS = {"create_publisher": "published", "create_subscription": "subscribed", "create_service": "service"}
_IMAGE = "reliable while each publisher is, else best effort, depth 1"
_SHOWN = "reliable, while somebody looks"
_LATCHED = "reliable, depth 1, latched"
_PARTS = {"activation": "an activation map", "score_map": "a score map", "gallery": "a gallery"}
"""What a model may lack, and what it is called."""


@dataclass(frozen=True)
class Endpoint:
    """A topic or service of a program.

    Attributes:
        name: As it is written, `~/` being the node's own name.
        role: `published`, `subscribed`, `both` or `service`.
        type: Of its messages, such as `sensor_msgs/msg/Image`; two where a parameter chooses.
        qos: In words; empty for a service.
        needs: What a model must have for it; empty where any does.
    """

    name: str
    role: str
    type: str
    qos: str = ""
    needs: str = ""


_BESIDE_NODE = {"perception_node": ("publishers", "black_box.node_box")}
"""Files of a program that make topics and services, beside the one of its node."""
_AT_RUN_TIME = {
    "perception_node": (
        Endpoint("image_raw", "subscribed", "sensor_msgs/msg/Image", _IMAGE),
        Endpoint("image_raw/compressed", "subscribed", "sensor_msgs/msg/CompressedImage", _IMAGE),
        Endpoint("camera_info", "subscribed", "sensor_msgs/msg/CameraInfo", _IMAGE),
        Endpoint("detections", "subscribed", "vision_msgs/msg/Detection2DArray", _IMAGE.replace("1", "10")),
        Endpoint("~/detections", "published", "vision_msgs/msg/Detection2DArray", "reliable, depth 10", "classes"),
        Endpoint("~/detections/rays", "published", "geometry_msgs/msg/PoseArray", "reliable, depth 10", "classes"),
        Endpoint("bond", "both", "bond/msg/Status", "reliable, depth 100"),
    ),
    "camera_node": (
        Endpoint("image_raw", "published", "sensor_msgs/msg/Image", "reliable, depth 5"),
        Endpoint("image_raw/compressed", "published", "sensor_msgs/msg/CompressedImage", "reliable, depth 5"),
        Endpoint("camera_info", "published", "sensor_msgs/msg/CameraInfo", "reliable, depth 5"),
    ),
    "dashboard_node": (
        Endpoint("/perception_node/classification", "subscribed", "vision_msgs/msg/Classification", _SHOWN),
        Endpoint("/perception_node/regression", "subscribed", "sensor_msgs/msg/JointState", _SHOWN),
        Endpoint(
            "/perception_node/activation/overlay/compressed", "subscribed", "sensor_msgs/msg/CompressedImage", _SHOWN
        ),
    ),
    "follow_node": (
        Endpoint("/perception_node/label_info", "subscribed", "vision_msgs/msg/LabelInfo", _LATCHED),
        Endpoint(
            "cmd_vel", "published", "geometry_msgs/msg/Twist or geometry_msgs/msg/TwistStamped", "reliable, depth 1"
        ),
    ),
}
"""What the programs make under a name, or of a type, that is known only when they run."""


@dataclass
class _NotingNode:
    """Stands in for the node: notes which topics are made, and makes none."""

    noted: dict[str, Endpoint] = field(default_factory=dict)

    def create_lifecycle_publisher(self, kind: type, topic: str, qos: QoSProfile, **_: Any) -> SimpleNamespace:  # noqa: ANN401
        self.noted[topic] = Endpoint(topic, "published", type_name(kind), qos_in_words(qos))
        return SimpleNamespace(topic_name=topic)

    def destroy_lifecycle_publisher(self, _: object) -> None:
        """Is asked to remove what was never made."""


def type_name(kind: Any) -> str:  # noqa: ANN401 generated classes
    """Returns a message or service type as ROS writes it."""
    package, group, _ = kind.__module__.split(".")
    return f"{package}/{group}/{kind.__name__}"


def qos_in_words(qos: QoSProfile | int) -> str:
    """Returns a QoS as it matters to who subscribes."""
    if isinstance(qos, int):
        return f"reliable, depth {qos}"
    reliable = "best effort" if qos.reliability == ReliabilityPolicy.BEST_EFFORT else "reliable"
    latched = ", latched" if qos.durability == DurabilityPolicy.TRANSIENT_LOCAL else ""
    return f"{reliable}, depth {qos.depth}{latched}"


def of_program(program: str, *, said: Mapping[str, str]) -> str:
    """Returns the topics and services of a program, in the order in which the page describes them.

    Raises:
        ValueError: If the page describes another set of them.
    """
    found = endpoints(program)
    if wrong := found.keys() ^ said.keys():
        raise ValueError(f"the page and the code differ in {', '.join(sorted(wrong))}")
    return terms(_entry(found[name], meaning) for name, meaning in said.items())


def _entry(one: Endpoint, meaning: str) -> tuple[str, list[str], str]:
    role = {"published": "", "subscribed": "in", "both": "in and out", "service": "service"}[one.role]
    return code(one.name), [role, one.type, one.qos, f"needs {one.needs}" if one.needs else ""], meaning


def endpoints(program: str) -> dict[str, Endpoint]:
    """Returns the topics and services of a program by name."""
    files = ("node", *_BESIDE_NODE.get(program, ()))
    found = {one.name: one for file in files for one in _written(f"cnn_perception.{program}.{file}")}
    if program == "perception_node":
        found |= _of_models()
    return found | {one.name: one for one in _AT_RUN_TIME[program]}


def _written(module: str) -> Iterator[Endpoint]:
    """Yields what a module makes by name; what is made under a name that is known only at run time is left out."""
    names = vars(importlib.import_module(module))
    for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(module)))):
        role = (
            _MAKERS.get(node.func.attr) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
        )
        if role is not None and isinstance(node, ast.Call):
            kind, topic, *rest = node.args
            with contextlib.suppress(NameError):
                qos = "" if role == "service" else qos_in_words(_value(rest[role == "subscribed"], names))
                yield Endpoint(_value(topic, names), role, type_name(_value(kind, names)), qos)


def _value(node: ast.expr, names: dict[str, Any]) -> Any:  # noqa: ANN401 whatever is written
    return eval(compile(ast.Expression(node), "<docs>", "eval"), dict(names))


def _of_models() -> dict[str, Endpoint]:
    """Returns the topics about frames and models: those of a model that has everything, and what each needs of it."""
    by_task = {task: _made(task) for task in TASKS}
    every: dict[str, Endpoint] = {}
    for task, whole in by_task.items():
        lacking = {words: _made(task, without=part) for part, words in _PARTS.items()}
        others = {other for other, made in by_task.items() if other != task}
        for name, one in whole.items():
            needs = [words for words, made in lacking.items() if name not in made]
            if not all(name in by_task[other] for other in others):
                needs.insert(0, "numbers" if task == "regression" else "classes")
            every.setdefault(name, Endpoint(name, one.role, one.type, one.qos, " and ".join(needs)))
    return every


def _made(task: str, without: str = "") -> dict[str, Endpoint]:
    node: Any = _NotingNode()
    has = {part: None if part == without else part for part in _PARTS}
    spec: Any = SimpleNamespace(task=task, activation=has["activation"], score_map=has["score_map"])
    publishers.InfoPublishers(node).make(spec)
    model: Any = SimpleNamespace(spec=spec, gallery=has["gallery"])
    publishers.ResultPublishers(node, "").make(model)
    return node.noted  # type: ignore[no-any-return]


def fields(kind: str, *, said: Mapping[str, str]) -> str:
    """Returns the fields of a message type, with what this package writes into them.

    Raises:
        ValueError: If the page describes a field that the message has not.
    """
    message = named(".".join(kind.split("/")))
    types = message.get_fields_and_field_types()
    if wrong := said.keys() - types.keys():
        raise ValueError(f"{kind} has no {', '.join(sorted(wrong))}")
    return terms((code(name), [text(types[name])], meaning) for name, meaning in said.items())

"""Parameters and names given at start, on a command line, in a file or to a launch file: the useless ones are named.

rcl and launch drop parameters that nothing takes without a word, and refuse names that cannot be in those of their
parsers.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import math
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.utilities import remove_ros_args

from cnn_perception import topic_names
from cnn_perception.errors import ConfigError, printable
from cnn_perception.files import expanded
from cnn_perception.mistaken_files import what_is_at

QOS_PREFIX = "qos_overrides."
_MOST_NAMES = 20
_LONGEST_NAME = 100
"""Characters of a name that are shown, and compared with others: a stranger's may be a megabyte long."""
_LONGEST_VALUE = 200
_VALUES = "ros__parameters"
_PACKAGE = "cnn_perception"
_REMAPPED = {"__ns": "namespace", "__node": "node", "__name": "node"}
_REMAPPING = re.compile(r"(?:([^:]*):(?![/=]))?(?:ros(?:topic|service)://)?(.*?):=(.*)", re.DOTALL)
"""Of which node, if one is named; which name; what it becomes."""
_WANTED = {bool: "true or false", int: "a whole number", float: "a number"}
_NEARLY_THE_SAME = 0.85
"""From which ratio of difflib on a name is taken for another one misspelt, whatever else it begins with."""


def given(node: Node) -> dict[str, Parameter[Any]]:
    """Returns the parameters that were given to a node at start, declared or not."""
    with node.handle:
        found: dict[str, Parameter[Any]] = node.handle.get_parameters(Parameter)
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the most similar of the known names, as an addition to a line; empty where none is similar."""
    similar = difflib.get_close_matches(name[:_LONGEST_NAME], list(known), 1)
    return f" ({similar[0]}?)" if similar else ""


def warn_of_unknown(node: Node, of_model: Collection[str] = ()) -> None:
    """Names what was given and is no parameter of the node; to be called when all have been declared, but those of QoS.

    `warn_of_unknown_qos` says the rest: a topic's QoS is declared with the topic.

    Args:
        node: The node.
        of_model: Parameters that it declares itself when it has a model; what `ros2 param dump` wrote has them.
    """
    names = [name for name in given(node) if not name.startswith(QOS_PREFIX)]
    _warn(node, [name for name in names if name not in of_model], "`ros2 param list` names all")
    for name in of_model:
        if name in names:
            node.get_logger().warning(f"parameter {name} is without effect at start: it comes from the model file")
    for text in unused_of_command_line(node.get_fully_qualified_name(), sys.argv):
        node.get_logger().warning(text)


def warn_of_unknown_qos(node: Node) -> None:
    """Names the QoS that was given for what is no topic of the node; to be called when there are all topics."""
    _warn(node, [name for name in given(node) if name.startswith(QOS_PREFIX)], "the node has no such topic or policy")


def _warn(node: Node, names: Sequence[str], advice: str) -> None:
    known = node.list_parameters([], 0).names
    unknown = sorted(name for name in names if name not in known)
    if not unknown:
        return
    listed = ", ".join(f"{printable(name[:_LONGEST_NAME])}{nearest(name, known)}" for name in unknown[:_MOST_NAMES])
    more = f" and {len(unknown) - _MOST_NAMES} more" if len(unknown) > _MOST_NAMES else ""
    node.get_logger().warning(f"parameters without effect, because they are unknown: {listed}{more}; {advice}")


def unused_of_command_line(node_name: str, argv: Sequence[str]) -> Iterator[str]:
    """Yields a line for each parameter file and parameter of a command line that is not for this node.

    They are for nodes of other names only, or rcl takes them for words of the program, of which a node has none.

    Args:
        node_name: Fully qualified name of the node.
        argv: The command line.
    """
    words = " ".join(remove_ros_args(list(argv))[1:])
    if words:
        yield f"words without effect: {printable(words[:200])}; parameters are given as --ros-args -p NAME:=VALUE"
    for option, value in itertools.pairwise(_ros_arguments(argv)):
        if option == "--params-file":
            names = nodes_of_file(Path(value))
            if names and not any(matches(name, node_name) for name in names):
                yield (
                    f"{printable(value)}: has no parameter of this node {node_name}, only of "
                    f"{printable(', '.join(names[:_MOST_NAMES]))}"
                    f"{nearest(node_name, names)}; write `{node_name}:` or `/**:` above {_VALUES}"
                )
        elif option in ("-p", "--param"):
            other, separator, name = value.partition(":=")[0].partition(":")
            if separator and not matches(other, node_name):
                yield printable(
                    f"-p {value[:200]}: {name} is for a node {other}, this one is {node_name}; write -p {name}:=..."
                )


def _ros_arguments(argv: Sequence[str]) -> Iterator[str]:
    is_for_ros = False
    for word in argv:
        if word in ("--ros-args", "--"):
            is_for_ros = word == "--ros-args"
        elif is_for_ros:
            yield word


def mistaken_files(argv: Sequence[str]) -> Iterator[str]:
    """Yields a line for each parameter file of a command line that is something else, such as a saved web page."""
    for option, value in itertools.pairwise(_ros_arguments(argv)):
        if option == "--params-file" and (what := what_is_at(Path(value), "parameter file")):
            yield f"{value}: {what}"


def refused_arguments(argv: Sequence[str]) -> Iterator[str]:
    """Yields a line for each remapping and parameter of a command line that rcl refuses, in words of its grammar."""
    for option, value in itertools.pairwise(_ros_arguments(argv)):
        if option in ("-r", "--remap"):
            reason = _why_no_remapping(value)
        elif option in ("-p", "--param"):
            reason = "" if ":=" in value else _written("a parameter", value, "NAME:=VALUE")
        else:
            continue
        if reason:
            yield f"{option} {printable(value[:_LONGEST_VALUE])}: {reason}"


def _why_no_remapping(rule: str) -> str:
    found = _REMAPPING.fullmatch(rule)
    if found is None:
        return _written("a remapping", rule, "NAME:=OTHER_NAME")
    node, name, other = found.groups()
    kinds = [] if name in _REMAPPED else [(name, "topic")]
    kinds += [(other, _REMAPPED.get(name, "topic")), *([] if node is None else [(node, "node")])]
    reasons = ((text, topic_names.why_no_name(text, kind)) for text, kind in kinds)
    return next((f"{_quoted(text)} is {reason}" for text, reason in reasons if reason), "")


def _quoted(text: str) -> str:
    return f"'{printable(text[:_LONGEST_VALUE])}'"


def _written(what: str, text: str, form: str) -> str:
    name, separator, value = text.partition("=")
    meant = f"; did you mean {printable(f'{name}:={value}'[:_LONGEST_VALUE])}?" if separator else ""
    return f"{what} is written {form}{meant}"


def nodes_of_file(path: Path) -> list[str]:
    """Returns the names of the nodes whose parameters a file has, wildcards as they are written.

    A file that cannot be read has none: rcl has refused it before.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        # Without their tags: rcl knows none, and PyYAML raises all sorts of errors where a value does not fit its own.
        return list(_nodes(yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader), ""))
    return []


def _nodes(content: object, namespace: str) -> Iterator[str]:
    if not isinstance(content, dict):
        return
    if _VALUES in content:
        yield namespace
    for key, value in content.items():
        if key != _VALUES:
            yield from _nodes(value, f"{namespace}/{str(key).strip('/')}")


def matches(pattern: str, node_name: str) -> bool:
    """Whether a name of a parameter file means a node: `*` stands for one part of its name, `**` for any number.

    Source: rcl_yaml_param_parser, rcl_yaml_node_struct_get.

    Args:
        pattern: Such as `/**`, `/*/camera` or `camera`.
        node_name: Fully qualified name of the node.
    """
    parts = [
        "(/[^/]+)*" if part == "**" else "/[^/]+" if part == "*" else f"/{re.escape(part)}" for part in _parts(pattern)
    ]
    return re.fullmatch("".join(parts), node_name) is not None


def _parts(name: str) -> list[str]:
    return name.strip("/").split("/")


def unused_launch_arguments(argv: Sequence[str], file: Path, declared: Collection[str]) -> str:
    """Returns a line that names what `ros2 launch` was given and its launch file does not take; empty if there is none.

    Args:
        argv: The command line of the process.
        file: The launch file that asks. Where another one includes it the arguments are that one's to judge.
        declared: Names of all arguments that it takes, with those of the files that it includes.
    """
    if not is_launched(argv, file):
        return ""
    names = dict.fromkeys(word.partition(":=")[0] for word in argv if ":=" in word)
    unknown = [name for name in names if name not in declared]
    if not unknown:
        return ""
    listed = ", ".join(f"{printable(name[:_LONGEST_NAME])}{_meant(name, declared)}" for name in unknown[:_MOST_NAMES])
    return f"launch arguments without effect, because they are unknown: {listed}; --show-args names all"


def _meant(name: str, declared: Collection[str]) -> str:
    """As `nearest`, but image_topic means image, not another topic, unless a name is nearly the same."""
    if same := difflib.get_close_matches(name[:_LONGEST_NAME], list(declared), n=1, cutoff=_NEARLY_THE_SAME):
        return f" ({same[0]}?)"
    beginnings = [one for one in declared if name.startswith(f"{one}_")]
    return f" ({max(beginnings, key=len)}?)" if beginnings else nearest(name, declared)


def is_launched(argv: Sequence[str], file: Path) -> bool:
    """Whether a command line names this launch file, by its path or by this package and its name: none includes it."""
    if _PACKAGE in argv and file.name in argv:
        return True
    path = os.path.realpath(file)
    return any(os.path.realpath(word) == path for word in argv)


def check_launch_arguments(texts: Mapping[str, str], kinds: Mapping[str, type]) -> None:
    """Refuses arguments of a launch file that cannot be what they are for; launch's own refusals do not name them.

    Args:
        texts: Their values by name; an empty one was not given.
        kinds: The type of each: bool, int, float, or str, of which every one will do.

    Raises:
        ConfigError: With the argument and what is wanted.
    """
    for name, text in texts.items():
        if text and not _is_a(kinds[name], text):
            raise ConfigError(f"argument {name} is {printable(text[:200])!r}, but {_WANTED[kinds[name]]} is wanted")


def check_launch_names(texts: Mapping[str, str], kinds: Mapping[str, str]) -> None:
    """Refuses arguments of a launch file that cannot be the names that they are for, with what to write.

    Args:
        texts: Their values by name; an empty one was not given.
        kinds: Of each, as `topic_names.why_no_name` knows them.

    Raises:
        ConfigError: With the argument.
    """
    for name, text in texts.items():
        # launch makes a whole namespace of a relative one, and of one that ends in a slash
        wanted = f"/{text.removeprefix('/').removesuffix('/')}" if kinds[name] == "namespace" else text
        if text and (reason := topic_names.why_no_name(wanted, kinds[name])):
            raise ConfigError(f"argument {name} is {_quoted(text)}, {reason}")


def _is_a(kind: type, text: str) -> bool:
    if kind is bool:
        return text in ("0", "1") or _is_yaml_bool(text)
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _is_yaml_bool(text: str) -> bool:
    """Whether launch reads it as one: a word of YAML, `true`, `True` or `TRUE`, but not `tRUE`."""
    try:
        return isinstance(yaml.safe_load(text), bool)
    except yaml.YAMLError:
        return False


def seconds_of_argument(name: str, text: str) -> float:
    """Returns a duration given to a launch file, in seconds.

    Raises:
        ConfigError: If it is none.
    """
    check_launch_arguments({name: text}, {name: float})
    seconds = float(text or 0)
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"argument {name} is {text}, but a number of seconds, 0 or more, is wanted")
    return seconds


def file_of_argument(name: str, text: str) -> str:
    """Returns the path of a file given to a launch file, ~ expanded; launch itself goes on without one that is missing.

    Raises:
        ConfigError: If there is no such file.
    """
    path = expanded(text)
    if not path.is_file():
        raise ConfigError(f"argument {name} is {printable(text[:200])!r}: there is no such file")
    return str(path)

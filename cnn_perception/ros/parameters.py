"""Declares and reads ROS parameters from one frozen dataclass: its fields hold name, default, range and description."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import sys
import textwrap
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from cnn_perception.errors import LONGEST_MESSAGE, ConfigError, one_line
from cnn_perception.files import expanded
from cnn_perception.ros.given_parameters import given, nearest
from cnn_perception.ros.parameter_types import as_type, shown

T = TypeVar("T")

MOST_CHARACTERS = 4096
"""Of a text that anybody on the graph may set; Linux's longest path."""
MOST_TEXTS = 1000
"""Of a list of them."""
_HELP_WIDTH = 100
_MOST_SHOWN = 4
"""Of names in a refusal."""
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, which would forge lines of a log, and what no output can encode."""


class ParameterNode(Node):
    """A node whose parameters are set as people type them, and whose answers say what takes effect only later."""

    def __init__(self, node_name: str, **options: Any) -> None:  # noqa: ANN401 rclpy's
        """Makes the node.

        Raises:
            ConfigError: If a parameter of every node, such as use_sim_time, was given another type.
        """
        try:
            super().__init__(node_name, **options)
        except InvalidParameterTypeException as error:
            raise ConfigError(f"{one_line(error)}; write true or false, without quotes") from None

    def list_parameters(self, prefixes: list[str], depth: int) -> Any:  # noqa: ANN401 rclpy's, untyped
        """Returns the names, also while another thread declares some, at which rclpy's walk through them stumbles."""
        while True:
            try:
                return super().list_parameters(prefixes, depth)
            except RuntimeError as error:
                if "changed size" not in str(error):
                    raise

    def set_parameters_atomically(self, parameter_list: list[Parameter[Any]]) -> SetParametersResult:
        """Sets all of these parameters or none; both of rclpy's services call this.

        A whole number is taken for a float, refusals say what to write, and a success that changes nothing yet says
        from when on it does.
        """
        try:
            wanted = [self.as_declared(item) for item in parameter_list]
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        result = super().set_parameters_atomically(wanted)
        result.reason = result.reason[:LONGEST_MESSAGE]
        later = self.effect_to_come({item.name for item in wanted}) if result.successful else ""
        if later:
            result.reason = later
            self.get_logger().info(later)
        return result

    def effect_to_come(self, names: Collection[str]) -> str:
        """Returns which of these parameters, just set, take effect later or not at all; empty where all did at once."""
        return ""

    def as_declared(self, item: Parameter[Any]) -> Parameter[Any]:
        """Returns a parameter that is to be set in the type it was declared with.

        Raises:
            ConfigError: If there is no such parameter, it can be given at start only, or the value has another type.
        """
        if not self.has_parameter(item.name):
            known = nearest(item.name, self.list_parameters([], 0).names)
            raise ConfigError(f"there is no parameter {shown(item.name)}{known}")
        about = self.describe_parameter(item.name)
        if about.read_only:
            way = self._settable_instead(item.name) or "restart the node"
            raise ConfigError(f"parameter {item.name} is read-only: it can be given at start only; {way}")
        return as_type(item, Parameter.Type(about.type))

    def _settable_instead(self, name: str) -> str:
        """Returns which parameters of a prefix, such as those of one camera, this one was only the default of."""
        own = [other for other in self.list_parameters([], 0).names if other.endswith(f".{name}")]
        settable = [other for other in own if not self.describe_parameter(other).read_only]
        return f"set {' or '.join(settable[:_MOST_SHOWN])}" if settable else ""


def serve_in_group(node: Node, group: CallbackGroup) -> None:
    """Has all services that a node has so far, such as those of its parameters, served in another callback group."""
    for service in node.services:
        service.callback_group = group
        group.add_entity(service)


def parameter(
    default: object,
    description: str,
    *,
    between: tuple[float, float] | None = None,
    choices: Sequence[str] = (),
    is_path: bool = False,
    takes_number: bool = False,
    live: bool = False,
    read_only: bool = False,
) -> Any:  # noqa: ANN401 as dataclasses.field
    """Returns a dataclass field that `declare` turns into a ROS parameter.

    Args:
        default: Its default; a tuple becomes an array.
        description: What it does, one sentence.
        between: Smallest and largest value allowed.
        choices: Values allowed.
        is_path: Whether it is a path, in which a leading ~ stands for a home folder.
        takes_number: Whether a whole number is meant as its text, such as a device's; of a parameter given at start.
        live: Whether a change takes effect at once, rather than at the next configure.
        read_only: Whether it can be set at start only.
    """
    metadata = {
        "description": description,
        "between": between,
        "choices": choices,
        "is_path": is_path,
        "takes_number": takes_number,
        "live": live,
        "read_only": read_only,
    }
    return dataclasses.field(default=default, metadata=metadata)


def validate(record: Any) -> None:  # noqa: ANN401 any dataclass instance
    """Checks ranges, choices, texts and the home folders of paths; to be called from a record's `__post_init__`.

    Raises:
        ConfigError: Naming the parameter, its value and what is allowed.
    """
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        between = item.metadata["between"]
        choices = item.metadata["choices"]
        _check_texts(item.name, value)
        if between is not None and not (math.isfinite(value) and between[0] <= value <= between[1]):
            raise ConfigError(f"parameter {item.name} is {value}; choose {between[0]} to {between[1]}")
        if choices and value not in choices:
            raise ConfigError(f"parameter {item.name} is {shown(value)}; choose one of {', '.join(choices)}")
        if item.metadata["is_path"]:
            _check_home(item.name, value)


def _check_texts(name: str, value: object) -> None:
    """Refuses texts, alone or in a list, that are too long, too many or would break a line."""
    if isinstance(value, bool | int | float):
        return
    texts = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
    if len(texts) > MOST_TEXTS:
        raise ConfigError(f"parameter {name} has {len(texts)} values; at most {MOST_TEXTS} are taken")
    for text in texts:
        if len(text) > MOST_CHARACTERS:
            raise ConfigError(f"parameter {name} has {len(text)} characters; at most {MOST_CHARACTERS} are taken")
        if _NO_TEXT.search(text):
            raise ConfigError(f"parameter {name} is {shown(text)}, which has a control character; leave it out")


def _check_home(name: str, path: str) -> None:
    try:
        expanded(path)
    except ConfigError as error:
        raise ConfigError(f"parameter {name}: {error}") from None


def declare(
    node: Node, record: type, prefix: str = "", defaults: object = None, *, only_at_start: bool = False
) -> None:
    """Declares every field of a record class as a parameter of the node.

    Args:
        node: The node.
        record: The class.
        prefix: Put before every name, such as `front.`.
        defaults: A record of this class whose values are the defaults; None takes those of the fields.
        only_at_start: Whether all are read-only, whatever the fields say.

    Raises:
        ConfigError: If the value given at start has the wrong type or is out of range.
    """
    overrides = given(node)
    for item in dataclasses.fields(record):
        name = prefix + item.name
        default: Any = item.default if defaults is None else getattr(defaults, item.name)
        default = list(default) if isinstance(default, tuple) else default
        value = default
        if name in overrides:
            wanted = Parameter.Type.from_parameter_value(default)
            value = as_type(overrides[name], wanted, takes_number=item.metadata["takes_number"]).value
        try:
            node.declare_parameter(name, value, _descriptor(item, only_at_start), ignore_override=True)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(f"parameter {name}: {one_line(error)}") from None


def _descriptor(item: dataclasses.Field[Any], only_at_start: bool) -> ParameterDescriptor:
    about = item.metadata
    descriptor = ParameterDescriptor(description=about["description"], read_only=about["read_only"] or only_at_start)
    if about["choices"]:
        descriptor.additional_constraints = f"One of {', '.join(about['choices'])}."
    between = about["between"]
    if between is not None and isinstance(item.default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=between[0], to_value=between[1])]
    elif between is not None:
        descriptor.integer_range = [IntegerRange(from_value=between[0], to_value=between[1])]
    return descriptor


def help_of(name: str, about: str, *records: type, argv: Sequence[str] | None) -> str:
    """Returns what a node is and which parameters it takes, where its command line asks for help; else ''.

    Args:
        name: Of the program.
        about: Its docstring, of which the first paragraph is shown.
        records: What it declares.
        argv: Command line without the program's name; None takes the process's.
    """
    words = list(itertools.takewhile(lambda word: word != "--ros-args", sys.argv[1:] if argv is None else argv))
    if not {"-h", "--help"} & {*words}:
        return ""
    usage = f"usage: {name} --ros-args [-p NAME:=VALUE]... [--params-file FILE] [-r NAME:=OTHER_NAME]..."
    lines = [
        usage,
        "",
        *textwrap.wrap(about.strip().partition("\n\n")[0], _HELP_WIDTH),
        "",
        "parameters, and their defaults:",
    ]
    for item in (item for record in records for item in dataclasses.fields(record)):
        default = list(item.default) if isinstance(item.default, tuple) else item.default
        lines.append(f"  {item.name}: {str(default).lower() if isinstance(default, bool) else shown(default)}")
        indent = " " * 8
        text = item.metadata["description"]
        lines += textwrap.wrap(text, _HELP_WIDTH, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)


def redeclare(node: Node, name: str, value: Sequence[str], description: str) -> None:
    """Declares a list of texts that only the node itself decides, in place of what it was before.

    It is not read_only, which would forbid the next value; the node refuses everybody else's.
    """
    if node.has_parameter(name):
        node.undeclare_parameter(name)
    node.declare_parameter(name, list(value), ParameterDescriptor(description=description), ignore_override=True)


def read(node: Node, record: type[T], changed: Sequence[Parameter[Any]] = (), prefix: str = "") -> T:
    """Returns the parameters' values, with `changed` in place of those that are about to be set.

    Raises:
        ConfigError: If a value is out of range.
    """
    names = [item.name for item in dataclasses.fields(record)]  # type: ignore[arg-type]
    new = {item.name: item.value for item in changed}
    values = {name: new.get(prefix + name, node.get_parameter(prefix + name).value) for name in names}
    try:
        return record(**values)
    except ConfigError as error:
        raise ConfigError(f"{prefix}: {error}" if prefix else str(error)) from None


def with_live(current: T, wanted: T) -> T:
    """Returns `current` with the values of `wanted` for those parameters that take effect at once."""
    fields = dataclasses.fields(current)  # type: ignore[arg-type]
    live = {item.name: getattr(wanted, item.name) for item in fields if item.metadata["live"]}
    return dataclasses.replace(current, **live)  # type: ignore[type-var]


def to_come(node: Node, in_force: object, names: Collection[str], or_else: str = "", prefix: str = "") -> list[str]:
    """Returns a line for each of these parameters that has another value than the one in force.

    Args:
        node: The node.
        in_force: The record whose values it uses.
        names: Of parameters, of this record or not.
        or_else: When the value takes effect beside the next configure, such as ` or reload_model`.
        prefix: Of the record's parameters.
    """
    wanted = read(node, type(in_force), prefix=prefix)
    fields = [item.name for item in dataclasses.fields(in_force) if prefix + item.name in names]  # type: ignore[arg-type]
    when = f"takes effect at the next configure{or_else}"
    return [f"{prefix}{name} {when}" for name in fields if getattr(wanted, name) != getattr(in_force, name)]

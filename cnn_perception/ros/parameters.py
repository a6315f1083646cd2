"""Declares and reads ROS parameters from one frozen dataclass: its fields hold name, default, range and description."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from cnn_perception.errors import ConfigError, one_line
from cnn_perception.files import expanded

T = TypeVar("T")


def parameter(
    default: object,
    description: str,
    *,
    between: tuple[float, float] | None = None,
    choices: Sequence[str] = (),
    is_path: bool = False,
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
        live: Whether a change takes effect at once, rather than at the next configure.
        read_only: Whether it can be set at start only.
    """
    metadata = {
        "description": description,
        "between": between,
        "choices": choices,
        "is_path": is_path,
        "live": live,
        "read_only": read_only,
    }
    return dataclasses.field(default=default, metadata=metadata)


def validate(record: Any) -> None:  # noqa: ANN401 any dataclass instance
    """Checks ranges, choices and the home folders of paths; to be called from a record's `__post_init__`.

    Raises:
        ConfigError: Naming the parameter, its value and what is allowed.
    """
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        between = item.metadata["between"]
        choices = item.metadata["choices"]
        if between is not None and not (math.isfinite(value) and between[0] <= value <= between[1]):
            raise ConfigError(f"parameter {item.name} is {value}; choose {between[0]} to {between[1]}")
        if choices and value not in choices:
            raise ConfigError(f"parameter {item.name} is {value!r}; choose one of {', '.join(choices)}")
        if item.metadata["is_path"]:
            _check_home(item.name, value)


def _check_home(name: str, path: str) -> None:
    try:
        expanded(path)
    except ConfigError as error:
        raise ConfigError(f"parameter {name}: {error}") from None


def declare(node: Node, record: type, prefix: str = "", defaults: object = None) -> None:
    """Declares every field of a record class as a parameter of the node.

    Args:
        node: The node.
        record: The class.
        prefix: Put before every name, such as `front.`.
        defaults: A record of this class whose values are the defaults; None takes those of the fields.

    Raises:
        ConfigError: If the value given at start has the wrong type or is out of range.
    """
    for item in dataclasses.fields(record):
        about = item.metadata
        descriptor = ParameterDescriptor(description=about["description"], read_only=about["read_only"])
        if about["choices"]:
            descriptor.additional_constraints = f"One of {', '.join(about['choices'])}."
        between = about["between"]
        if between is not None and isinstance(item.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=between[0], to_value=between[1])]
        elif between is not None:
            descriptor.integer_range = [IntegerRange(from_value=between[0], to_value=between[1])]
        default = item.default if defaults is None else getattr(defaults, item.name)
        default = list(default) if isinstance(default, tuple) else default
        try:
            node.declare_parameter(prefix + item.name, default, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(f"parameter {prefix}{item.name}: {one_line(error)}") from None


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

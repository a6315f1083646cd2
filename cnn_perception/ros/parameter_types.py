"""Values of ROS parameters as people type them: taken where they say the same, else refused with what to write."""

from __future__ import annotations

import json
import math
from array import array
from typing import Any

from rclpy.parameter import Parameter

from cnn_perception.errors import ConfigError

Type = Parameter.Type
_SHOWN_CHARACTERS = 100
_BOOLEANS = {"true": "true", "1": "true", "false": "false", "0": "false"}
"""What is meant by a text or number that is none."""
_WANTED = {
    Type.BOOL: "true or false",
    Type.INTEGER: "a whole number",
    Type.DOUBLE: "a number",
    Type.STRING: "a text",
    Type.STRING_ARRAY: "a list of texts",
}


def shown(value: object) -> str:
    """Returns a value as a line may show it: in quotes where it is a text, and cut where it is long."""
    return _cut(repr(list(value) if isinstance(value, array) else value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def as_type(given: Parameter[Any], wanted: Parameter.Type, *, takes_number: bool = False) -> Parameter[Any]:
    """Returns a parameter as one of the wanted type: a whole number is taken for a float, nothing else is guessed.

    Args:
        given: As it came.
        wanted: The type.
        takes_number: Whether a whole number is taken for a text. It is not where a text may be any name: YAML reads 010
            as 8.

    Raises:
        ConfigError: If it is of another type; the line says what to write.
    """
    if given.type_ == wanted:
        return given
    if given.type_ == Type.INTEGER and wanted == Type.DOUBLE:
        return Parameter(given.name, Type.DOUBLE, float(given.value))
    if takes_number and given.type_ == Type.INTEGER and wanted == Type.STRING:
        return Parameter(given.name, Type.STRING, str(given.value))
    # An empty list comes without a value at start, and as one of bools from `ros2 param set`.
    if given.type_ == Type.NOT_SET or (isinstance(given.value, list | array) and not given.value):
        raise ConfigError(
            f"parameter {given.name} has no value, or an empty list, which ROS cannot tell from none; leave it out, "
            "none can be deleted"
        )
    told = f"parameter {given.name} is {shown(given.value)}, but {_WANTED.get(wanted, wanted.name)} is wanted"
    raise ConfigError(told + _advice(given.name, given.value, wanted))


def _advice(name: str, value: object, wanted: Parameter.Type) -> str:
    """Returns what to write for a value of the wrong type; empty where that cannot be known."""
    if wanted == Type.STRING and isinstance(value, int | float):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f'; write it in quotes: "{text}" in a YAML file, {name}:=\'"{text}"\' on a command line'
    if wanted == Type.STRING_ARRAY:
        items = value if isinstance(value, list | array) else [value]
        return f"; write {_cut(json.dumps([str(item) for item in items]))}"
    if wanted == Type.BOOL:
        meant = _BOOLEANS.get(str(value).lower())
        return f"; write {meant}, without quotes" if meant else ""
    number = _number(value)
    if wanted == Type.DOUBLE and number is not None:
        return f"; write {number}"
    if wanted == Type.INTEGER and number is not None:
        return f"; write {round(number)}"
    return ""


def _number(value: object) -> float | None:
    """Returns the finite number that a value is meant to be; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or len(str(value)) > _SHOWN_CHARACTERS:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None

"""Reads JSON as dataclasses, strictly: it comes from a file that anybody may have written."""

from __future__ import annotations

import dataclasses
import json
import reprlib
import types
import typing
from typing import Any, Literal

from cnn_perception.errors import ModelError

LARGEST_NUMBER = 3.4e38
"""Of a description, in magnitude: what float32 holds, in which the network computes."""
LARGEST_WHOLE_NUMBER = 2**63 - 1
"""Of a description, in magnitude: what the messages' integers hold."""


def read_json(text: str) -> Any:  # noqa: ANN401 JSON
    """Returns the value of a JSON text.

    Raises:
        ValueError: If it is none: NaN and infinity are none, nor are fields given twice or lists too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_repetition)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object; of a field given twice, nobody could say which one was meant."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in fields if names.count(name) > 1)
        raise ValueError(f"{reprlib.repr(twice)} occurs twice")
    return fields


def _can_be_sent(value: int | str) -> bool:
    """Returns whether messages can carry a value: 64 bits; no half of a surrogate pair, and no NUL, the end in C."""
    if isinstance(value, int):
        return abs(value) <= LARGEST_WHOLE_NUMBER
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def parsed(expected: Any, value: Any, where: str) -> Any:  # noqa: ANN401 JSON meets type annotations
    """Returns a JSON value as what a type annotation says, records included; strict in both directions.

    Raises:
        ModelError: If a field is missing, unknown, of the wrong type or out of range; names it after `where`.
    """
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        hints = typing.get_type_hints(expected)
        if not isinstance(value, dict) or value.keys() != hints.keys():
            found = set(value) if isinstance(value, dict) else set()
            missing, unknown = sorted(hints.keys() - found), sorted(found - hints.keys())
            raise ModelError(
                f"model {where}: missing fields {missing}, unknown fields {unknown}; export the model again"
            )
        fields = {name: parsed(hint, value[name], f"{where}.{name}") for name, hint in hints.items()}
        return expected(**fields)
    origin = typing.get_origin(expected)
    arguments = typing.get_args(expected)
    if origin is types.UnionType or origin is typing.Union:
        if value is None:
            return None
        return parsed(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple and isinstance(value, list):
        types_of_items = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(types_of_items) == len(value):
            indices = range(len(value))
            return tuple(parsed(types_of_items[index], value[index], f"{where}[{index}]") for index in indices)
    elif origin is dict and isinstance(value, dict):
        keys = [parsed(arguments[0], key, where) for key in value]
        return {key: parsed(arguments[1], value[key], f"{where}.{key}") for key in keys}
    elif origin is Literal and value in arguments:
        return value
    elif expected is float and type(value) in (int, float) and abs(value) <= LARGEST_NUMBER:
        return float(value)
    elif expected in (int, str) and type(value) is expected and _can_be_sent(value):
        return value
    raise ModelError(f"model {where}: {reprlib.repr(value)} is not a valid value; export the model again")

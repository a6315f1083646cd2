"""Parameters of the nodes, from the records that declare them."""

from __future__ import annotations

import dataclasses
from typing import Any

from extensions.imports import named
from extensions.markdown import code, terms, text

TYPES = {"str": "text", "bool": "true or false", "int": "whole number", "float": "number", "Sequence[str]": "texts"}


def of_record(path: str) -> str:
    """Returns every parameter of a record: type, default, range, when a change takes effect, and what it does."""
    return terms(map(_entry, dataclasses.fields(named(path))))


def fields(path: str) -> dict[str, dataclasses.Field[Any]]:
    """Returns what a record says of its parameters, by name."""
    return {field.name: field for field in dataclasses.fields(named(path))}


def _entry(field: dataclasses.Field[Any]) -> tuple[str, list[str], str]:
    about = field.metadata
    facts = [TYPES[str(field.type)], f"default {code(_shown(field.default))}", _allowed(about), _when(about)]
    return code(field.name), facts, text(about["description"])


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if value == "" else str(value)


def _allowed(about: Any) -> str:  # noqa: ANN401 metadata
    if about["choices"]:
        return " or ".join(map(code, about["choices"]))
    return "{:g} to {:g}".format(*about["between"]) if about["between"] else ""


def _when(about: Any) -> str:  # noqa: ANN401 metadata
    if about["read_only"]:
        return "at start only"
    return "live" if about["live"] else "at the next configure"

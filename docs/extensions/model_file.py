"""The records of a model file's description, and the exit codes of all commands."""

from __future__ import annotations

import dataclasses
import inspect
import re

from cnn_perception import errors
from extensions.imports import named
from extensions.markdown import code, table, terms, text

_ATTRIBUTES = re.compile(r"Attributes:\n((?:    .*\n?|\n)+)")
_ATTRIBUTE = re.compile(r"^(\w+): (.*(?:\n  .*)*)", re.MULTILINE)


def record(path: str) -> str:
    """Returns a record: what it is, and each of its fields with type and meaning.

    Raises:
        ValueError: If a field is not described.
    """
    kind = named(path)
    whole = inspect.getdoc(kind) or ""
    head, found = whole.partition("Attributes:")[0], _ATTRIBUTES.search(whole + "\n")
    meanings = dict(_ATTRIBUTE.findall(inspect.cleandoc(found[1]))) if found else {}
    fields = dataclasses.fields(kind)
    if missing := [field.name for field in fields if field.name not in meanings and found]:
        raise ValueError(f"{path} describes no {', '.join(missing)}")
    entries = [
        (code(field.name), [code(field.type)], text(meanings.get(field.name, "As it says."))) for field in fields
    ]
    return "\n\n".join([*map(text, head.strip().split("\n\n")), terms(entries)])


def exit_codes() -> str:
    """Returns the exit codes with what each means."""
    meanings = [(number, f"{said[0].upper()}{said[1:]}.") for number, said in errors.EXIT_CODES.items()]
    return table(("code", "meaning"), [(code(number), text(said)) for number, said in meanings])

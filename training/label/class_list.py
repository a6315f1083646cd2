"""The classes that may be chosen: those of `classes.txt`, then those that the table names besides, in a fixed order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from cnn_perception.errors import DataError
from cnn_perception.label_text import NONE_OF_THESE
from training.data import names
from training.data_set.columns import CLASSES_FILE
from training.label.storage.saving import save

_SEPARATORS = re.compile("[;|]")
"""What stands between the classes of one image."""


def listed(table: Path) -> list[str]:
    """Returns the classes that the file beside a table names; none without that file.

    Raises:
        DataError: If it cannot be read, or names a class that cannot be one.
    """
    file = table.parent / CLASSES_FILE
    if not file.exists():
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"{file}: cannot be read ({reason}); write one class a line, in UTF-8") from None
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if NONE_OF_THESE in found:
        raise DataError(f"{file}: {NONE_OF_THESE!r} is what an image of no class is labelled; remove it or rename it")
    names.require_storable(found, str(file))
    return found


def together(classes: Iterable[str], used: Iterable[str]) -> tuple[str, ...]:
    """Returns the classes in their order, then those that are used besides, sorted."""
    first = list(classes)
    others = sorted(set(used).difference(first, {"", NONE_OF_THESE}))
    return (*first, *others)


def with_new(classes: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Returns the classes with a further one at their end.

    Raises:
        DataError: If people or tables would take it for another one, or cannot read it.
    """
    name = name.strip()
    names.require_storable([name], "the new class")
    if problem := names.odd([name]):
        raise DataError(problem[0].replace("before training if that is not meant", "and try again"))
    if _SEPARATORS.search(name):
        raise DataError(f"{name!r} holds ';' or '|', which stand between classes; name it without")
    for known in (*classes, NONE_OF_THESE):
        if names.alike([known, name]) or known == name:
            raise DataError(f"{name!r} and {known!r}, which is there, look alike; take that one, or another name")
    return (*classes, name)


def write(table: Path, classes: Iterable[str]) -> None:
    """Writes the file beside a table.

    Raises:
        NotSavedError: If it cannot be written.
    """
    save(table.parent / CLASSES_FILE, "".join(f"{name}\n" for name in classes).encode())

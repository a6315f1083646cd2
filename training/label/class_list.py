"""The classes that may be chosen: those of `classes.txt`, then those that the table names besides, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cnn_perception.errors import DataError
from cnn_perception.label_text import NONE_OF_THESE
from training.data import names
from training.data_set import classes
from training.data_set.columns import CLASSES_FILE
from training.label.storage.saving import save


def listed(table: Path) -> list[str]:
    """Returns the classes that the file beside a table names; none without that file.

    Raises:
        DataError: If it cannot be read, or names a class that cannot be one.
    """
    found = list(classes.read(table.parent))
    names.require_storable(found, str(table.parent / CLASSES_FILE))
    return found


def together(chosen: Iterable[str], used: Iterable[str]) -> tuple[str, ...]:
    """Returns the classes in their order, then those that are used besides, sorted."""
    first = list(chosen)
    others = sorted(set(used).difference(first, {"", NONE_OF_THESE}))
    return (*first, *others)


def with_new(known: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Returns the classes with a further one at their end.

    Raises:
        DataError: If people or tables would take it for another one, or cannot read it.
    """
    name = name.strip()
    names.require_storable([name], "the new class")
    if problem := names.odd([name]):
        raise DataError(problem[0].replace("before training if that is not meant", "and try again"))
    classes.require_separable([name], "the new class")
    for other in known:
        if names.alike([other, name]) or other == name:
            raise DataError(f"{name!r} and {other!r}, which is there, look alike; take that one, or another name")
    return (*known, name)


def write(table: Path, chosen: Sequence[str]) -> None:
    """Writes the file beside a table.

    Raises:
        NotSavedError: If it cannot be written.
        DataError: If a name cannot be a line.
    """
    save(table.parent / CLASSES_FILE, classes.content(table.parent, chosen))

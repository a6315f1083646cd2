"""What the values of a folder's masks stand for: its file classes.csv, or classes.txt.

It is one of:

- a table `name,r,g,b`: the colour of each concept, 0 to 255;
- a table `index,name`: the value of its pixels, as in grey PNGs and in those with a palette;
- a list of names, one a line: the first has the index 0.

A column `class` may say as which of a model's classes a concept counts, where it is called otherwise: `road,...,
clear_road`. Two kinds of names are no concepts: `background` (or `_background_`) is where none of the concepts is, and
`void` (or `ignore`, `__ignore__`, `unlabelled`, `unlabeled`) is what nothing is known of. Unless the table names them,
index 0 and black are background, and index 255 is void.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cnn_perception.errors import DataError
from cnn_perception.label_table import Row, Table, read_table

BACKGROUND = -1
"""Label of pixels that show none of the concepts."""
VOID = -2
"""Label of pixels of which nothing is known."""
TABLES = ("classes.csv", "classes.txt")
"""What the table is called; the first that is there counts."""
_NO_CONCEPTS = {
    **dict.fromkeys(("background", "_background_"), BACKGROUND),
    **dict.fromkeys(("void", "ignore", "__ignore__", "unlabelled", "unlabeled"), VOID),
}
_COLUMNS = {
    "name": "name", "class_name": "name", "label": "name", "r": "r", "red": "r", "g": "g", "green": "g", "b": "b",
    "blue": "b", "index": "index", "id": "index", "value": "index", "class": "class", "class_id": "index",
}  # fmt: skip
"""How columns may be called, in lower case."""
_MOST_INDEX = 2**16 - 1
_CURE = "write name,r,g,b or index,name as its first line, or one name a line"


@dataclass(frozen=True)
class ClassTable:
    """What pixels of masks stand for.

    Attributes:
        concepts: Names of the K concepts, in the order of the table.
        class_names: As which of a model's classes each counts; by default its own name.
        background_class: As which class the background counts; empty where the table does not say.
        is_colour: Whether `values` are colours, r * 65536 + g * 256 + b, and not indices.
        values: Every known value, ascending.
        labels: What each of them stands for: the position of its concept, `BACKGROUND` or `VOID`.
    """

    concepts: tuple[str, ...]
    class_names: tuple[str, ...]
    background_class: str
    is_colour: bool
    values: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class _Entry:
    name: str
    value: int
    class_name: str
    place: str


def read_class_table(folder: Path) -> ClassTable:
    """Returns the class table of a folder of masks.

    Raises:
        DataError: If there is none, or it cannot be used; names the line.
    """
    file = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if file is None:
        raise DataError(f"{folder}: has no {TABLES[0]}, which says what the masks' values stand for; write name,r,g,b")
    table = _named(read_table(file, _CURE))
    is_colour = {"name", "r", "g", "b"} <= set(table.header)
    if is_colour:
        entries = [_entry(row, _colour(row)) for row in table.rows]
    elif {"name", "index"} <= set(table.header):
        entries = [_entry(row, _whole(row, "index", _MOST_INDEX)) for row in table.rows]
    elif "name" in table.header and len(table.header) == 1:
        entries = [_entry(row, index) for index, row in enumerate(table.rows)]
    else:
        raise DataError(f"{file}, line 1: {','.join(table.header)[:80]!r} names no columns of masks; {_CURE}")
    _require_different(entries)
    return _table(entries, is_colour, file)


def _named(table: Table) -> Table:
    """Returns the table with its columns called as here; of a list of names the first line is one, too."""
    renamed = {name: _COLUMNS.get(name.casefold(), name) for name in table.header}
    if "name" not in renamed.values():
        renamed = {old: "name" if new == "class" else new for old, new in renamed.items()}
    if len(table.header) == 1 and renamed[table.header[0]] != "name":
        first = Row(table.file, 1, {"name": table.header[0]})
        others = (replace(row, cells={"name": row.cells[table.header[0]]}) for row in table.rows)
        return Table(table.file, ("name",), (first, *others))
    for old, new in renamed.items():
        if Counter(renamed.values())[new] == 1:
            table = table.renamed(old, new)
    return table


def _entry(row: Row, value: int) -> _Entry:
    name = row.cells["name"]
    if not name:
        raise row.wrong("name", "is empty; name what the value stands for")
    return _Entry(name, value, row.cells.get("class", ""), row.place)


def _colour(row: Row) -> int:
    red, green, blue = (_whole(row, column, 255) for column in "rgb")
    return red << 16 | green << 8 | blue


def _whole(row: Row, column: str, most: int) -> int:
    text = row.cells[column]
    if not (text.isdecimal() and text.isascii() and len(text) < 7 and int(text) <= most):
        raise row.wrong(column, f"{text!r} is no whole number from 0 to {most}; mend it")
    return int(text)


def _require_different(entries: Sequence[_Entry]) -> None:
    names: set[str] = set()
    values: set[int] = set()
    for entry in entries:
        if entry.value in values:
            raise DataError(f"{entry.place}: {entry.name!r} has the value of a line before; give each its own")
        if entry.name in names and entry.name.casefold() not in _NO_CONCEPTS:
            raise DataError(f"{entry.place}: {entry.name!r} is there twice; give each name once")
        values.add(entry.value)
        names.add(entry.name)


def _table(entries: Sequence[_Entry], is_colour: bool, file: Path) -> ClassTable:
    concepts = [entry for entry in entries if entry.name.casefold() not in _NO_CONCEPTS]
    if not concepts:
        raise DataError(f"{file}: names no concept; {_CURE}")
    known = {0: BACKGROUND} if is_colour else {0: BACKGROUND, 255: VOID}
    known |= {entry.value: _NO_CONCEPTS[entry.name.casefold()] for entry in entries if entry not in concepts}
    known |= {entry.value: place for place, entry in enumerate(concepts)}
    background = [e.class_name for e in entries if _NO_CONCEPTS.get(e.name.casefold()) == BACKGROUND and e.class_name]
    return ClassTable(
        concepts=tuple(entry.name for entry in concepts),
        class_names=tuple(entry.class_name or entry.name for entry in concepts),
        background_class=background[0] if background else "",
        is_colour=is_colour,
        values=tuple(sorted(known)),
        labels=tuple(known[value] for value in sorted(known)),
    )

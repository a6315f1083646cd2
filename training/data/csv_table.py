"""A data set as a CSV file: an image and what it shows, a row each.

Columns: `path`, relative to the file; then `class`, or `classes` (separated by ; or |), or a column of 0 and 1 for
each class, or columns of numbers. Optional: `part` or `split` (train, val, test) and `group` or `bag` (what an image
was recorded with). The rows are taken to be in the order of recording.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.label_table import Row, read_table
from cnn_perception.model.spec import Task
from training.data.records import PARTS, Listing, Part, Sample

TaskChoice = Literal["auto", "multiclass", "multilabel", "regression"]
RESERVED = ("path", "class", "classes", "part", "split", "group", "bag")


def read(file: Path, task: TaskChoice, targets: Sequence[str]) -> Listing:
    """Lists the images of a CSV file.

    Args:
        file: In UTF-8, with a header.
        task: What is to be learned; `auto` tells it from the columns.
        targets: For regression, the columns of numbers, each `name` or `name:unit`.

    Returns:
        Every image in the order of the rows; no image is opened. Numbers are in their units.

    Raises:
        ConfigError: If task and targets contradict each other or the columns.
        DataError: If the file or a cell cannot be used; it names line and column.
    """
    table = read_table(file, "mend --data")
    header = table.header
    rows = table.rows
    _check_header(file, header)
    if not rows:
        raise DataError(f"{file}: holds no rows; expected a header and an image a line")
    chosen = _task(file, task, targets, header)
    units: tuple[str, ...] = ()
    if chosen == "multiclass":
        names = tuple(sorted({_one_class(row) for row in rows}))
    elif chosen == "multilabel" and "classes" in header:
        names = tuple(sorted({name for row in rows for name in _several(row)}))
    elif chosen == "multilabel":
        names = tuple(name for name in header if name not in RESERVED)
    else:
        names, units = _targets(targets)
    place = {name: index for index, name in enumerate(names)}
    of_task: dict[Task, Callable[[Row], tuple[int, tuple[float, ...]]]] = {
        "multiclass": lambda row: (place[_one_class(row)], ()),
        "multilabel": lambda row: _present(row, names, "classes" in header),
        "regression": lambda row: (0, tuple(_number(row, name) for name in names)),
    }
    samples, lines = [], dict[Path, int]()
    for row in rows:
        label, values = of_task[chosen](row)
        samples.append(Sample(_image(row, lines), label, _part(row), values, _group(row)))
    parts = frozenset(sample.part for sample in samples)
    _check(file, chosen, names, samples, parts)
    return Listing(file, chosen, names, units, tuple(samples), parts, in_time=True, ignored={})


def _check_header(file: Path, header: Sequence[str]) -> None:
    if "path" not in header:
        raise DataError(f"{file}, line 1: no column 'path' among {list(header)}; name the columns, separated by commas")
    if twice := [name for name in header if header.count(name) > 1]:
        raise DataError(f"{file}, line 1: column {twice[0]!r} occurs twice; rename one")
    if "" in header:
        raise DataError(f"{file}, line 1: column {header.index('') + 1} has no name; name or remove it")
    for one, other in (("part", "split"), ("group", "bag"), ("class", "classes")):
        if one in header and other in header:
            raise DataError(f"{file}, line 1: columns {one!r} and {other!r} mean the same; remove one")


def _task(file: Path, task: TaskChoice, targets: Sequence[str], header: Sequence[str]) -> Task:
    """Tells what is to be learned from the columns, and that the user's wish fits them."""
    if targets and task not in ("auto", "regression"):
        raise ConfigError(f"--targets: names numbers, but --task is {task}; leave one of them out")
    if targets or task == "regression":
        names, _ = _targets(targets)
        if missing := [name for name in names if name not in header]:
            raise ConfigError(f"--targets: {file} has no column {missing[0]!r}; it has {', '.join(header)}")
        return "regression"
    if "class" in header and task in ("auto", "multiclass"):
        return "multiclass"
    if "classes" in header and task in ("auto", "multilabel"):
        return "multilabel"
    if task == "multilabel" and "class" not in header and set(header) - set(RESERVED):
        return "multilabel"
    wanted = {"auto": "'class' or 'classes'", "multiclass": "'class'", "multilabel": "'classes'"}[task]
    raise ConfigError(
        f"--task {task}: {file} has no column {wanted}; add it, or say what to learn by --targets or --task multilabel"
    )


def _targets(targets: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    pairs = [target.partition(":")[::2] for target in targets]
    names, units = tuple(name.strip() for name, _ in pairs), tuple(unit.strip() for _, unit in pairs)
    if not names:
        raise ConfigError("--task regression: needs --targets, the columns to learn, such as angle:rad,throttle")
    if not all(names) or len(set(names)) < len(names) or set(names) & set(RESERVED):
        raise ConfigError(f"--targets: {','.join(targets)} has an empty, reserved or repeated name; mend it")
    return names, units


def _one_class(row: Row) -> str:
    if not row.cells["class"]:
        raise row.wrong("class", "is empty; name the class or remove the row")
    return row.cells["class"]


def _several(row: Row) -> list[str]:
    """The classes of a row; an empty cell means that none of them is in the image."""
    if not row.cells["classes"]:
        return []
    names = [name.strip() for name in re.split("[;|]", row.cells["classes"])]
    if not all(names):
        raise row.wrong("classes", f"{row.cells['classes']!r} holds an empty class; mend it")
    return names


def _present(row: Row, names: tuple[str, ...], listed: bool) -> tuple[int, tuple[float, ...]]:
    if listed:
        present = set(_several(row))
        values = tuple(float(name in present) for name in names)
    else:
        for name in names:
            if row.cells[name] not in ("0", "1"):
                raise row.wrong(name, f"{row.cells[name]!r} is neither 0 nor 1; mend it")
        values = tuple(float(row.cells[name]) for name in names)
    return (values.index(1.0) if any(values) else 0), values


def _number(row: Row, name: str) -> float:
    try:
        value = float(row.cells[name])
    except ValueError:
        raise row.wrong(name, f"{row.cells[name]!r} is not a number; mend it or remove the row") from None
    if not math.isfinite(value):
        raise row.wrong(name, f"{row.cells[name]!r} is not finite; mend it or remove the row")
    return value


def _image(row: Row, lines: dict[Path, int]) -> Path:
    if not row.cells["path"]:
        raise row.wrong("path", "is empty; name the image or remove the row")
    path = row.file.parent / row.cells["path"]
    try:
        if not path.is_file():
            raise row.wrong("path", f"{path} is no file; paths are relative to the folder of the CSV file")
        real = path.resolve()
    except (OSError, ValueError) as error:
        raise row.wrong("path", f"{row.cells['path'][:80]!r} cannot be a file ({error}); mend it") from None
    if (before := lines.setdefault(real, row.line)) != row.line:
        raise row.wrong("path", f"{row.cells['path']!r} is the image of line {before} already; remove one")
    return path


def _part(row: Row) -> Part:
    column = "split" if "split" in row.cells else "part"
    value = row.cells.get(column, "train")
    for part in PARTS:
        if value == part:
            return part
    raise row.wrong(column, f"{value!r} is none of {', '.join(PARTS)}; mend it")


def _group(row: Row) -> str:
    return row.cells.get("group", row.cells.get("bag", ""))


def _check(file: Path, task: Task, names: tuple[str, ...], samples: list[Sample], parts: frozenset[Part]) -> None:
    if "train" not in parts:
        raise DataError(f"{file}: no row is of the part train; add some")
    if not names:
        raise DataError(f"{file}: no image shows any class; name some in the column 'classes'")
    if task != "multiclass":
        return
    if len(names) < 2:
        raise DataError(f"{file}: one class only ({names[0]!r}); at least 2 are needed")
    for part in sorted(parts):
        shown = {sample.label for sample in samples if sample.part == part}
        if lacking := [name for label, name in enumerate(names) if label not in shown]:
            raise DataError(f"{file}: class {lacking[0]!r} has no image in {part}; every part needs every class")

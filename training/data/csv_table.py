"""A data set as a CSV file: an image and what it shows, a row each.

Columns: `path`, relative to the file; then `class`, or `classes` (separated by ; or |, or as a list), or a column of 0
and 1 for each class, or columns of numbers. Optional: `part` or `split` (train, val, test) or flags such as `is_valid`,
`group` or `bag` (what an image was recorded with), and `state` (labelled, skipped or nothing, see `data_set.columns`).
The rows are taken to be in the order of recording. Rows that nobody has labelled yet are left out and counted: by their
state; where nobody wrote one, by an empty label. A `class` of `NONE_OF_THESE` is an image of no class, which is never
trained on.
"""

from __future__ import annotations

import dataclasses
import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cnn_perception.errors import DataError
from cnn_perception.image.file_formats import has_picture_suffix
from cnn_perception.image.listing import visible_folders
from cnn_perception.label_table import STATES, ListedFiles, Row, Table, are_states, read_table, states_of
from cnn_perception.label_text import NONE_OF_THESE
from training.data import image_folder
from training.data.names import part_of
from training.data.records import PARTS, Listing, Part, Sample, Source
from training.data_set import columns
from training.tasks.by_name import TASKS, task_of
from training.tasks.choices import TaskChoice
from training.tasks.table import RESERVED, LabelledTable
from training.tasks.task import LearningTask

_OTHER_SPLITS = frozenset({"part", "split", "set", "subset", "dataset", "phase", "partition", "usage", "datasplit"})
"""What other tools call the column of the parts, in lower case without blanks and underscores."""
_FOLDS = frozenset({"fold", "folds", "kfold", "k_fold"})
"""What other tools call a column that divides the images for a cross-validation, in lower case."""
_ABOUT = (
    columns.STATE, columns.TOPIC, columns.CAMERA, columns.STAMP, columns.GUESS, columns.DOUBT, columns.REASON,
    columns.CLUSTER, columns.MODEL, columns.WAS,
)  # fmt: skip
"""Columns of a data set that is being labelled which hold no label."""


def read(file: Path, task: TaskChoice, targets: Sequence[str]) -> Listing:
    """Lists the images of a CSV file; other tools' names of its columns are understood where they leave no doubt.

    Args:
        file: In UTF-8, with a header.
        task: What is to be learned; `auto` tells it from the columns.
        targets: For regression, the columns of numbers, each `name` or `name:unit`.

    Returns:
        Every labelled image in the order of the rows, perhaps none; no image is opened. Numbers are in their units.

    Raises:
        ConfigError: If task and targets contradict each other or the columns.
        DataError: If the file or a cell cannot be used; it names line and column.
    """
    written = read_table(file, "mend --data")
    flags = _flags_of_parts(written, targets)
    told = _with_flagged_parts(written, flags) if flags else written
    named = _with_our_columns(told, task, targets)
    _check_header(file, named.header)
    found = named.without(_empty(named, {"part", "split"}))
    if not found.rows:
        raise DataError(f"{file}: holds no rows; expected a header and an image a line")
    has_state = _has_state(found, targets)
    header = [name for name in found.header if not (has_state and name in _ABOUT and name not in _names(targets))]
    table = LabelledTable(file, header, found.rows, targets)
    chosen = _task(table, task)
    rows = _labelled(table, chosen, has_state)
    known = [row for row in rows if not _is_outside(row, chosen)]
    labels = chosen.labels(LabelledTable(file, header, known, targets))
    samples = []
    files = ListedFiles((file.parent,))
    for row in rows:
        label, values = (len(labels.names), ()) if _is_outside(row, chosen) else labels.of(row)
        samples.append(Sample(_image(row, files), label, _part(row), values, _group(row)))
    source = Source(
        file,
        frozenset(sample.part for sample in samples) or frozenset({"train"}),
        base=file.parent,
        has_parts=bool({"part", "split"}.intersection(header)),
        rows=len(found.rows),
        unlabelled=len(found.rows) - len(rows),
        none_of_these=len(rows) - len(known),
        is_open=bool({"class", "classes"}.intersection(header)),
    )
    taken = (f"{there} is taken for {here}" for there, here in files.moved.items())
    return Listing(
        (source,),
        chosen.name,
        labels.names,
        labels.units,
        tuple(samples),
        in_time=True,
        ignored={},
        notes=(
            *_renamings(told, named),
            *_of_parts(named, flags),
            *taken,
            *(_without_state(table, rows) if has_state else ()),
        ),
    )


def _has_state(table: Table, targets: Sequence[str]) -> bool:
    """Whether the column `state` says what is labelled; one of other words, such as names of states, says nothing."""
    if columns.STATE not in table.header or columns.STATE in _names(targets):
        return False
    return are_states(row.cells[columns.STATE] for row in table.rows)


def _names(targets: Sequence[str]) -> list[str]:
    return [target.partition(":")[0].strip() for target in targets]


def _labelled(table: LabelledTable, task: LearningTask, has_state: bool) -> list[Row]:
    """Returns the rows that somebody has labelled, see `data_set.table.states_of`.

    An empty label of several classes is one too, unless the column of the states says that rows wait for a label.
    """
    if not has_state and not task.one_class:
        return list(table.rows)
    for row in table.rows if has_state else ():
        _require_state(row)
    other = () if has_state else (columns.STATE,)  # of that name, and about something else
    cells = [{name: text for name, text in row.cells.items() if name not in other} for row in table.rows]
    states = states_of(cells, _label_columns(table))
    return [row for row, state in zip(table.rows, states, strict=True) if state == "labelled"]


def _without_state(table: LabelledTable, labelled: Sequence[Row]) -> list[str]:
    """Says which rows are left out although a label is written in them, as by hand in a spreadsheet."""
    labels = _label_columns(table)
    waiting = [row for row in table.rows if not row.cells[columns.STATE] and any(row.cells[name] for name in labels)]
    left = {row.line for row in waiting} - {row.line for row in labelled}
    if not left:
        return []
    return [
        f"{len(left)} rows have a label, but nothing in the column {columns.STATE!r}, first in line {min(left)}: they "
        "are left out; write 'labelled' there if they are decided"
    ]


def _label_columns(table: LabelledTable) -> set[str]:
    header = {*table.header}
    return header.intersection(_names(table.targets) or {"class", "classes"}) or header - {*RESERVED}


def _require_state(row: Row) -> None:
    state = row.cells[columns.STATE]
    if state not in STATES:
        raise row.wrong(columns.STATE, f"{state!r} is none of {', '.join(filter(None, STATES))}, or nothing; mend it")


def _is_outside(row: Row, task: LearningTask) -> bool:
    return task.one_class and row.cells.get("class") == NONE_OF_THESE


def _with_our_columns(table: Table, task: TaskChoice, targets: Sequence[str]) -> Table:
    """Returns a table whose columns have our names, where other tools' names leave no doubt."""
    found = table.naming("path")
    if task in ("auto", image_folder.TASK) and not targets and not {"class", "classes"}.intersection(table.header):
        found = found.naming("class")
    found = _with_groups(found)
    if {"part", "split"}.intersection(table.header):
        return found
    others = [name for name in table.header if _is_split(name)]
    meant = [name for name in others if _names_parts(row.cells[name] for row in table.rows)]
    return found.renamed(meant[0], "split") if len(meant) == 1 else found


def _names_parts(cells: Iterable[str]) -> bool:
    """Whether a column says the parts: all its cells that are filled name one, or most of them one of several."""
    found = [part_of(cell) for cell in cells if cell]
    named = [part for part in found if part is not None]
    return bool(named) and (len(named) == len(found) or (len({*named}) > 1 and 2 * len(named) > len(found)))


def _with_groups(table: Table) -> Table:
    """Returns a table of classes whose column of groups is written as ours is: in another one it may be a class."""
    if not {"class", "classes"}.intersection(table.header) or {"group", "bag"}.intersection(table.header):
        return table
    meant = [name for name in table.header if name.casefold() in ("group", "bag")]
    return table.renamed(meant[0], meant[0].casefold()) if len(meant) == 1 else table


def _flags_of_parts(table: Table, targets: Sequence[str]) -> dict[str, Part]:
    """Returns which columns flag the images of a part, as fastai's `is_valid` does, where none names the parts."""
    if {"part", "split"}.intersection(table.header):
        return {}
    named = {name: part_of(name[2:]) for name in table.header if name.casefold().startswith("is")}
    return {name: part for name, part in named.items() if part is not None and name not in _names(targets)}


def _with_flagged_parts(table: Table, flags: Mapping[str, Part]) -> Table:
    """Returns a table with a column `part` in place of the flags."""
    left = table.without(flags)
    parts = [_flagged_part(row, flags) for row in table.rows]
    rows = (
        dataclasses.replace(row, cells={**row.cells, "part": part}) for row, part in zip(left.rows, parts, strict=True)
    )
    return Table(table.file, (*left.header, "part"), tuple(rows))


def _flagged_part(row: Row, flags: Mapping[str, Part]) -> Part:
    found = [name for name in flags if row.flag(name)]
    if len(found) > 1:
        raise row.wrong(found[1], f"is said beside {found[0]!r}; an image belongs to one part")
    return flags[found[0]] if found else "val" if {*flags.values()} == {"train"} else "train"


def _of_parts(table: Table, flags: Mapping[str, Part]) -> list[str]:
    """Says which columns are taken for the parts, and which are not, though other tools do."""
    if flags:
        return [f"the column {name!r} is taken for the images of {part}" for name, part in flags.items()]
    if {"part", "split"}.intersection(table.header):
        return []
    return [
        f"the column {name!r} is not used; write train or val into a column 'part' to hold images out by it"
        for name in table.header
        if name.casefold() in _FOLDS or (_is_split(name) and any(part_of(row.cells[name]) for row in table.rows))
    ]


def _is_split(name: str) -> bool:
    """Whether other tools call the column of the parts so."""
    return re.sub(r"[\s_-]+", "", name).casefold() in _OTHER_SPLITS


def _empty(table: Table, names: set[str]) -> set[str]:
    """Returns those of some columns in which nothing is written."""
    return {name for name in names.intersection(table.header) if not any(row.cells[name] for row in table.rows)}


def _renamings(written: Table, found: Table) -> list[str]:
    """Says which columns are taken for which of ours."""
    pairs = zip(written.header, found.header, strict=True)
    return [f"the column {old!r} is taken for {new!r}" for old, new in pairs if old != new]


def _check_header(file: Path, header: Sequence[str]) -> None:
    if "path" not in header:
        shown = f"among {list(header)!s:.200}" if header else "there"
        raise DataError(
            f"{file}, line 1: no column 'path' {shown}; name the columns path and class, separated by commas"
        )
    if twice := [name for name in header if header.count(name) > 1]:
        raise DataError(f"{file}, line 1: column {twice[0]!r} occurs twice; rename one")
    if "" in header:
        raise DataError(f"{file}, line 1: column {header.index('') + 1} has no name; name or remove it")
    for one, other in (("part", "split"), ("group", "bag"), ("class", "classes")):
        if one in header and other in header:
            raise DataError(f"{file}, line 1: columns {one!r} and {other!r} mean the same; remove one")


def _task(table: LabelledTable, choice: TaskChoice) -> LearningTask:
    """The task that the user wants, or that the columns tell."""
    if choice != "auto":
        return task_of(choice)
    for task in TASKS.values():
        if task.recognises(table):
            return task
    raise table.without("'class' or 'classes'", choice)


def _image(row: Row, files: ListedFiles) -> Path:
    path = files.find(row)
    if path is None:
        raise row.wrong("path", _why_missing(row))
    return path


def _why_missing(row: Row) -> str:
    """Returns why there is no file, and what to do."""
    text = row.cells["path"]
    shown = f"{text[:200]!r} is no file"
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text):
        return f"{shown}, but an address; fetch it, and name the file"
    if other := _near(row.file.parent, text):
        return f"{shown}, but {other!r} is one; write the paths so"
    return (
        f"{shown}; paths are relative to the folder of the CSV file, and of a path of another machine the last folders "
        "must lie there"
    )


def _near(folder: Path, text: str) -> str:
    """Returns the picture that may be meant: with a suffix, or in a folder below; empty where there is none."""
    try:
        for place in (folder, *visible_folders(folder)):
            path = place / text
            found = [path] if path.is_file() else [*path.parent.glob(f"{glob.escape(path.name)}.*")]
            if pictures := [one for one in sorted(found) if has_picture_suffix(one.name)]:
                return str(pictures[0].relative_to(folder))
    except (OSError, ValueError, DataError):  # of names that no file can have
        pass
    return ""


def _part(row: Row) -> Part:
    column = "split" if "split" in row.cells else "part"
    value = row.cells.get(column, "train")
    part = part_of(value)
    if part is None:
        raise row.wrong(column, f"{value!r} is none of {', '.join(PARTS)}; mend it")
    return part


def _group(row: Row) -> str:
    return row.cells.get("group", row.cells.get("bag", ""))

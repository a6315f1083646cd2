"""A data set as a CSV file: an image and what it shows, a row each.

Columns: `path`, relative to the file; then `class`, or `classes` (separated by ; or |, or as a list), or a column of 0
and 1 for each class, or columns of numbers. Optional: `part` or `split` (train, val, test) or flags such as `is_valid`
and `test`, `group` or `bag` (what an image was recorded with), and `state` (labelled, skipped or nothing, see
`data_set.columns`). The rows are taken to be in the order of recording. Rows that nobody has labelled yet are left out
and counted: by their state; where nobody wrote one, by an empty label. A `class` of `NONE_OF_THESE` is an image of no
class, which is never trained on.
"""

from __future__ import annotations

import dataclasses
import glob
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cnn_perception.errors import DataError
from cnn_perception.image.file_formats import has_picture_suffix
from cnn_perception.image.listing import visible_folders
from cnn_perception.label_table import (
    STATES,
    ListedFiles,
    Row,
    Table,
    are_states,
    composed,
    is_flag,
    read_table,
    states_of,
)
from cnn_perception.label_text import NONE_OF_THESE
from training.data import image_folder
from training.data.names import is_missing, part_of
from training.data.records import PARTS, Listing, Part, Sample, Source
from training.data_set import columns
from training.tasks.by_name import TASKS, task_of
from training.tasks.choices import TaskChoice
from training.tasks.table import RESERVED, LabelledTable
from training.tasks.task import LearningTask

_OURS = ("part", "split")
"""Our names of the column of the parts."""
_OTHER_SPLITS = frozenset({"part", "split", "set", "subset", "dataset", "phase", "partition", "usage", "datasplit"})
"""What other tools call the column of the parts, in lower case without blanks and underscores."""
_FOLDS = frozenset({"fold", "folds", "kfold", "foldid", "cvfold"})
"""What they call a column that divides the images for a cross-validation, written likewise."""
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
    whole = read_table(file, "mend --data")
    written = whole.without(_empty(whole, {*_OURS}))
    only_flags = _is_of_flags(written, task)
    flags = {} if _says_parts(written) else _flags_of_parts(written, targets, only_flags)
    told = _with_flagged_parts(written, flags) if flags else written
    named = _with_our_columns(told, task, targets)
    _check_header(file, named.header)
    unused = _unused_splits(named, targets, only_flags)
    found = named.without(unused)
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
        has_parts=_says_parts(found),
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
            *_of_parts(named, flags, unused),
            *(_like_parts(found, labels.names) if only_flags else ()),
            *taken,
            *_of_groups(rows),
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
    if _says_parts(table):
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


def _says_parts(table: Table) -> bool:
    return not {*_OURS}.isdisjoint(table.header)


def _is_of_flags(table: Table, task: TaskChoice) -> bool:
    """Whether each column that has no meaning of its own is a class, as with `--task multilabel`."""
    return task in TASKS and TASKS[task].columns_are_classes and "classes" not in table.header


def _flags_of_parts(table: Table, targets: Sequence[str], only_flags: bool) -> dict[str, Part]:
    """Returns which columns flag the images of a part, as fastai's `is_valid` does, and a `test` of 0 and 1.

    Where each class is a column of flags itself, `train` alone can be one of them.
    """
    named = {name: part for name in table.header if (part := _flagged(name)) and name not in _names(targets)}
    plain = {name: part for name, part in named.items() if not _begins_with_is(name)}
    are_classes = only_flags and {*plain.values()} == {"train"}
    left_out = {name for name in plain if are_classes or not _are_flags(row.cells[name] for row in table.rows)}
    return {name: part for name, part in named.items() if name not in left_out}


def _flagged(name: str) -> Part | None:
    """Returns the part whose images a column flags by its name: `is_valid`, `test`."""
    return part_of(name[2:] if _begins_with_is(name) else name)


def _begins_with_is(name: str) -> bool:
    return name.casefold().startswith("is")


def _are_flags(cells: Iterable[str]) -> bool:
    """Whether all cells of a column say yes or no."""
    return all(is_flag(cell) for cell in cells)


def _with_flagged_parts(table: Table, flags: Mapping[str, Part]) -> Table:
    """Returns a table with a column `part` in place of the flags."""
    left = table.without(flags)
    parts = [_flagged_part(row, flags) for row in table.rows]
    rows = (
        dataclasses.replace(row, cells={**row.cells, "part": part}) for row, part in zip(left.rows, parts, strict=True)
    )
    return Table(table.file, (*left.header, "part"), tuple(rows))


def _flagged_part(row: Row, flags: Mapping[str, Part]) -> Part:
    """Returns the part that a row is flagged for; where none, the training part, or the first that no column flags."""
    found = [name for name in flags if row.flag(name)]
    if len(found) > 1:
        raise row.wrong(found[1], f"is said beside {found[0]!r}; an image belongs to one part")
    if found:
        return flags[found[0]]
    left = [part for part in PARTS if part not in flags.values()]
    if not left:
        raise row.wrong([*flags][-1], f"is not said, as none of {', '.join(flags)} is; an image belongs to one part")
    return left[0]


def _unused_splits(table: Table, targets: Sequence[str], only_flags: bool) -> list[str]:
    """Returns the columns that seem to divide the images, and by which they are not divided; no class is one."""
    flags = _flags_of_parts(table, targets, only_flags)
    return [
        name
        for name in table.header
        if name not in (*_OURS, *_names(targets))
        and (name in flags or _is_split(name) or _plain(name) in _FOLDS or (not only_flags and _flagged(name)))
    ]


def _of_parts(table: Table, flags: Mapping[str, Part], unused: Sequence[str]) -> list[str]:
    """Says which columns are taken for the parts, and which are not, though other tools do."""
    taken = [f"the column {name!r} is taken for the images of {part}" for name, part in flags.items()]
    by = next((name for name in _OURS if name in table.header), "")
    cure = "other columns say the parts"
    if not flags:
        cure = f"{by!r} says the parts" if by else "write train or val into a column 'part' to hold images out by it"
    return taken + [f"the column {name!r} is not used; {cure}" for name in unused]


def _like_parts(table: Table, classes: Sequence[str]) -> list[str]:
    """Says which classes are called as a part is."""
    return [
        f"the column {name!r} is taken for a class; call it 'is_{part}' if it flags the images of the part {part}"
        for name in classes
        if not _says_parts(table) and (part := _flagged(name))
    ]


def _is_split(name: str) -> bool:
    """Whether other tools call the column of the parts so."""
    return _plain(name) in _OTHER_SPLITS


def _plain(name: str) -> str:
    """Returns the name of a column in lower case without blanks and underscores."""
    return re.sub(r"[\s_-]+", "", name).casefold()


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
        if composed(other) == composed(text):  # which looks the same
            return f"{text[:200]!a} is no file, but {other!a} is one; write the paths so"
        return f"{shown}, but {other!r} is one; write the paths so"
    return (
        f"{shown}; paths are relative to the folder of the CSV file, and of a path of another machine the last folders "
        "must lie there"
    )


def _near(folder: Path, text: str) -> str:
    """Returns the picture that may be meant; empty where there is none.

    It has a suffix, lies in a folder below, or is called so but for upper and lower case and how accents are composed.
    """
    try:
        for place in (folder, *visible_folders(folder)):
            path = place / text
            found = [path] if path.is_file() else [*path.parent.glob(f"{glob.escape(path.name)}.*")]
            found = found or [one for one in _entries(path.parent) if _plainly(one.name) == _plainly(path.name)]
            if pictures := [one for one in sorted(found) if has_picture_suffix(one.name)]:
                return str(pictures[0].relative_to(folder))
    except (OSError, ValueError, DataError):  # of names that no file can have
        pass
    return ""


def _entries(folder: Path) -> list[Path]:
    return [*folder.iterdir()] if folder.is_dir() else []


def _plainly(name: str) -> str:
    return composed(name).casefold()


def _part(row: Row) -> Part:
    column = "split" if "split" in row.cells else "part"
    value = row.cells.get(column, "train")
    part = part_of(value)
    if part is None:
        raise row.wrong(column, f"{value!r} is none of {', '.join(PARTS)}; mend it")
    return part


def _group(row: Row) -> str:
    return row.cells.get("group", row.cells.get("bag", ""))


def _of_groups(rows: Iterable[Row]) -> list[str]:
    """Says which groups are called as programs write that nothing is known."""
    counts = Counter(group for row in rows if is_missing(group := _group(row)))
    return [
        f"{count} rows are of the group {group!r}, and stay in one part; leave such cells empty if nothing is known"
        for group, count in counts.items()
        if count > 1
    ]

"""The data set that frames are added to: its table, its classes, and the images that it has already."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception import files
from cnn_perception.errors import DataError
from cnn_perception.image.messages import RgbImage
from cnn_perception.label_table import states_of
from cnn_perception.label_text import NONE_OF_THESE, SEPARATOR
from cnn_perception.tasks.registry import task_of
from training.collect.sources.frame import Answer, Origin
from training.data_set import classes, columns
from training.data_set.table import DataSetTable, alone_with, read
from training.run_files import make_folder

_COLUMNS = (
    columns.STATE,
    columns.PART,
    columns.BAG,
    columns.TOPIC,
    columns.CAMERA,
    columns.STAMP,
    columns.GUESS,
    columns.DOUBT,
    columns.REASON,
    columns.CLUSTER,
    columns.MODEL,
)


@dataclass(frozen=True)
class Labels:
    """What the labels of a data set say.

    Attributes:
        task: Whether they are a class, several classes or numbers.
        names: The classes, or the names of the numbers; empty where nobody has said them yet.
        source: Who says so, for errors.
    """

    task: str
    names: tuple[str, ...]
    source: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the labels."""
        return task_of(self.task).usual_columns(self.names)


def open_table(folder: Path, labels: Labels) -> DataSetTable:
    """Returns the table of a data set, an empty one of a new one; nothing is written.

    Raises:
        DataError: If it cannot be read, or its labels are of another kind or of other classes.
    """
    _require_writable(labels)
    file = folder / columns.TABLE
    if not file.exists():
        _require_listed(folder, labels)
        return DataSetTable(file, (columns.PATH, *labels.columns, *_COLUMNS), ())
    table = read(folder)
    if missing := [name for name in labels.columns if name not in table.header]:
        raise DataError(
            f"{file}: has no column {missing[0]!r} for the labels of a {labels.task} model ({labels.source}); collect "
            "into another --output"
        )
    for ours, other in ((columns.PART, "split"), (columns.BAG, "group")):
        if other in table.header:
            raise DataError(f"{file}, line 1: the column {other!r} is called {ours!r} in a data set; rename it")
    _require_listed(folder, labels)
    return _with_parts(_with_states(table.with_columns(_COLUMNS), labels))


def _require_writable(labels: Labels) -> None:
    """Refuses labels that the columns of a table cannot hold.

    Raises:
        DataError: If a class holds what stands between classes, or a number is called like a column of something else.
    """
    task = task_of(labels.task)
    if task.has_classes and not task.is_exclusive:
        classes.require_separable(labels.names, labels.source)
    taken = {*_COLUMNS, *columns.NO_NUMBERS}
    if not task.has_classes and (odd := [name for name in labels.names if name in taken]):
        raise DataError(f"{labels.source}: a number cannot be called {odd[0]!r}, as a column of its own is; rename it")


def _require_listed(folder: Path, labels: Labels) -> None:
    """Refuses labels of which the list of classes, which a killed run may have left alone, knows nothing.

    Raises:
        DataError: If it lacks one.
    """
    there = classes.read(folder)
    if there and (new := [name for name in labels.names if name not in there]):
        raise DataError(
            f"{folder / columns.CLASSES_FILE}: has no class {new[0]!r}, which {labels.source} has; add it there, or "
            "collect into another --output"
        )


def _with_states(table: DataSetTable, labels: Labels) -> DataSetTable:
    """Returns a table that says of each row whether it is labelled: the states of new rows would say it of all."""
    states = states_of(table.rows, labels.columns)
    rows = ({**row, columns.STATE: state} for row, state in zip(table.rows, states, strict=True))
    return DataSetTable(table.file, table.header, tuple(rows))


def _with_parts(table: DataSetTable) -> DataSetTable:
    """Returns a table whose images have parts: the training's where somebody made it without any."""
    if any(row[columns.PART] for row in table.rows):
        return table
    rows = tuple({**row, columns.PART: "train"} for row in table.rows)
    return DataSetTable(table.file, table.header, rows)


Fingerprint = tuple[int | None, bytes]
"""By which a frame is known again: its stamp, and a digest of its pixels."""


def fingerprint(stamp_ns: int | None, image: RgbImage) -> Fingerprint:
    """Returns by what a frame is known again: a recording may be renamed, moved or exported, and two may share stamps.

    Args:
        stamp_ns: Of its header; None for a file.
        image: Its pixels.
    """
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(image.tobytes())
    return stamp_ns, digest.digest()


def fingerprint_of_row(row: Mapping[str, str], image: RgbImage) -> Fingerprint:
    """Returns the fingerprint of the image of a row."""
    try:
        stamp_ns = int(row[columns.STAMP])
    except ValueError:  # of a file, or written by a person
        stamp_ns = None
    return fingerprint(stamp_ns, image)


class SetWriter:
    """Adds frames to a data set: first their images, then, with `save`, their rows; a kill leaves a whole table."""

    def __init__(self, table: DataSetTable, labels: Labels) -> None:
        """Begins with a table as it is.

        Args:
            table: Of `open_table`.
            labels: What is to be labelled.
        """
        self.table = table
        self._labels = labels
        self._rows: list[Mapping[str, str]] = []
        self._amended: set[str] = set()
        self._taken = {row[columns.PATH].rpartition(".")[0] for row in table.rows}

    @property
    def count(self) -> int:
        """How many frames were added."""
        return len(self._rows)

    @property
    def rows(self) -> Sequence[Mapping[str, str]]:
        """The rows of the frames that were added."""
        return self._rows

    def add(self, origin: Origin, content: bytes, suffix: str, cells: Mapping[str, str]) -> str:
        """Writes the image of a frame, and keeps its row until `save`.

        Args:
            origin: Where it comes from.
            content: Of the image file.
            suffix: Of its name.
            cells: What else its row says.

        Returns:
            The path of the image file in the data set.

        Raises:
            DataError: If the disk is full or the folder cannot be written to.
        """
        with alone_with(self.table.file):
            stem = self._free(f"{columns.IMAGES}/{origin.stem}", suffix, content)
            path = self.table.file.parent / f"{stem}{suffix}"
            make_folder(path.parent)
            _write(path, content)
        stamp = "" if origin.stamp_ns is None else str(origin.stamp_ns)
        about = {columns.TOPIC: origin.topic, columns.CAMERA: origin.camera, columns.STAMP: stamp}
        self._rows.append({columns.PATH: f"{stem}{suffix}", columns.BAG: origin.bag, **about, **cells})
        return f"{stem}{suffix}"

    def amend(self, cells: Sequence[Mapping[str, str]]) -> None:
        """Changes cells of the rows that were added, of each in order; `save` writes them."""
        self._rows = [{**row, **changed} for row, changed in zip(self._rows, cells, strict=True)]
        self._amended |= {name for changed in cells for name in changed}

    def save(self) -> None:
        """Writes the classes, if they are known and not there yet, and the table with the rows added so far.

        The table is read anew: somebody may have labelled images meanwhile.

        Raises:
            DataError: If the disk is full or the folder cannot be written to; the table is as it was.
        """
        make_folder(self.table.file.parent)
        with alone_with(self.table.file):
            self._save(self.table.file.parent)

    def _save(self, folder: Path) -> None:
        if self._labels.names and not (folder / columns.CLASSES_FILE).exists():
            classes.write(folder, self._labels.names)
        table = open_table(folder, self._labels)
        ours = {row[columns.PATH]: row for row in self._rows}
        rows = [self._amended_row(row, ours.pop(row[columns.PATH], None)) for row in table.rows]
        target = Path(os.path.realpath(table.file))  # what replaces a link leaves its target alone
        DataSetTable(target, table.header, tuple(rows)).extended(list(ours.values())).write()

    def _amended_row(self, row: Mapping[str, str], ours: Mapping[str, str] | None) -> Mapping[str, str]:
        return row if ours is None else {**row, **{name: ours[name] for name in self._amended}}

    def _free(self, stem: str, suffix: str, content: bytes) -> str:
        """Returns a path without a suffix that no row has, nor another image; numbered from 2 where one has it.

        The same image may be there: a run that was killed has left it, or another one that is under way has it, too.
        """
        found = stem
        number = 1
        while found in self._taken or _is_another(self.table.file.parent / f"{found}{suffix}", content):
            number += 1
            found = f"{stem}_{number}"
        self._taken.add(found)
        return found


def next_group(table: DataSetTable) -> int:
    """Returns the number of the next group of look-alikes."""
    numbers = (row[columns.CLUSTER] for row in table.rows)
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)


def answer_cells(answer: Answer | None) -> dict[str, str]:
    """Returns the cells about what a model says."""
    if answer is None:
        return {}
    doubt = "" if answer.doubt is None else f"{answer.doubt:.6f}"
    return {columns.GUESS: answer.guess, columns.DOUBT: doubt, columns.MODEL: answer.model}


def label_cells(cells: Mapping[str, str], state: columns.State, labels: Labels) -> dict[str, str]:
    """Returns what a person has decided in a row of another table; nothing where that is nothing yet.

    Args:
        cells: Of the row.
        state: Whether somebody has decided, see `label_table.states_of`.
        labels: Of the data set.

    Raises:
        DataError: If its label is none of this data set.
    """
    if state != "labelled":
        return {columns.STATE: state} if state else {}
    if missing := [name for name in labels.columns if name not in cells]:
        raise DataError(f"has no column {missing[0]!r}, in which the labels of a {labels.task} data set stand")
    given = {name: cells[name] for name in labels.columns}
    if labels.names and NONE_OF_THESE not in given.values():
        task = task_of(labels.task)
        for text in given.values() if task.has_classes else [SEPARATOR.join(given.values())]:
            task.truth_of_text(text, labels.names, "a label of the recorder's table")
    return {**given, columns.STATE: "labelled"}


def left_undecided(rows: Sequence[Mapping[str, str]], states: Sequence[columns.State], labels: Labels) -> str:
    """Returns how many rows of another table have a label and yet count as undecided; empty if there are none."""
    pairs = zip(rows, states, strict=True)
    count = sum(not state and any(row.get(name) for name in labels.columns) for row, state in pairs)
    if not count:
        return ""
    return (
        f"{count} rows have a label, but nothing in the column {columns.STATE!r}, as others have: they are not "
        "labelled; write 'labelled' there if they are decided"
    )


def _is_another(path: Path, content: bytes) -> bool:
    """Returns whether something else than this content is at a path."""
    try:
        return path.read_bytes() != content
    except IsADirectoryError:
        return True
    except OSError:
        return False  # nothing is there, or its writing says what is wrong


def _write(path: Path, content: bytes) -> None:
    try:
        with files.replacing(path) as file:
            file.write(content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{path}: disk full; free some space, and run the same command again") from None
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another --output") from None

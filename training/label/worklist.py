"""The table that is labelled, as a session reads it: with all columns that it writes, and its images found."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.label_table import ListedFiles, Row, read_table, states_of
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.tasks.registry import task_of
from training.data_set import classes as listed_classes
from training.data_set.columns import (
    BAG,
    CLASS,
    CLASSES,
    CLASSES_FILE,
    DOUBT,
    GUESS,
    NO_NUMBERS,
    PATH,
    PERSON,
    STAMP,
    STATE,
)
from training.data_set.table import DataSetTable
from training.label import class_list
from training.label.answers import Answers, Numbers, OneClass, SeveralClasses
from training.tasks.choices import TaskChoice

Order = Literal["doubt", "time", "random"]
_ANSWER, _MARGIN, _SCORE = "answer", "margin", "score "
"""Where the tables of a recorder have a guess, how sure it was, and (before a class's name) the score of a class."""


@dataclass(frozen=True)
class Opened:
    """What is read of a table and beside it.

    Attributes:
        table: With every column that is written, and a state in every row.
        images: Where the image of each row lies, by the row's path; None where there is none.
        classes: Those that the list beside it names; none without that list.
    """

    table: DataSetTable
    images: Mapping[str, Path | None]
    classes: Sequence[str]


@dataclass(frozen=True)
class Worklist:
    """What a table is read with, the first time and whenever somebody else has changed it.

    Attributes:
        file: The table.
        answers: What is asked for.
        person: Who is named in the rows; nobody where it is empty.
    """

    file: Path
    answers: Answers
    person: str = ""

    def read(self) -> Opened:
        """Reads the table; no image is opened.

        Raises:
            DataError: If it cannot be read, is no table of images, holds none or one twice, or there can be no such
                classes.
        """
        written = _columns_named(self.file, self.answers)
        added = [*self.answers.columns, STATE, *([PERSON] if self.person else [])]
        states = states_of(written.rows, self.answers.columns)
        table = written.with_columns(added)
        rows = ({**row, STATE: state} for row, state in zip(table.rows, states, strict=True))
        whole = DataSetTable(self.file, table.header, tuple(rows))
        classes = class_list.listed(self.file)
        if self.answers.form == "several":
            listed_classes.require_separable(classes, str(self.file.parent / CLASSES_FILE))
        return Opened(whole, _images_of(whole), classes)


def answers_asked_for(file: Path, task: TaskChoice, targets: Sequence[str]) -> Answers:
    """Returns what a table asks for, by its columns or as the user says.

    Args:
        file: The table.
        task: What is labelled; `auto` tells it from the columns.
        targets: Columns of numbers, each `name` or `name:unit`; none for classes, or for the numbers of which the
            table has columns and the list of classes, or a recorder's scores, the names.

    Raises:
        ConfigError: If task and targets contradict each other, or the numbers cannot be columns.
        DataError: If the table cannot be read, or does not say what to ask.
    """
    asked = None if task == "auto" else task_of(task)
    if targets and asked is not None and asked.has_classes:
        raise ConfigError(f"--targets: names numbers, but --task is {task}; leave one of them out")
    if targets:
        return _numbers(targets)
    header = read_table(file, "give the folder of a data set, or its table").naming(CLASS).header
    names = class_list.listed(file) or _scored(header)
    if asked is not None and asked.has_classes:
        return OneClass() if asked.is_exclusive else SeveralClasses()
    if asked is None and (CLASSES in header or CLASS in header):
        return SeveralClasses() if CLASSES in header else OneClass()
    if names and set(names) <= set(header):
        return _numbers(names)
    raise DataError(
        f"{file}: has neither a column {CLASS!r} nor {CLASSES!r}; say what is to be labelled by --task multiclass or "
        "multilabel, or which numbers by --targets"
    )


def classes_used(table: DataSetTable, answers: Answers) -> set[str]:
    """Returns the classes that a table names: as labels, as guesses, or by the scores of a recorder's model."""
    used = {name for row in table.rows for name in (*answers.read(row), *answers.guessed(guess_of(row)))}
    return used.union(_scored(table.header))


def guess_of(row: Mapping[str, str]) -> str:
    """Returns what a model answered to a row, as a label is written; empty where none was asked."""
    answer = row.get(_ANSWER, "")
    return row.get(GUESS) or (NONE_OF_THESE if answer == UNKNOWN else answer)


def doubt_of(row: Mapping[str, str]) -> float | None:
    """Returns how little sure the model was, from 0 to 1; None where that is unknown."""
    doubt = _number(row.get(DOUBT, ""))
    margin = _number(row.get(_MARGIN, ""))
    if doubt is None and margin is not None:
        return 1 - margin
    return doubt


def in_order(rows: Sequence[Mapping[str, str]], order: Order) -> list[int]:
    """Returns the places of rows in the order in which they are shown.

    Args:
        rows: Of the table.
        order: `doubt`, the most first and the unknown last; `time`, by recording and stamp; or `random`, the same
            each time.
    """
    places = list(range(len(rows)))
    if order == "random":
        random.Random(0).shuffle(places)
    elif order == "time":
        places.sort(key=lambda place: (rows[place].get(BAG, ""), _number(rows[place].get(STAMP, "")) or 0))
    else:
        places.sort(key=lambda place: -1 if (doubt := doubt_of(rows[place])) is None else doubt, reverse=True)
    return places


def _images_of(table: DataSetTable) -> dict[str, Path | None]:
    files = ListedFiles((table.file.parent,))
    found: dict[str, Path | None] = {}
    for line, cells in enumerate(table.rows, start=2):
        row = Row(table.file, line, dict(cells))
        if cells[PATH] in found:
            raise row.wrong(PATH, f"{cells[PATH][:80]!r} is there twice; remove one of the rows")
        found[cells[PATH]] = files.find(row)
    return found


def _columns_named(file: Path, answers: Answers) -> DataSetTable:
    """Reads a table whose columns other tools may have named."""
    table = read_table(file, "give the folder of a data set, or its table").naming(PATH)
    if answers.columns == (CLASS,):
        table = table.naming(CLASS)
    _require_plain(file, table.header)
    if not table.rows:
        raise DataError(f"{file}: holds no rows; expected a header and an image a line")
    return DataSetTable(file, table.header, tuple(row.cells for row in table.rows))


def _require_plain(file: Path, header: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in header:
        if not name or name in seen:
            raise DataError(f"{file}, line 1: the column {name!r} has no name or occurs twice; mend it")
        seen.add(name)


def _numbers(targets: Sequence[str]) -> Numbers:
    pairs = [target.partition(":") for target in targets]
    names = tuple(name.strip() for name, _, _ in pairs)
    if not all(names) or len(set(names)) < len(names) or NO_NUMBERS.intersection(names):
        raise ConfigError(f"--targets: {','.join(targets)} has an empty, reserved or repeated name; mend it")
    return Numbers(names, tuple(unit.strip() for _, _, unit in pairs))


def _scored(header: Iterable[str]) -> list[str]:
    """Returns the classes or numbers of a recorder's model."""
    return [name.removeprefix(_SCORE) for name in header if name.startswith(_SCORE)]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

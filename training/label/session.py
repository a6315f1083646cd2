"""What is decided about the images of a table: one decision after the other, each on the disk before the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnn_perception.errors import DataError
from training.data_set.columns import BAG, CLUSTER, PART, PATH, PERSON, REASON, STATE, State
from training.data_set.table import alone_with
from training.label import class_list
from training.label.keys import key_of
from training.label.revisions import Revisions
from training.label.storage.journal import Change, Journal
from training.label.storage.saving import NotSavedError
from training.label.storage.stored_table import StoredTable
from training.label.worklist import Order, Worklist, classes_used, doubt_of, guess_of, in_order

_SHOWN = (PART, BAG, CLUSTER, REASON)
"""Columns that the page shows as they are."""


@dataclass(frozen=True)
class Decision:
    """What a person says of some images.

    Attributes:
        numbers: Of the images; at least one.
        answer: See `answers.Answers`; of no effect for those that are skipped.
        state: Whether they are labelled now, or left out.
    """

    numbers: tuple[int, ...]
    answer: tuple[str, ...]
    state: State

    def __post_init__(self) -> None:
        if not self.numbers:
            raise DataError("no image is chosen")


class Session:
    """The one place that changes the table; its methods may be called by several threads.

    An image has the same number as long as the session lasts, whatever becomes of the rows. What has changed is told by
    `Revisions`.
    """

    def __init__(self, worklist: Worklist, order: Order = "doubt") -> None:
        """Opens the table; nothing is written before the first decision.

        Args:
            worklist: What to open.
            order: In which the images are shown.

        Raises:
            DataError: If the table, its classes or its images cannot be used.
        """
        self._worklist = worklist
        self._answers = worklist.answers
        self._wanted_order = order
        self._lock = threading.Lock()
        self._stored = StoredTable(worklist)
        self._journal = Journal(worklist.file.with_name(f".{worklist.file.name}.undo"))
        self._paths: list[str] = []
        self._numbers: dict[str, int] = {}
        self._classes: tuple[str, ...] = ()
        self._revisions = Revisions()
        self._arrange()

    def view(self, after: int = -1) -> dict[str, Any]:
        """Returns what a page shows, as JSON: all of it, or what has changed after a revision.

        What others have done to the table is taken over first.

        Raises:
            NotSavedError: If the file is no table any more.
        """
        with self._alone():
            self._take_over()
            return self._view(after)

    def decide(self, decision: Decision, after: int) -> dict[str, Any]:
        """Writes a decision; returns what has changed after a revision.

        Raises:
            NotSavedError: If it is not on the disk; everything is as before.
            DataError: If it is no answer, or its images are gone.
        """
        with self._alone():
            self._take_over()
            cells = self._cells(decision)
            rows = [self._row(number) for number in dict.fromkeys(decision.numbers)]
            changes = [Change(row[PATH], {name: row[name] for name in cells}, cells) for row in rows]
            self._journal.append(changes)
            try:
                self._write({change.path: change.after for change in changes})
            except NotSavedError:
                self._journal.drop_last()
                raise
            return self._view(after)

    def undo(self, after: int) -> dict[str, Any]:
        """Takes the last decision back; returns what has changed after a revision, and `at`, an image it was about.

        Raises:
            NotSavedError: If that is not on the disk; everything is as before.
            DataError: If there is no decision to take back.
        """
        with self._alone():
            self._take_over()
            if not len(self._journal):
                raise DataError("there is no decision to take back")
            changes = self._journal.last
            self._write({change.path: change.before for change in changes})
            self._journal.drop_last()
            return {**self._view(after), "at": self._numbers[changes[0].path]}

    def add_class(self, name: str, after: int) -> dict[str, Any]:
        """Adds a class at the end of the list, which is written; returns what has changed after a revision.

        Raises:
            NotSavedError: If the list is not on the disk.
            DataError: If there can be no class of this name, or one looks like it.
        """
        with self._alone():
            if self._answers.form == "numbers":
                raise DataError("numbers are asked for here, no classes")
            known = class_list.together(class_list.listed(self._worklist.file), self._classes)
            classes = class_list.with_new(known, name)
            class_list.write(self._worklist.file, classes)
            self._classes = classes
            self._revisions.rearrange()
            return self._view(after)

    def image(self, number: int) -> Path:
        """Returns where an image lies.

        Raises:
            DataError: If there is no such image, or no such file.
        """
        with self._lock:
            path = self._row(number)[PATH]
            found = self._stored.opened.images[path]
        if found is None:
            raise DataError(f"{path[:200]!r} is no file; skip it, or mend the table")
        return found

    def summary(self) -> str:
        """Returns how far the work has come, in words."""
        states = [row[STATE] for row in self._stored.table.rows]
        done = f"{states.count('labelled')} labelled, {states.count('skipped')} skipped"
        return f"{len(states)} images: {done}, {states.count('')} left"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other threads, and other programs that write the table, out."""
        with self._lock, alone_with(self._stored.file):
            yield

    def _cells(self, decision: Decision) -> dict[str, str]:
        """Returns what is written into the rows of a decision."""
        cells = dict.fromkeys(self._stored.decided_columns, "")
        if decision.state == "labelled":
            cells |= self._answers.cells(decision.answer, self._classes)
        if PERSON in cells:
            cells[PERSON] = self._worklist.person
        return {**cells, STATE: decision.state}

    def _row(self, number: int) -> Mapping[str, str]:
        place = self._places.get(self._paths[number]) if 0 <= number < len(self._paths) else None
        if place is None:
            raise DataError(f"there is no image {number} in the table any more; reload the page")
        return self._stored.table.rows[place]

    def _write(self, cells: Mapping[str, Mapping[str, str]]) -> None:
        """Writes other cells into rows, by path."""
        table = self._stored.table
        self._stored.write(replace(table, rows=tuple({**row, **cells.get(row[PATH], {})} for row in table.rows)))
        self._revisions.change_rows(self._numbers[path] for path in cells)

    def _take_over(self) -> None:
        """Takes over what somebody else has done to the table."""
        before = self._stored.table
        news = self._stored.take_over(self._journal.paths())
        if news is None:
            return
        self._arrange()
        old = {row[PATH]: row for row in before.rows}
        now = self._stored.table.rows
        self._revisions.change_rows(self._numbers[row[PATH]] for row in now if row != old.get(row[PATH]))
        if news:
            self._revisions.say(news)

    def _arrange(self) -> None:
        """Numbers the images of a table that was read anew, and finds their order and the classes."""
        table = self._stored.table
        self._places = {row[PATH]: place for place, row in enumerate(table.rows)}
        new = [path for path in self._places if path not in self._numbers]
        self._numbers |= {path: number for number, path in enumerate(new, start=len(self._paths))}
        self._paths += new
        self._order = [self._numbers[table.rows[place][PATH]] for place in in_order(table.rows, self._wanted_order)]
        self._journal.forget_others({row[PATH]: row for row in table.rows}, (*self._answers.columns, STATE, PERSON))
        self._arrange_classes()
        self._revisions.rearrange()

    def _arrange_classes(self) -> None:
        if self._answers.form != "numbers":
            first = self._stored.opened.classes or self._classes
            self._classes = class_list.together(first, classes_used(self._stored.table, self._answers))

    def _view(self, after: int) -> dict[str, Any]:
        told = self._revisions
        rows = (row for row in self._stored.table.rows if told.has_row(self._numbers[row[PATH]], after))
        view: dict[str, Any] = {
            "revision": told.current,
            "rows": [self._shown(row) for row in rows],
            "undo": len(self._journal),
            "news": told.news(after),
        }
        if told.has_arrangement(after):
            view["order"] = self._order
            view["classes"] = [{"name": name, "key": key_of(place)} for place, name in enumerate(self._classes)]
        return view

    def _shown(self, row: Mapping[str, str]) -> dict[str, Any]:
        return {
            "number": self._numbers[row[PATH]],
            "path": row[PATH],
            "state": row[STATE],
            "answer": self._answers.read(row),
            "guess": self._answers.guessed(guess_of(row)),
            "doubt": doubt_of(row),
            **{name: row.get(name, "") for name in _SHOWN},
        }

"""The table in memory and the one on the disk: the same after every change, and the work of others never lost."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from cnn_perception.errors import DataError
from training.data_set.columns import PERSON, STATE
from training.data_set.table import DataSetTable
from training.label.storage.merging import merged
from training.label.storage.saving import NotSavedError, save
from training.label.worklist import Opened, Worklist


class StoredTable:
    """A table that this program writes, and others may write, too.

    Attributes:
        file: Where it is, links followed.
        table: As it is on the disk.
        opened: As it was read last, with what is beside it.
    """

    def __init__(self, worklist: Worklist) -> None:
        """Reads the table.

        Raises:
            DataError: If it cannot be used.
        """
        self._worklist = worklist
        self.file = Path(os.path.realpath(worklist.file))  # what replaces a link leaves its target alone
        self._content = _content(self.file)
        self._folder = _identity(self.file.parent)
        self.opened: Opened = worklist.read()
        self.table = self.opened.table

    @property
    def decided_columns(self) -> tuple[str, ...]:
        """Those that a decision fills in."""
        person = [PERSON] if PERSON in self.table.header else []
        return (*self._worklist.answers.columns, STATE, *person)

    def write(self, table: DataSetTable) -> None:
        """Brings a changed table to the disk; `take_over` comes before the change.

        Raises:
            NotSavedError: If it is not there; this one is as before.
        """
        content = table.content()
        save(self.file, content)
        self._content = content
        self.table = table

    def take_over(self, decided: Collection[str]) -> str | None:
        """Takes over what somebody else has written into the file meanwhile.

        Args:
            decided: Paths of the rows on which this program has decided.

        Returns:
            None if the file is as it was; otherwise what is to be said.

        Raises:
            NotSavedError: If the file is no table any more, or not there; it can be put back.
        """
        content = _content(self.file)
        if _identity(self.file.parent) != self._folder:
            raise NotSavedError(f"{self.file}: lies in another folder now; put the first back, or end this and open it")
        if content == self._content:
            return None
        try:
            opened = self._worklist.read()
            found = merged(self.table, opened.table, decided, self.decided_columns)
        except DataError as error:
            raise NotSavedError(f"changed by another program meanwhile: {error}") from None
        if found.has_lost:
            self.write(found.table)
        else:
            self._content = content
            self.table = found.table
        self.opened = opened
        return found.news


def _identity(folder: Path) -> tuple[int, int]:
    """Returns what tells a folder from another one of its name."""
    try:
        found = folder.stat()
    except OSError as error:
        raise NotSavedError(f"{folder}: cannot be read ({error.strerror}); put it back") from None
    return found.st_dev, found.st_ino


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise NotSavedError(f"{file}: cannot be read ({error.strerror}); put it back") from None

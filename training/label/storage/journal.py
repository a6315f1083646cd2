"""What has been decided, beside the table: so that a decision can be taken back, also after a restart.

    .labels.csv.undo    a line of JSON a decision: the path, the cells before and the cells after of each of its rows

The table is what counts: a decision whose cells are no longer there is forgotten.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.label.storage.saving import not_saved

Cells = Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """What a decision changed in a row: the cells before and after, of the same columns."""

    path: str
    before: Cells
    after: Cells


@dataclass(frozen=True)
class _Entry:
    start: int
    changes: tuple[Change, ...]


class Journal:
    """The decisions that can be taken back, the last one first."""

    def __init__(self, file: Path) -> None:
        """Reads what an earlier session left; a line that a crash cut off and all after it count as nothing."""
        self._file = file
        self._entries: list[_Entry] = []
        self._end = 0
        for line in _lines(file):
            changes = _changes(line)
            if changes is None:
                break
            self._entries.append(_Entry(self._end, changes))
            self._end += len(line)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def last(self) -> tuple[Change, ...]:
        """What the last decision changed."""
        return self._entries[-1].changes

    def paths(self) -> set[str]:
        """Returns the rows that were decided."""
        return {change.path for entry in self._entries for change in entry.changes}

    def forget_others(self, rows: Mapping[str, Cells], columns: Collection[str]) -> None:
        """Forgets the decisions of which the table knows nothing.

        Args:
            rows: Of the table, by path.
            columns: Which a decision can have changed.
        """
        current = dict(rows)
        kept = []
        for entry in reversed(self._entries):
            if all(_fits(current.get(change.path), change, columns) for change in entry.changes):
                kept.append(entry)
                current |= {change.path: {**current[change.path], **change.before} for change in entry.changes}
        self._entries = kept[::-1]

    def append(self, changes: Sequence[Change]) -> None:
        """Writes a decision to the disk.

        Raises:
            NotSavedError: If it is not there.
        """
        rows = [{"path": one.path, "before": dict(one.before), "after": dict(one.after)} for one in changes]
        line = json.dumps(rows).encode() + b"\n"
        try:
            self._write(line)
        except OSError as error:
            raise not_saved(self._file, error) from None
        self._entries.append(_Entry(self._end, tuple(changes)))
        self._end += len(line)

    def drop_last(self) -> None:
        """Forgets the last decision, of which the table knows nothing any more."""
        self._end = self._entries.pop().start  # what stands there is overwritten by the next one, at the latest
        with suppress(OSError):
            self._cut()

    def _cut(self) -> None:
        """Removes what was taken back: after a restart the table may look as if it had not been."""
        descriptor = os.open(self._file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            file.truncate(self._end)
            os.fsync(file.fileno())

    def _write(self, line: bytes) -> None:
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            file.truncate(self._end)
            file.seek(self._end)
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())


def _lines(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().splitlines(keepends=True)
    except OSError:
        return []


def _changes(line: bytes) -> tuple[Change, ...] | None:
    """Returns what a line says; None where it is no whole line of a journal."""
    try:
        rows: Any = json.loads(line) if line.endswith(b"\n") else None
        return tuple(Change(str(row["path"]), _cells(row["before"]), _cells(row["after"])) for row in rows)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _cells(found: Any) -> Cells:  # noqa: ANN401 - whatever stands in the file
    return {str(name): str(text) for name, text in found.items()}


def _fits(cells: Cells | None, change: Change, columns: Collection[str]) -> bool:
    """Returns whether a row is as a change left it."""
    if cells is None or change.before.keys() != change.after.keys() or not change.after.keys() <= set(columns):
        return False
    return all(cells.get(name) == text for name, text in change.after.items())

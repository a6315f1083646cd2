"""Unsure frames as image files and a CSV file, which `training.train --data` reads once a human has named classes.

    <folder>/<first 12 digits of the model's SHA-256>/frames.csv
    <folder>/<...>/<camera>/<stamp in nanoseconds>.jpg

All sessions of a model share a CSV file, for its columns are the same: those of a data set that is being labelled, see
`training.data_set.columns`, and more about the answer. `training.label` opens it as it is, and rows that nobody has
labelled yet are left out of the training. A JPEG or PNG is kept byte by byte, anything else, and a PNG with alpha, as
the pixels that the model saw, in a PNG. First the image is written, then its row, at one go: a kill leaves at most one
image that is not listed.
"""

from __future__ import annotations

import csv
import errno
import io
import itertools
import os
import time
from contextlib import suppress
from pathlib import Path

from cnn_perception import files
from cnn_perception.background.selection import UnsureFrame
from cnn_perception.image.kept_file import as_file
from cnn_perception.label_text import NONE_OF_THESE, SEPARATOR
from cnn_perception.model.spec import UNKNOWN, ModelSpec
from cnn_perception.tasks.registry import task_of

TABLE = "frames.csv"
_PATIENCE_S = 1.0
"""How long a program in which a person labels the frames may take to write the table."""


class RecordedFolder:
    """The folder of one model's unsure frames; used by one thread."""

    def __init__(self, folder: Path, spec: ModelSpec, sha256: str) -> None:
        """Remembers where to write; nothing is written before the first frame.

        Args:
            folder: Of all models.
            spec: Of the model whose answers these are.
            sha256: Hex digest of its file.
        """
        self._base = folder / sha256[:12]
        self._sha256 = sha256
        self._task = task_of(spec.task)
        to_fill = (*self._task.usual_columns(spec.class_names), "state")
        about = ("stamp_ns", "camera", "topic", "frame_id", "reason", "answer", "margin", "guess", "doubt", "model")
        self._unlabelled = ("",) * len(to_fill)
        self._columns = ["path", *to_fill, *about, *(f"score {name}" for name in spec.class_names)]

    def write(self, frame: UnsureFrame, room_bytes: int) -> int:
        """Writes an image and its row.

        Args:
            frame: What to keep.
            room_bytes: How much may be written.

        Returns:
            Bytes written; 0 if they would be more than `room_bytes`.

        Raises:
            OSError: If the disk is full or the folder cannot be written.
            FrameError: If no file holds a picture of its size.
        """
        table, before = self._table()
        content, suffix = as_file(frame.encoded, frame.image)
        image = _free_path(table.parent / (frame.origin.camera or "camera"), f"{frame.origin.stamp_ns}{suffix}")
        row = self._row(frame, image.relative_to(table.parent))
        size = len(content) + len(before) + len(row)
        if size > room_bytes:
            return 0
        image.parent.mkdir(parents=True, exist_ok=True)
        try:
            with image.open("xb") as file:  # follows no link
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # robots are switched off without a word: no row is there before its image
            is_listed = self._append(table, row)
        except FileExistsError:  # another recorder took the name at this moment
            return self.write(frame, room_bytes)
        except OSError:
            image.unlink(missing_ok=True)
            raise
        if is_listed:
            return size
        image.unlink(missing_ok=True)
        return self.write(frame, room_bytes)

    def _append(self, table: Path, row: bytes) -> bool:
        """Appends a row; returns False if another table is the one to append to now.

        Whoever labels the frames is kept out for as short a time as that takes, and not while a disk stores the image.
        """
        with files.alone_in(table.parent, _PATIENCE_S):
            current, before = self._table()
            if current == table:
                _append(table, before + row)
            return current == table

    def close(self) -> None:
        """Does nothing: after every frame all is in its place."""

    def _table(self) -> tuple[Path, bytes]:
        """Returns the table to append to, and what must be written there before the next row.

        It is read again for every frame: somebody may have filled in classes meanwhile. A table whose columns were
        changed is left alone, and another one is begun.
        """
        for number in itertools.count(1):
            folder = self._base if number == 1 else self._base.with_name(f"{self._base.name}-{number}")
            table = folder / TABLE
            if table.is_symlink() and not table.exists():  # it would be made wherever the link says
                continue
            if not table.exists() or not table.stat().st_size:
                return table, _line(*self._columns)
            if _header(table) == self._columns:
                return table, b"" if _ends_a_line(table) else b"\n"
        raise AssertionError

    def _row(self, frame: UnsureFrame, image: Path) -> bytes:
        origin = frame.origin
        prediction = frame.prediction
        margin = self._task.margin(prediction)
        guess = (_as_label(self._task.text(prediction)), f"{1.0 if prediction.unknown else 1.0 - margin:.6f}")
        where = (origin.stamp_ns, origin.camera, origin.topic, origin.frame_id)
        answer = (frame.reason, self._task.text(prediction), f"{margin:.6f}", *guess, self._sha256)
        scores = (f"{value:.6f}" for value in prediction.scores)
        return _line(image, *self._unlabelled, *where, *answer, *scores)


def _as_label(answer: str) -> str:
    """Returns an answer as a person would write it as a label: what is unknown, or nothing, is none of the classes."""
    return NONE_OF_THESE if answer in (UNKNOWN, SEPARATOR) else answer


def _free_path(folder: Path, name: str) -> Path:
    """Returns a path of that name, with the time added where there is such a file already."""
    path = folder / name
    if os.path.lexists(path):  # a camera without a clock, or a bag that is played again
        path = path.with_stem(f"{path.stem}_{time.time_ns()}")
    return path


def _header(table: Path) -> list[str]:
    """Returns the columns of a table, whatever program saved it; none if it is no table any more."""
    try:
        with table.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            return next(csv.reader(file), [])
    except csv.Error:
        return []


def _ends_a_line(file: Path) -> bool:
    with file.open("rb") as content:
        content.seek(-1, os.SEEK_END)
        return content.read(1) == b"\n"


def _line(*cells: object) -> bytes:
    """Returns a row as it is written into the table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode(errors="replace")


def _append(table: Path, row: bytes) -> None:
    """Writes a row whole or not at all."""
    with table.open("ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            if file.write(row) < len(row):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise

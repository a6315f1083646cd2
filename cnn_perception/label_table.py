"""Tables of labels as CSV files: one reader for training, for evaluation, and for what a recorder left."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from cnn_perception.errors import DataError

_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
"""What stands for no and yes, in lower case; spreadsheets and pandas write all of these."""
_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""By the byte order mark with which a file begins; others are UTF-8."""
_LONGEST_HEADER = 2**20
"""So many characters of the first line are looked at; in a file of one endless line no more."""


@dataclass(frozen=True)
class Row:
    """One row of a table, and where it stands.

    Attributes:
        file: The table.
        line: Of the file, in which the row begins; the first is 1.
        cells: By column, without the blanks around them.
    """

    file: Path
    line: int
    cells: dict[str, str]

    @property
    def place(self) -> str:
        """File and line, as errors name them."""
        return f"{self.file}, line {self.line}"

    def flag(self, column: str) -> bool:
        """Returns what a cell says that is 0 or 1, as whole or decimal number, or False or True.

        Raises:
            DataError: If it is neither.
        """
        text = self.cells[column]
        found = _FLAGS.get(text.casefold())
        if found is None:
            raise self.wrong(column, f"{text!r} is neither 0 nor 1; mend it")
        return found

    def wrong(self, column: str, problem: str) -> DataError:
        """Returns the error about one of its cells."""
        return DataError(f"{self.place}, column {column!r}: {problem}")


@dataclass(frozen=True)
class Table:
    """A table as it is in its file.

    Attributes:
        file: The file.
        header: Names of the columns, in order.
        rows: In order; empty lines are left out.
    """

    file: Path
    header: tuple[str, ...]
    rows: tuple[Row, ...]


class ListedFiles:
    """Finds the files that the rows of a table name in the column `path`, each of them once."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Begins with no row.

        Args:
            folders: What the paths may be relative to; the first in which a file lies is meant.
        """
        self._folders = folders
        self._lines: dict[Path, int] = {}

    def find(self, row: Row) -> Path | None:
        """Returns the file of a row, also where the path is written with backslashes; None if there is none.

        Raises:
            DataError: If the cell is empty, or an earlier row names the same file.
        """
        text = row.cells["path"]
        if not text:
            raise row.wrong("path", "is empty; name the image or remove the row")
        for written in dict.fromkeys((text, text.replace("\\", "/"))):
            for folder in self._folders:
                real = _real_file(folder / written)
                if real is None:
                    continue
                if (before := self._lines.setdefault(real, row.line)) != row.line:
                    raise row.wrong("path", f"{text[:80]!r} is the image of line {before} already; remove one")
                return folder / written
        return None


def _real_file(path: Path) -> Path | None:
    """Returns where a file really lies; None if there is none, or there cannot be one of this name."""
    try:
        return path.resolve() if path.is_file() else None
    except (OSError, ValueError):
        return None


def read_table(file: Path, cure: str) -> Table:
    """Returns the table in a CSV file with a header, in UTF-8 with or without a byte order mark.

    Args:
        file: The file.
        cure: What to do where it cannot be opened, for the error.

    Raises:
        DataError: If it cannot be read, is no CSV file, or a row has another number of columns than the header; names
            the line.
    """
    rows: list[Row] = []
    line = 1
    try:
        with file.open(newline="", encoding=_encoding(file)) as text:
            delimiter = _delimiter(text)
            reader = csv.reader(text, strict=True, skipinitialspace=delimiter == ",", delimiter=delimiter)
            header = tuple(name.strip() for name in next(reader, []))
            line = reader.line_num + 1
            for cells in reader:
                if cells and not header:
                    raise DataError(f"{file}, line 1: is blank; it must name the columns, separated by commas")
                if len(cells) not in (0, len(header)):
                    raise DataError(f"{file}, line {line}: {len(cells)} columns, the header has {len(header)}; mend it")
                if cells:
                    stripped = (cell.strip() for cell in cells)
                    rows.append(Row(file, line, dict(zip(header, stripped, strict=True))))
                line = reader.line_num + 1  # where the next row begins; a quoted cell may hold newlines
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); {cure}") from None
    except UnicodeError:
        raise DataError(f"{file}: is not UTF-8 text; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{file}, line {line}: is not CSV ({error}); mend it") from None
    return Table(file, header, tuple(rows))


def _encoding(file: Path) -> str:
    """Returns the encoding of a text, told by its byte order mark."""
    with file.open("rb") as content:
        return _ENCODINGS.get(content.read(2), "utf-8-sig")


def _delimiter(text: TextIO) -> str:
    """Returns what stands between the columns: a comma, or what else parts the header; leaves the text at its begin."""
    header = text.readline(_LONGEST_HEADER)
    text.seek(0)
    if "," in header:
        return ","
    return next((other for other in (";", "\t") if other in header), ",")

"""The table of a data set in memory: read whole, written whole, columns of others untouched."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cnn_perception import files
from cnn_perception.errors import DataError
from cnn_perception.files import as_utf8
from cnn_perception.label_table import read_table
from training.data_set.columns import PATH, STATE, STATES, TABLE


@dataclass(frozen=True)
class DataSetTable:
    """Rows of a table that is written again as a whole after every change.

    Attributes:
        file: Where it lies.
        header: Names of the columns, in order; `path` is among them.
        rows: A cell a column, as text.

    Raises:
        DataError: If a row has other columns than the header, or a state that there is none.
    """

    file: Path
    header: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]

    def __post_init__(self) -> None:
        if PATH not in self.header:
            raise DataError(f"{self.file}: has no column {PATH!r}; name the column of the images so")
        for number, row in enumerate(self.rows, start=2):
            if row.keys() != set(self.header):
                raise DataError(f"{self.file}, row {number}: has other columns than the header; mend it")
            if row.get(STATE, "") not in STATES:
                raise DataError(
                    f"{self.file}, row {number}, column {STATE!r}: {row[STATE]!r} is none of "
                    f"{', '.join(state or 'nothing' for state in STATES)}; mend it"
                )

    def with_columns(self, names: Iterable[str]) -> DataSetTable:
        """Returns the table with these columns besides, empty where they are new."""
        new = [name for name in dict.fromkeys(names) if name not in self.header]
        rows = tuple({**row, **dict.fromkeys(new, "")} for row in self.rows)
        return DataSetTable(self.file, (*self.header, *new), rows)

    def changed(self, index: int, cells: Mapping[str, str]) -> DataSetTable:
        """Returns the table with other cells in one row; all of them in columns that there are."""
        rows = list(self.rows)
        rows[index] = {**rows[index], **cells}
        return DataSetTable(self.file, self.header, tuple(rows))

    def extended(self, rows: Sequence[Mapping[str, str]]) -> DataSetTable:
        """Returns the table with further rows, empty in the columns that they do not name."""
        empty = dict.fromkeys(self.header, "")
        return DataSetTable(self.file, self.header, (*self.rows, *({**empty, **row} for row in rows)))

    def content(self) -> bytes:
        """Returns what stands in the file once it is written."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows([row[name] for name in self.header] for row in self.rows)
        return as_utf8(text.getvalue())

    def write(self) -> None:
        """Writes the file: whole, or as it was before.

        Raises:
            DataError: If the disk is full or the folder cannot be written to.
        """
        from training.run_files import replacing  # imports torch, which who only reads can do without

        with replacing(self.file) as file:
            file.write(self.content())


_PATIENCE_S = 3.0
"""How long another program may take to write a table."""


@contextmanager
def alone_with(table: Path) -> Iterator[None]:
    """Keeps the other programs that add to a table, or label it, from writing it: what they write is never lost so.

    Args:
        table: The file, or a link to it.
    """
    with files.alone_in(Path(os.path.realpath(table)).parent, _PATIENCE_S):
        yield


def table_file(path: Path) -> Path:
    """Returns the table that a user means by a data set's folder, or by the file itself."""
    return path / TABLE if path.is_dir() else path


def read(path: Path) -> DataSetTable:
    """Reads the table of a data set.

    Args:
        path: The table, or the folder that holds `labels.csv`.

    Raises:
        DataError: If it cannot be read, or is no such table; it names the line.
    """
    file = table_file(path)
    table = read_table(file, "give the folder of a data set, or its table").naming(PATH)
    return DataSetTable(file, table.header, tuple(row.cells for row in table.rows))

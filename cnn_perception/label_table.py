"""Tables of labels as CSV files: one reader for training, for evaluation, and for what a recorder left."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TextIO, get_args

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.mistaken_files import BEGINNING_BYTES, what_instead

STATE = "state"
WAS = "was"
"""The label when the row was listed to be decided again, as by `training.check --labels`: a filled label alone then
says nothing of a decision."""

State = Literal["", "labelled", "skipped"]
"""Whether a person has decided: not yet; yes, also where the label is empty; or left it out on purpose."""
STATES: tuple[State, ...] = get_args(State)

_FLAGS = {
    **dict.fromkeys(("0", "0.0", "false", "f", "no", "n"), False),
    **dict.fromkeys(("1", "1.0", "true", "t", "yes", "y"), True),
}
"""What stands for no and yes, in lower case; people, spreadsheets and pandas write all of these."""
_OTHER_NAMES = {
    "path": (
        ("path",),
        ("filename", "file", "filepath", "image", "imagepath", "imagefile", "imagename", "img", "imgpath", "imgname"),
        ("imageid", "imgid", "uri", "name", "id"),
    ),
    "class": (
        ("class",),
        ("label", "classname", "category", "target", "species", "labelname", "categoryname"),
        ("labels", "classid", "labelid", "tag", "y"),
    ),
}
"""What other tools call the columns of a table of images, in lower case without blanks and underscores: our own name in
another case, the names that are plain, and those that are taken where there is no plain one."""
_INDEX_NAMES = ("", "Unnamed: 0")
"""What the first column is called where pandas or R wrote the numbers of the rows, and where pandas read that again."""
ENDINGS = (".csv", ".tsv", ".txt")
"""Of the names of tables, in lower case."""
_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""By the byte order mark with which a file begins; others are UTF-8."""
_OTHER_FILES = (
    (b"PK\3\4", "an archive or a workbook (.zip, .xlsx, .ods)"),
    (b"\xd0\xcf\x11\xe0", "an old workbook (.xls)"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\0\0\0\0", "a file of zeros"),
)
"""How files begin that people name as tables, and what they are."""
_DELIMITERS = (",", ";", "\t", "|")
_ELSEWHERE = re.compile(r"/|\\\\|[A-Za-z]:[\\/]")
"""How a path begins that names its place on a machine, with or without a drive."""
_LONGEST_CELL = 2**24
"""Characters; a mask as run lengths or in base64 takes more than the 2**17 of Python's csv."""
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
            raise self.wrong(
                column,
                f"{text!r} is neither 0 nor 1, nor False, True, no or yes; mend it, or remove "
                "the column if it is no class",
            )
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

    def naming(self, column: str) -> Table:
        """Returns the table with a column of this name: the one of another tool's name, if there is just one such.

        Raises:
            DataError: If several columns may be meant.
        """
        if column in self.header:
            return self
        for names in _OTHER_NAMES[column]:
            found = [name for name in self.header if re.sub(r"[\s_-]+", "", name).casefold() in names]
            if len(found) > 1:
                raise DataError(
                    f"{self.file}, line 1: {' and '.join(map(repr, found))} may both be the column {column!r}; rename "
                    f"the one that is meant to {column!r}"
                )
            if found:
                return self.renamed(found[0], column)
        return self

    def renamed(self, old: str, new: str) -> Table:
        """Returns the table with another name for one of its columns."""
        header = tuple(new if name == old else name for name in self.header)
        rows = (replace(row, cells={new if k == old else k: v for k, v in row.cells.items()}) for row in self.rows)
        return Table(self.file, header, tuple(rows))

    def without(self, names: Iterable[str]) -> Table:
        """Returns the table without some of its columns."""
        left = {*self.header} - {*names}
        header = tuple(name for name in self.header if name in left)
        rows = (replace(row, cells={k: v for k, v in row.cells.items() if k in left}) for row in self.rows)
        return Table(self.file, header, tuple(rows))


class ListedFiles:
    """Finds the files that the rows of a table name in the column `path`, each of them once."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Begins with no row.

        Args:
            folders: What the paths may be relative to; the first in which a file lies is meant.
        """
        self._folders = folders
        self._lines: dict[Path, int] = {}
        self._names: dict[Path, dict[str, list[str]]] = {}
        self.moved: dict[str, Path] = {}
        """The folders of another machine that paths begin with, and what is taken for each."""

    def find(self, row: Row) -> Path | None:
        """Returns the file of a row; None if there is none.

        The path may be written with backslashes, and with escapes for bytes that are no UTF-8. Of a place on another
        machine the longest ending is taken that names a file in one of the folders. Accents may be composed or not,
        as file systems and archives change them, where just one file is called so.

        Raises:
            DataError: If the cell is empty, or an earlier row names the same file.
        """
        text = row.cells["path"]
        if not text:
            raise row.wrong("path", "is empty; name the image or remove the row")
        for written in dict.fromkeys((text, _with_odd_bytes(text), text.replace("\\", "/"), _of_home(text))):
            for folder in self._folders:
                real = _real_file(folder / written)
                if real is not None:
                    return self._once(row, folder / written, real)
        if _ELSEWHERE.match(text):
            for path in self._of_another_machine(text.replace("\\", "/")):
                real = _real_file(path)
                if real is not None:
                    return self._once(row, path, real)
        for folder in self._folders if not text.isascii() else ():
            other = self._with_other_accents(folder, text.replace("\\", "/"))
            if other is not None and (real := _real_file(other)) is not None:
                return self._once(row, other, real)
        return None

    def _with_other_accents(self, folder: Path, text: str) -> Path | None:
        """Returns the one path that differs from a text only in how Unicode composes its accents."""
        for part in Path(text).parts:
            names = self._names_in(folder).get(composed(part), [])
            if part not in names and len(names) != 1:
                return None
            folder = folder / (part if part in names else names[0])
        return folder

    def _names_in(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._names:
            names = self._names[folder] = {}
            try:
                for path in folder.iterdir():
                    names.setdefault(composed(path.name), []).append(path.name)
            except (OSError, ValueError):  # which is no folder
                pass
        return self._names[folder]

    def _once(self, row: Row, path: Path, real: Path) -> Path:
        if (before := self._lines.setdefault(real, row.line)) != row.line:
            text = row.cells["path"][:80]
            raise row.wrong("path", f"{text!r} is the image of line {before} already ({path}); remove one")
        return path

    def _of_another_machine(self, text: str) -> Iterator[Path]:
        """Yields where a file may lie here, the longest ending first; what was found last is kept in `moved`."""
        known = [(start, folder) for start, folder in self.moved.items() if text.startswith(start)]
        yield from (folder / text[len(start) :] for start, folder in known)
        places = [place.end() for place in re.finditer("/+", text)]
        for place in places:
            if ".." in text[place:].split("/"):
                continue
            for folder in self._folders:
                if _real_file(folder / text[place:]) is not None:
                    self.moved[text[:place]] = folder
                    yield folder / text[place:]


def composed(text: str) -> str:
    """Returns a text with each accent in one character with its letter (NFC), where others write two."""
    return unicodedata.normalize("NFC", text)


def is_table(labels: str) -> bool:
    """Returns whether labels are named that lie in a table, and not a topic."""
    return labels.lower().endswith(ENDINGS)


def require_table_for_start(labels: str, start: str) -> None:
    """Refuses `--labels-start image` beside a topic of labels, on whose times it would have no effect.

    Raises:
        ConfigError: If that is what is asked for.
    """
    if start != "bag" and labels and not is_table(labels):
        raise ConfigError(f"--labels-start belongs to tables: the labels of the topic {labels} have times of their own")


def is_flag(cell: str) -> bool:
    """Returns whether a cell says yes or no, see `Row.flag`."""
    return cell.casefold() in _FLAGS


def are_states(cells: Iterable[str]) -> bool:
    """Returns whether a column called `state` says what is labelled; else it is about something else."""
    found = {*cells}
    return found == {""} or not found.isdisjoint({*STATES} - {""})


def states_of(rows: Sequence[Mapping[str, str]], label_columns: Collection[str]) -> list[State]:
    """Returns of each row of a table whether a person has decided on it.

    By the states where somebody wrote one, or where labels are to be decided again (`WAS`); else by a filled label.
    """
    if any(row.get(STATE) or WAS in row for row in rows):
        return [next((state for state in STATES if state == row.get(STATE)), "") for row in rows]
    return ["labelled" if any(row.get(name) for name in label_columns) else "" for row in rows]


def _with_odd_bytes(text: str) -> str:
    """Returns a path with the bytes that are no UTF-8, of which `files.as_utf8` has written escapes."""
    return re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda escape: chr(int(escape[1], 16)), text)


def _of_home(text: str) -> str:
    """Returns a path with `~` and `~user` as the shell understands them; as it is where nobody knows that user."""
    try:
        return str(Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError:
        return text


def _real_file(path: Path) -> Path | None:
    """Returns where a file really lies; None if there is none, or there cannot be one of this name."""
    try:
        return path.resolve() if path.is_file() else None
    except (OSError, ValueError):
        return None


def read_table(file: Path, cure: str) -> Table:
    """Returns the table in a CSV file with a header, in UTF-8, UTF-16 or UTF-32.

    Commas, semicolons, tabs or bars part its columns, as its header or a line `sep=;` before it says. Empty rows,
    columns without a name and content, and a first column that only numbers the rows are left out.

    Args:
        file: The file.
        cure: What to do where it cannot be opened, for the error.

    Raises:
        DataError: If it cannot be read, is no CSV file, or a row has another number of columns than the header; names
            the line.
    """
    rows: list[Row] = []
    line = 1
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))  # of the whole process: never lowered
    try:
        with file.open(newline="", encoding=_encoding(file)) as text:
            delimiter, skipped = _delimiter(text)
            line = 1 + skipped
            reader = csv.reader(text, strict=True, skipinitialspace=delimiter == ",", delimiter=delimiter)
            header = tuple(name.strip() for name in next(reader, []))
            line = reader.line_num + 1 + skipped
            for cells in reader:
                if cells and not header:
                    raise DataError(
                        f"{file}, line {1 + skipped}: is blank; it must name the columns, separated by commas"
                    )
                if len(cells) not in (0, len(header)):
                    raise DataError(f"{file}, line {line}: {len(cells)} columns, the header has {len(header)}; mend it")
                if any(cell.strip() for cell in cells):
                    stripped = (cell.strip() for cell in cells)
                    rows.append(Row(file, line, dict(zip(header, stripped, strict=True))))
                line = reader.line_num + 1 + skipped  # where the next row begins; a quoted cell may hold newlines
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); {cure}") from None
    except UnicodeError:
        raise DataError(f"{file}: is not UTF-8 text; save it as CSV in UTF-8") from None
    except csv.Error as error:
        if "field limit" in str(error):
            raise DataError(
                f"{file}, line {line}: a cell has more than {csv.field_size_limit()} characters; close its quotes if "
                "they are open, or leave out the column"
            ) from None
        raise DataError(f"{file}, line {line}: is not CSV ({error}); mend it") from None
    return _without_idle_columns(Table(file, header, tuple(rows)))


def _without_idle_columns(table: Table) -> Table:
    """Returns a table without the numbers of its rows, and without columns that have neither a name nor content."""
    idle = {""} if not any(row.cells.get("") for row in table.rows) else set()
    first = table.header[0] if table.header else "path"
    if first in _INDEX_NAMES and all(row.cells[first].isdecimal() for row in table.rows):
        idle.add(first)
    if table.header.count("") > 1 or not idle.intersection(table.header) or not table.rows:
        return table
    return table.without(idle)


def _encoding(file: Path) -> str:
    """Returns the encoding of a text, told by its byte order mark, or by the zeros of UTF-16 beside plain letters.

    Raises:
        DataError: If it begins as a file of another kind does.
    """
    with file.open("rb") as content:
        beginning = content.read(BEGINNING_BYTES)
    if what := what_instead(beginning, "table"):
        raise DataError(f"{file}: {what}")
    start = beginning[:4]
    if start in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return "utf-32"
    if kind := next((kind for magic, kind in _OTHER_FILES if start.startswith(magic)), None):
        raise DataError(f"{file}: is {kind}, not CSV; save or export it as CSV in UTF-8")
    if start[:2] in _ENCODINGS:
        return _ENCODINGS[start[:2]]
    if len(start) == 4 and start[1::2] == b"\0\0" and b"\0" not in start[::2]:
        return "utf-16-le"
    if len(start) == 4 and start[::2] == b"\0\0" and b"\0" not in start[1::2]:
        return "utf-16-be"
    return "utf-8-sig"


def _delimiter(text: TextIO) -> tuple[str, int]:
    """Returns what stands between the columns, and how many lines stand before the header.

    That is what parts the header into most columns, or what a first line `sep=;` says. The text is left at the header.
    """
    first = text.readline(_LONGEST_HEADER)
    said = re.fullmatch(r"sep=(.)\s*", first)
    if said:
        return said[1], 1
    text.seek(0)
    return max(_DELIMITERS, key=lambda delimiter: _columns(first, delimiter)), 0


def _columns(header: str, delimiter: str) -> int:
    """Returns how many columns a line has with a delimiter; none where it cannot be read so."""
    try:
        return len(next(csv.reader([header], strict=True, delimiter=delimiter), []))
    except csv.Error:
        return 0

"""Decisions of a worklist brought back: a new table of the data set, whose own files stay as they are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.label_table import ListedFiles, Row, read_table, states_of
from cnn_perception.label_text import NONE_OF_THESE, SEPARATOR
from training.data.records import Listing
from training.data.sources import table_of
from training.data_set import classes, columns
from training.data_set.table import DataSetTable
from training.label_errors.options import Skipped
from training.label_errors.worklist import label_cells, label_columns, relative
from training.tasks.by_name import task_of

Cells = Mapping[str, str]


@dataclass(frozen=True)
class Corrected:
    """A corrected table, and what was done.

    Attributes:
        table: It.
        counts: How many images, by what became of them.
    """

    table: DataSetTable
    counts: Mapping[str, int]

    def in_words(self) -> str:
        """Returns what was done, as a line."""
        told = ", ".join(f"{count} {what}" for what, count in self.counts.items() if count)
        return f"{self.table.file}: {len(self.table.rows)} images; {told or 'nothing was decided'}"


def corrected(listing: Listing, sources: Sequence[Path], worklist: Path, output: Path, skipped: Skipped) -> Corrected:
    """Returns the table of a data set with the labels that were decided in a worklist.

    Args:
        listing: The data set.
        sources: What it was read from: tables, whose other columns and rows stay, or folders.
        worklist: The table with the decisions; rows without one change nothing.
        output: Where the new table is going to lie.
        skipped: What becomes of images that were left out on purpose.

    Raises:
        ConfigError: If there is a file at the output already.
        DataError: If a table cannot be used; it names the line.
    """
    if os.path.lexists(output):
        raise ConfigError(f"{output}: is there already; choose another --output")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"{output}: its folder is not there; make it or choose another --output")
    left = _decided(worklist, listing)
    whole = _whole(listing, sources, output, left)
    rows = []
    counts = Counter[str]()
    for path, cells in whole.rows:
        what, new = _applied(cells, left.pop(path, None), listing, whole.header, skipped)
        counts[what] += 1
        rows += [new] if new is not None else []
    if left:
        row = next(iter(left.values()))
        raise row.wrong(columns.PATH, f"{row.cells[columns.PATH][:200]!r} is no image of {listing.source}; mend it")
    del counts[""]
    return Corrected(DataSetTable(output, whole.header, tuple(rows)), dict(counts))


@dataclass(frozen=True)
class _Whole:
    """All images of a data set as rows of one table: the real file of each, and its cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[Path, Cells], ...]


def _whole(listing: Listing, sources: Sequence[Path], output: Path, decided: Collection[Path]) -> _Whole:
    """The rows of the tables as they are, then the images that no table names."""
    tables = [table for table in map(table_of, sources) if table is not None]
    found = _once([row for table in tables for row in _of_table(table, listing, output)], listing, decided)
    named = {path for path, _ in found}
    found += [row for row in _of_folders(listing, output) if row[0] not in named]
    header = tuple(dict.fromkeys(name for _, cells in found for name in cells))
    parts: dict[Path, str] = {sample.path.resolve(): sample.part for sample in listing.samples}
    rows = ((path, {**_unsaid(header, parts.get(path)), **cells}) for path, cells in found)
    return _Whole(header, tuple(rows))


def _once(rows: Sequence[tuple[Path, Cells]], listing: Listing, decided: Collection[Path]) -> list[tuple[Path, Cells]]:
    """Each image once: of several rows the first that has a label, its gaps filled with what the others say.

    Raises:
        DataError: If rows of one image have labels that differ, and nobody has decided on it.
    """
    of_image: dict[Path, list[Cells]] = {}
    for path, cells in rows:
        of_image.setdefault(path, []).append(cells)
    return [(path, _joined(path, said, listing, path in decided)) for path, said in of_image.items()]


def _joined(path: Path, said: Sequence[Cells], listing: Listing, is_decided: bool) -> Cells:
    label = [name for name in (*label_columns(listing), *listing.class_names) if any(name in cells for cells in said)]
    states = states_of(said, label)
    labelled = [cells for cells, state in zip(said, states, strict=True) if state == "labelled"]
    labels = [{name: cells[name] for name in label if name in cells} for cells in labelled]
    if not is_decided and any(not _agree(labels[0], other) for other in labels):
        raise DataError(
            f"{path}: is labelled {_in_words(labels[0])} by one row and otherwise by another; mend one, or decide on "
            "it in the worklist"
        )
    first = (labelled or said)[0]
    decisive = {columns.STATE, *label}
    more = {name: text for cells in reversed(said) for name, text in cells.items() if text and name not in decisive}
    return {**more, **{name: text for name, text in first.items() if text or name not in more}}


def _agree(one: Cells, other: Cells) -> bool:
    return all(_same(one[name], other[name]) for name in one.keys() & other.keys())


def _in_words(label: Cells) -> str:
    return ", ".join(f"{name} {text!r}" for name, text in label.items())


def _unsaid(header: Sequence[str], part: str | None) -> Cells:
    """Cells of an image whose own source lacks columns that another has; it has a part if it is labelled."""
    known = {columns.STATE: "labelled", columns.PART: part, "split": part} if part else {}
    return {name: known.get(name) or "" for name in header}


def _of_folders(listing: Listing, output: Path) -> Iterator[tuple[Path, Cells]]:
    has_parts = len({sample.part for sample in listing.samples}) > 1
    for sample in listing.samples:
        cells = {columns.PATH: relative(sample.path, output.parent), **label_cells(listing, sample)}
        yield sample.path.resolve(), cells | ({columns.PART: sample.part} if has_parts else {})


def _of_table(source: Path, listing: Listing, output: Path) -> Iterator[tuple[Path, Cells]]:
    table = read_table(source, "mend --data").naming(columns.PATH)
    if task_of(listing.task).one_class:
        table = table.naming(columns.CLASS)
    files = ListedFiles((source.parent,))
    moves = source.absolute().parent.resolve() != output.absolute().parent.resolve()
    for row in table.rows:
        path = files.find(row)
        if path is None:
            raise row.wrong(columns.PATH, f"{row.cells[columns.PATH][:200]!r} is no file; mend it")
        yield path.resolve(), {**row.cells, **({columns.PATH: relative(path, output.parent)} if moves else {})}


def _decided(worklist: Path, listing: Listing) -> dict[Path, Row]:
    """The rows of a worklist that somebody has decided, by their real file."""
    table = read_table(worklist, "give the worklist that training.label wrote").naming(columns.PATH)
    needed = (columns.PATH, columns.STATE, *label_columns(listing))
    if missing := [name for name in needed if name not in table.header]:
        raise DataError(f"{worklist}, line 1: has no column {missing[0]!r}; give the worklist that --labels wrote")
    known = {*listing.class_names, NONE_OF_THESE, *_more_classes(worklist)}
    files = ListedFiles((worklist.parent,))
    found = {}
    for row in table.rows:
        if not row.cells[columns.STATE]:
            continue
        path = files.find(row)
        if path is None:
            raise row.wrong(columns.PATH, f"{row.cells[columns.PATH][:200]!r} is no file; mend it")
        _check(row, listing, known)
        found[path.resolve()] = row
    return found


def _more_classes(worklist: Path) -> Sequence[str]:
    """The classes that could be chosen, of the file beside the worklist."""
    try:
        return classes.read(worklist.parent)
    except DataError:
        return ()


def _check(row: Row, listing: Listing, known: set[str]) -> None:
    """Raises DataError where a decision cannot be meant."""
    state = row.cells[columns.STATE]
    if state not in columns.STATES:
        raise row.wrong(columns.STATE, f"{state!r} is none of {', '.join(filter(None, columns.STATES))}; mend it")
    if state == "skipped":
        return
    if task_of(listing.task).least_squares:
        for name in label_columns(listing):
            _require_number(row, name)
        return
    (column,) = label_columns(listing)
    chosen = _listed(row.cells[column]) if column == columns.CLASSES else [row.cells[column]]
    if unknown := [name for name in chosen if name not in known]:
        said = f"{unknown[0]!r} is no class of {listing.source}" if unknown[0] else "is empty, though labelled"
        raise row.wrong(column, f"{said}; mend it")


def _require_number(row: Row, name: str) -> None:
    try:
        float(row.cells[name])
    except ValueError:
        raise row.wrong(name, f"{row.cells[name]!r} is no number; mend it") from None


def _listed(cell: str) -> list[str]:
    return [name.strip() for name in cell.replace("|", SEPARATOR).split(SEPARATOR) if name.strip()]


def _applied(
    cells: Cells, decision: Row | None, listing: Listing, header: Sequence[str], skipped: Skipped
) -> tuple[str, Cells | None]:
    """What became of an image, in words that are empty where nothing was decided, and its new cells; None drops it."""
    if decision is None:
        return "", cells
    if decision.cells[columns.STATE] == "skipped":
        return ("skipped and left out", None) if skipped == "drop" else ("skipped and kept", cells)
    new = _new_cells(decision, listing, header)
    if columns.STATE in header:
        new[columns.STATE] = "labelled"
    changed = any(not _same(cells[name], value) for name, value in new.items() if name != columns.STATE)
    nothing = NONE_OF_THESE in new.values()
    what = f"now {NONE_OF_THESE!r}" if changed and nothing else "labels changed" if changed else "labels confirmed"
    return what, {**cells, **new} if changed or columns.STATE in header else cells


def _new_cells(decision: Row, listing: Listing, header: Sequence[str]) -> dict[str, str]:
    """The cells of the label that was decided, in the columns that the data set has."""
    names = label_columns(listing)
    if all(name in header for name in names):
        return {name: decision.cells[name] for name in names}
    shown = _listed(decision.cells[columns.CLASSES])  # where each class has a column of 0 and 1
    return {name: str(int(name in shown)) for name in listing.class_names}


def _same(one: str, other: str) -> bool:
    """Whether two cells say the same: in whatever order, with however many digits."""
    if sorted(_listed(one)) == sorted(_listed(other)):
        return True
    try:
        return float(f"{float(one):.9g}") == float(f"{float(other):.9g}")
    except ValueError:
        return False

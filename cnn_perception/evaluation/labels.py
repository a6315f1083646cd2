"""The known answers for a recording over time: intervals with classes, or numbers measured at times."""

from __future__ import annotations

import bisect
import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from cnn_perception.errors import DataError
from cnn_perception.label_table import Row, Table, read_table
from cnn_perception.label_text import UNLABELLED, Truth
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.registry import task_of

LARGEST_GAP_S = 0.5
"""A frame farther than this from every measurement is unlabelled."""

_TIME = "time_s"

_COLUMNS = ("start_s", "end_s", "class")
_FOREVER_NS = 2**63 - 1


@dataclass(frozen=True)
class Interval:
    """The scene is `truth` from `start_ns` (included) to `end_ns` (excluded), nanoseconds."""

    start_ns: int
    end_ns: int
    truth: Truth


@dataclass(frozen=True)
class Labels:
    """Intervals that do not overlap, sorted by time; the gaps between them are unlabelled."""

    intervals: tuple[Interval, ...]

    def at(self, time_ns: int) -> Truth | None:
        """Returns the class, or classes, at a time; None in a gap."""
        index = bisect.bisect_right(self.intervals, time_ns, key=lambda interval: interval.start_ns) - 1
        if index < 0 or time_ns >= self.intervals[index].end_ns:
            return None
        return self.intervals[index].truth

    def unused(self, times_ns: Iterable[int]) -> tuple[Interval, ...]:
        """Returns the intervals in which none of these times lies."""
        starts = [interval.start_ns for interval in self.intervals]
        used = {bisect.bisect_right(starts, time_ns) - 1 for time_ns in times_ns if self.at(time_ns) is not None}
        return tuple(interval for index, interval in enumerate(self.intervals) if index not in used)

    def scored_as(self, spec: ModelSpec, where: str) -> Labels:
        """Returns the labels that can be compared with a model's answers.

        Args:
            spec: The model, whose task says what a label means.
            where: Names the origin of the labels in messages.

        Returns:
            The intervals without those of `UNLABELLED`.

        Raises:
            DataError: If a label is no class of the model.
        """
        task = task_of(spec.task)
        kept = []
        for interval in self.intervals:
            truth = task.truth_of_text(str(interval.truth), spec.class_names, where)
            if truth is not None:
                kept.append(Interval(interval.start_ns, interval.end_ns, truth))
        return Labels(tuple(kept))


BAG_COLUMN = "bag"


def bag_column(table: Table) -> str | None:
    """Returns what a table calls its column `bag`, in any case; None where it has none.

    Raises:
        DataError: If it has several.
    """
    found = [name for name in table.header if name.casefold() == BAG_COLUMN]
    if len(found) > 1:
        raise DataError(f"{table.file}, line 1: {' and '.join(map(repr, found))} both name the bags; keep one")
    return found[0] if found else None


def bags_of_rows(table: Table) -> tuple[str, ...] | None:
    """Returns what each row calls its bag; None where a table has no column `bag`.

    Raises:
        DataError: If it has several, or a row does not name its bag.
    """
    column = bag_column(table)
    if column is None:
        return None
    for row in table.rows:
        if not row.cells[column]:
            raise row.wrong(column, "is empty; name the bag of the row")
    return tuple(row.cells[column] for row in table.rows)


def rows_of_bag(table: Table, bag: Path | None) -> Table:
    """Returns the rows that are of one bag, where a table says so in its column `bag`; else all.

    Args:
        table: Of labels.
        bag: The bag; None for all rows.

    Raises:
        DataError: If no row is of the bag, or a row does not name its bag.
    """
    names = None if bag is None else bags_of_rows(table)
    if bag is None or names is None:
        return table
    meant = {name for name in set(names) if is_of_bag(name, bag)}
    rows = tuple(row for row, name in zip(table.rows, names, strict=True) if name in meant)
    if not rows:
        raise DataError(
            f"{table.file}: no line is of the bag {bag}; name it in the column {BAG_COLUMN!r}, by its name or its path"
        )
    return Table(table.file, table.header, rows)


def is_of_bag(text: str, bag: Path) -> bool:
    """Returns whether a text names a bag: by the end of its path, with or without the ending of a single file."""
    named = PurePath(os.path.normpath(text)).parts if text else ()
    real = Path(os.path.realpath(bag))
    absolute = Path(os.path.abspath(bag))  # noqa: PTH100 a link keeps its own name
    paths = {real, absolute, *(path.with_name(bag_name(path)) for path in (real, absolute))}
    return bool(named) and any(path.parts[-len(named) :] == named for path in paths)


def bag_name(bag: Path) -> str:
    """Returns the name of a bag: of its folder, or of its only file without the ending."""
    name = Path(os.path.abspath(bag)).name  # noqa: PTH100 of "." too
    for ending in (".zstd", ".mcap", ".db3"):
        name = name.removesuffix(ending) or name
    return name


def read_labels(path: Path, bag: Path | None = None) -> Labels:
    """Returns the intervals of a CSV file with the columns start_s, end_s, class: one a line, in any order.

    Args:
        path: The file.
        bag: Whose rows are meant if the file has a column `bag`; None for all.

    Returns:
        The intervals, in nanoseconds from the same origin as the seconds in the file.

    Raises:
        DataError: If the file is missing or wrong, or intervals of different classes overlap; names the line.
    """
    table = read_table(path, "name a CSV file or a label topic")
    missing = [name for name in _COLUMNS if name not in table.header]
    if missing:
        raise DataError(f"{path}: has no column {', '.join(missing)}; its first line must be {','.join(_COLUMNS)}")
    require_names(table.header, _COLUMNS, str(path))
    lines = [(_interval(row), row.line) for row in rows_of_bag(table, bag).rows]
    if not lines:
        raise DataError(f"{path}: has no intervals; write one a line as {','.join(_COLUMNS)}")
    lines.sort(key=lambda pair: (pair[0].start_ns, pair[0].end_ns))
    for (first, line), (second, other) in itertools.pairwise(lines):
        if second.start_ns < first.end_ns:
            raise DataError(
                f"{path}: the intervals of the lines {line} and {other} overlap; end one before the other starts"
            )
    return Labels(tuple(interval for interval, _ in lines))


def labels_from_changes(changes: Iterable[tuple[int, str]]) -> Labels:
    """Returns the intervals of (time in ns, class) messages: each holds until the next one, the last for ever."""
    ordered = sorted(changes, key=lambda change: change[0])
    ends = [time_ns for time_ns, _ in ordered[1:]] + [_FOREVER_NS]
    return Labels(tuple(Interval(time_ns, end, name) for (time_ns, name), end in zip(ordered, ends, strict=True)))


def _interval(row: Row) -> Interval:
    start_ns = _nanoseconds(row, "start_s")
    end_ns = _nanoseconds(row, "end_s")
    if not start_ns < end_ns:
        start = row.cells["start_s"]
        end = row.cells["end_s"]
        raise row.wrong("end_s", f"the interval ends at {end} s, not after its start at {start} s")
    name = row.cells["class"]
    if not name:
        raise row.wrong("class", f"is empty; write {UNLABELLED!r} for a stretch that is not to be scored")
    return Interval(start_ns, end_ns, name)


def _nanoseconds(row: Row, column: str) -> int:
    seconds = number(row, column)
    if not abs(seconds) < 1e9:
        problem = f"{row.cells[column]!r} is too large; write seconds since the beginning, see --labels-start"
        raise row.wrong(column, problem)
    return round(seconds * 1e9)


@dataclass(frozen=True)
class Measurements:
    """Numbers in the order of the model's.

    Attributes:
        times_ns: Sorted times, nanoseconds.
        values: The numbers at each time; one that is not finite makes its time unlabelled.
    """

    times_ns: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]

    def at(self, time_ns: int) -> tuple[float, ...] | None:
        """Returns the numbers measured nearest in time, of two equally near the earlier; None beyond the gap."""
        best = _nearest(self.times_ns, time_ns)
        return None if best is None or not all(map(math.isfinite, self.values[best])) else self.values[best]

    @property
    def not_finite(self) -> int:
        """How many times have a number that is none, or infinite."""
        return sum(not all(map(math.isfinite, numbers)) for numbers in self.values)

    def unused(self, times_ns: Iterable[int]) -> tuple[int, ...]:
        """Returns the times of measurements that are beyond the gap from all of these times, nanoseconds."""
        frames_ns = sorted(times_ns)
        return tuple(time_ns for time_ns in self.times_ns if _nearest(frames_ns, time_ns) is None)


def _nearest(times_ns: Sequence[int], time_ns: int) -> int | None:
    """Returns the place of the nearest of sorted times, of two equally near the earlier; None beyond the gap."""
    index = bisect.bisect_left(times_ns, time_ns)
    near = range(max(index - 1, 0), min(index + 1, len(times_ns)))
    best = min(near, key=lambda i: abs(times_ns[i] - time_ns), default=None)
    return None if best is None or abs(times_ns[best] - time_ns) > LARGEST_GAP_S * 1e9 else best


def measurements_from_messages(
    rows: Iterable[tuple[int, Mapping[str, float]]], names: Sequence[str], where: str
) -> Measurements:
    """Returns the numbers of a topic in the model's order.

    Messages with none of them, as of a gripper beside the arm on `/joint_states`, are left out if others have some.

    Args:
        rows: (time in ns, number by name); the name is empty where the message has none.
        names: Of the model's numbers.
        where: Names the topic in messages.

    Raises:
        DataError: If a message lacks one of the model's numbers.
    """
    found = []
    ordered = sorted(rows, key=lambda row: row[0])
    ours = [row for row in ordered if not {*names, ""}.isdisjoint(row[1])]
    for time_ns, numbers in ours or ordered:
        if set(numbers) == {""} and len(names) == 1:
            numbers = {names[0]: numbers[""]}
        require_names(numbers, names, where)
        found.append((time_ns, tuple(numbers[name] for name in names)))
    return Measurements(tuple(time_ns for time_ns, _ in found), tuple(values for _, values in found))


def read_measurements(path: Path, names: Sequence[str], bag: Path | None = None) -> Measurements:
    """Returns the numbers in a CSV file with the column time_s and one for each number: a line a time, in any order.

    Args:
        path: The file.
        names: Of the model's numbers.
        bag: As for `read_labels`.

    Raises:
        DataError: If the file is missing or wrong, or says two things of one time; names the lines.
    """
    table = read_table(path, "name a CSV file or a topic of numbers")
    require_names(table.header, (_TIME, *names), str(path))
    rows = [(_nanoseconds(row, _TIME), row.line, _numbers(row, names)) for row in rows_of_bag(table, bag).rows]
    if not rows:
        raise DataError(f"{path}: has no line of numbers; write them as {','.join((_TIME, *names))}")
    rows.sort()
    for (first_ns, line, values), (second_ns, other, others) in itertools.pairwise(rows):
        if first_ns == second_ns and values != others:
            raise DataError(
                f"{path}: the lines {line} and {other} give different numbers at {first_ns / 1e9:g} s; remove one"
            )
    return Measurements(tuple(time_ns for time_ns, _, _ in rows), tuple(values for _, _, values in rows))


def _numbers(row: Row, names: Sequence[str]) -> tuple[float, ...]:
    return tuple(number(row, name) for name in names)


def number(row: Row, column: str) -> float:
    """Returns the number in one cell of a table.

    Raises:
        DataError: If it is no finite number; names the line.
    """
    text = row.cells[column]
    try:
        value = math.nan if "_" in text else float(text)  # Python takes 1_5 for 15
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        cure = "; write it with a point, as 0.5" if "," in text else ""
        raise row.wrong(column, f"{text!r} is not a number{cure}")
    return value


def require_names(found: Iterable[str], names: Sequence[str], where: str) -> None:
    """Checks that everything the model needs is there, and only once.

    Raises:
        DataError: Names what is missing, what there is, and what the model needs.
    """
    there = [name for name in found if name]
    missing = [name for name in names if name not in there]
    if twice := [name for name in names if there.count(name) > 1]:
        raise DataError(f"{where}: has {twice[0]!r} twice; rename one")
    if missing:
        raise DataError(
            f"{where}: has no {', '.join(map(repr, missing))}; it has {', '.join(map(repr, there)) or 'no names'}, "
            f"the model needs {', '.join(map(repr, names))}"
        )

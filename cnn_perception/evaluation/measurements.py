"""What a regression model should have answered, and when: numbers measured beside a recording."""

from __future__ import annotations

import bisect
import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.errors import DataError

LARGEST_GAP_S = 0.5
"""A frame farther than this from every measurement is unlabelled."""

_TIME = "time_s"


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
        index = bisect.bisect_left(self.times_ns, time_ns)
        near = range(max(index - 1, 0), min(index + 1, len(self.times_ns)))
        best = min(near, key=lambda i: abs(self.times_ns[i] - time_ns), default=None)
        if best is None or abs(self.times_ns[best] - time_ns) > LARGEST_GAP_S * 1e9:
            return None
        return self.values[best] if all(map(math.isfinite, self.values[best])) else None


def from_messages(rows: Iterable[tuple[int, Mapping[str, float]]], names: Sequence[str], where: str) -> Measurements:
    """Orders the numbers of a topic as the model's.

    Args:
        rows: (time in ns, number by name); the name is empty where the message has none.
        names: Of the model's numbers.
        where: Names the topic in messages.

    Raises:
        DataError: If a message lacks one of the model's numbers.
    """
    found = []
    for time_ns, numbers in sorted(rows, key=lambda row: row[0]):
        if set(numbers) == {""} and len(names) == 1:
            numbers = {names[0]: numbers[""]}
        require_names(numbers, names, where)
        found.append((time_ns, tuple(numbers[name] for name in names)))
    return Measurements(tuple(time_ns for time_ns, _ in found), tuple(values for _, values in found))


def read_measurements(path: Path, names: Sequence[str]) -> Measurements:
    """Reads a CSV file with the column time_s and one for each of the model's numbers, a line a time, in any order.

    Raises:
        DataError: If the file is missing or wrong; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            require_names(reader.fieldnames or (), (_TIME, *names), str(path))
            rows = sorted(
                (number(row, _TIME, where) * 1e9, tuple(number(row, name, where) for name in names))
                for row, where in ((row, f"{path}:{reader.line_num}") for row in reader)
            )
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name a CSV file or a topic of numbers") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no UTF-8 CSV file ({error})") from None
    if not rows:
        raise DataError(f"{path}: has no line of numbers; write them as {','.join((_TIME, *names))}")
    return Measurements(tuple(round(time_ns) for time_ns, _ in rows), tuple(values for _, values in rows))


def number(row: Mapping[str, str | None], column: str, where: str) -> float:
    """Reads one field of a CSV line; `where` names the line.

    Raises:
        DataError: If it is no finite number.
    """
    try:
        value = float(row[column] or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {column} is {row[column]!r}, not a number")
    return value


def require_names(found: Iterable[str], names: Sequence[str], where: str) -> None:
    """Checks that everything the model needs is there.

    Raises:
        DataError: Names what is missing, what there is, and what the model needs.
    """
    there = [name for name in found if name]
    missing = [name for name in names if name not in there]
    if missing:
        raise DataError(
            f"{where}: has no {', '.join(map(repr, missing))}; it has {', '.join(map(repr, there)) or 'no names'}, "
            f"the model needs {', '.join(map(repr, names))}"
        )

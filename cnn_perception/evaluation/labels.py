"""What is really to be seen in a recording, and when: time intervals with a class, or with several."""

from __future__ import annotations

import bisect
import csv
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.errors import DataError
from cnn_perception.label_text import UNLABELLED, Truth
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.registry import task_of

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

    def scored_as(self, spec: ModelSpec, where: str) -> Labels:
        """Keeps what can be compared with a model's answers.

        Args:
            spec: The model, whose task says what a label means.
            where: Names the origin of the labels in messages.

        Returns:
            The intervals without those of `UNLABELLED`.

        Raises:
            DataError: If a label is no class of the model.
        """
        task = task_of(spec.task)
        parsed = ((i, task.truth_of_text(str(i.truth), spec.class_names, where)) for i in self.intervals)
        return Labels(tuple(Interval(i.start_ns, i.end_ns, truth) for i, truth in parsed if truth is not None))


def read_labels(path: Path) -> Labels:
    """Reads a CSV file with the columns start_s, end_s, class: an interval a line, in any order.

    Returns:
        The intervals, in nanoseconds from the same origin as the seconds in the file.

    Raises:
        DataError: If the file is missing or wrong, or intervals of different classes overlap; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}: has no column {', '.join(missing)}; its first line must be {','.join(_COLUMNS)}"
                )
            lines = [(_interval(row, f"{path}:{reader.line_num}"), reader.line_num) for row in reader]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name a CSV file or a label topic") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no UTF-8 CSV file ({error})") from None
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
    """Makes intervals of (time in ns, class) messages: each holds until the next one, the last for ever."""
    ordered = sorted(changes, key=lambda change: change[0])
    ends = [time_ns for time_ns, _ in ordered[1:]] + [_FOREVER_NS]
    return Labels(tuple(Interval(time_ns, end, name) for (time_ns, name), end in zip(ordered, ends, strict=True)))


def _interval(row: dict[str, str], where: str) -> Interval:
    times = []
    for column in _COLUMNS[:2]:
        try:
            seconds = float(row[column])
        except (TypeError, ValueError):
            seconds = math.nan
        if not abs(seconds) < 1e9:
            raise DataError(f"{where}: {column} is {row[column]!r}, not a number of seconds")
        times.append(round(seconds * 1e9))
    if not times[0] < times[1]:
        raise DataError(f"{where}: the interval ends at {row['end_s']} s, not after its start at {row['start_s']} s")
    name = (row["class"] or "").strip()
    if not name:
        raise DataError(f"{where}: class is empty; write {UNLABELLED!r} for a stretch that is not to be scored")
    return Interval(times[0], times[1], name)

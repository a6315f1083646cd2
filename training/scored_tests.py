"""Remembers in a run's folder when the test part was scored: from the second time on it is no longer unseen."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Sequence
from pathlib import Path

from cnn_perception.errors import DataError
from training.run_files import write_csv

FILE = "test_part_scored.csv"
_COLUMNS = ("time", "checkpoint", "data", "data_sha256")


def note(checkpoints: Sequence[Path], data: Sequence[Path], data_sha256: str) -> list[str]:
    """Notes beside each checkpoint that it is scored on the test part of a data set now.

    Args:
        checkpoints: Files of runs.
        data: The folders and tables of the data set; it is known again by its place, or by its content.
        data_sha256: Digest of its names, labels and contents.

    Returns:
        What should be known of it, a line for each folder: when that happened before, or that it cannot be noted.
    """
    said = []
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(" ", "minutes")
    place = ", ".join(str(path.absolute()) for path in data)
    for folder in dict.fromkeys(path.absolute().parent for path in checkpoints):
        names = [path.name for path in checkpoints if path.absolute().parent == folder]
        try:
            rows = _read(folder / FILE)
            write_csv(folder / FILE, _COLUMNS, [*rows, *((now, name, place, data_sha256) for name in names)])
        except DataError as error:
            said.append(f"beware: that the test part was scored cannot be noted: {error}")
            continue
        times = [row[0] for row in rows if place == row[2] or data_sha256 == row[3]]
        if times:
            often = f"{len(times)} times, last" if len(times) > 1 else "once,"
            said.append(
                f"beware: for the run in {folder} the test part has been scored before, {often} on {times[-1]}: it is "
                "no longer unseen, and what was chosen by it looks too good"
            )
    return said


def _read(path: Path) -> list[list[str]]:
    """Returns the rows so far.

    Raises:
        DataError: If something else is there.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error):
        header, rows = [], []
    if tuple(header) != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
        raise DataError(f"{path}: is no table of these times; move it away")
    return rows

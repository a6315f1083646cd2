"""Sets of images to be labelled, and the page of one, served by this process."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_perception.local_page.server import LocalPage
from training.label.answers import Answers, OneClass
from training.label.server import application
from training.label.session import Session
from training.label.worklist import Worklist


def write_set(folder: Path, rows: Sequence[Mapping[str, str]], classes: Sequence[str] = ()) -> Path:
    """Writes a set with a small picture for each row that names one; returns its table."""
    (folder / "images").mkdir(parents=True)
    for number, row in enumerate(rows):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / row["path"])
    if classes:
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return write_table(folder / "labels.csv", rows)


def write_table(file: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def rows_of(count: int, **cells: str) -> list[dict[str, str]]:
    """Rows of images that nobody has labelled, the first with the most doubt."""
    return [
        {"path": f"images/{number:03}.png", "class": "", "doubt": f"{1 - number / count:.4f}", **cells}
        for number in range(count)
    ]


def read_cells(table: Path, column: str) -> dict[str, str]:
    """What stands in a column, by path, as Python's own reader of CSV files finds it."""
    with table.open(newline="", encoding="utf-8") as text:
        return {row["path"]: row[column] for row in csv.DictReader(text)}


def session_of(table: Path, answers: Answers | None = None, person: str = "") -> Session:
    return Session(Worklist(table, answers or OneClass(), person))


@contextmanager
def served(session: Session, answers: Answers | None = None) -> Iterator[LocalPage]:
    """Serves the page of a session by a thread."""
    page = LocalPage()
    app = application(session, answers or OneClass(), "a set")
    thread = threading.Thread(target=page.serve, args=(app,))
    thread.start()
    try:
        yield page
    finally:
        page.stop()
        thread.join()

"""What becomes of a table that somebody else has written meanwhile: a spreadsheet, or a program that adds images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from training.data_set.columns import PATH, STATE
from training.data_set.table import DataSetTable


@dataclass(frozen=True)
class Merged:
    """What two programs have made of a table.

    Attributes:
        table: Of both.
        news: What is to be said of it; empty where nothing that matters here has changed.
        has_lost: Whether the file lacks decisions that this table has.
    """

    table: DataSetTable
    news: str
    has_lost: bool


def merged(ours: DataSetTable, theirs: DataSetTable, decided: Collection[str], columns: Collection[str]) -> Merged:
    """Returns the other's table, with those of our decisions that it has lost.

    Every decision was in the file before the other wrote it. So what the other says is newer and is taken, but for
    decisions of which it says nothing: it had read the file before they were made.

    Args:
        ours: As it was written last.
        theirs: As it is in the file.
        decided: Paths of the rows that were decided here.
        columns: Which a decision fills in.
    """
    before = {row[PATH]: row for row in ours.rows}
    counts: Counter[str] = Counter()
    rows = []
    for row in theirs.rows:
        known = before.pop(row[PATH], None)
        if known is None:
            counts["new"] += 1
        elif row[PATH] in decided and known[STATE] and not row[STATE]:
            row = {**row, **{name: known[name] for name in columns}}
            counts["kept"] += 1
        elif any(known[name] != row[name] for name in columns):
            counts["other"] += 1
        rows.append(row)
    counts["gone"] = len(before)
    table = DataSetTable(theirs.file, theirs.header, tuple(rows))
    return Merged(table, _in_words(counts), has_lost=counts["kept"] > 0)


def _in_words(counts: Counter[str]) -> str:
    words = {
        "new": "images are new",
        "gone": "are gone",
        "other": "have another label now",
        "kept": "had lost their label, which is kept",
    }
    told = [f"{counts[kind]} {text}" for kind, text in words.items() if counts[kind]]
    return f"the table was changed by another program: {', '.join(told)}" if told else ""

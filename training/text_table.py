"""Tables in the terminal: columns as wide as what stands in them, so that two never run together."""

from __future__ import annotations

from collections.abc import Sequence

from cnn_perception.errors import printable


def text_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table: the first column to the left, all others to the right, two blanks between.

    What a terminal cannot print, as it may occur in the name of a file or a class, is written as an escape.

    Args:
        rows: Its cells, the heading first; all rows are of one length.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [_line(row, widths) for row in shown]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = f"{row[0]:<{widths[0]}}"
    others = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
    return "  ".join((first, *others)).rstrip()

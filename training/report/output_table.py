"""A table of figures, a row for each output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class OutputTable:
    """The figures of each class or number.

    Attributes:
        template: What shows it.
        unit: What was scored, such as `val images`.
        columns: Names of the figures.
        rows: (name of the output, its figures).
    """

    template: ClassVar[str] = "output_table.html"
    unit: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]

"""What the labels of a CSV file are read from: its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.errors import ConfigError
from cnn_perception.label_table import Row

RESERVED = ("path", "class", "classes", "part", "split", "group", "bag")
"""Columns that have a meaning of their own, and are no class or number."""


@dataclass(frozen=True)
class LabelledTable:
    """The rows of a CSV file, and which of its columns the user names as numbers, each `name` or `name:unit`."""

    file: Path
    header: Sequence[str]
    rows: Sequence[Row]
    targets: Sequence[str]

    def without(self, columns: str, choice: str) -> ConfigError:
        """Returns the error that there are no such columns to be learned."""
        return ConfigError(
            f"--task {choice}: {self.file} has no column {columns}; add it, or say what to learn by --targets or "
            "--task multilabel"
        )

    def require_no_targets(self, task: str) -> None:
        """Raises ConfigError if the user names numbers for a task that has none."""
        if self.targets:
            raise ConfigError(f"--targets: names numbers, but --task is {task}; leave one of them out")


@dataclass(frozen=True)
class TableLabels:
    """What is to be learned from a table.

    Attributes:
        names: The K classes or numbers.
        units: Of each number; empty for classes.
        of: Label and values of a row, see `data.records.Sample`.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    of: Callable[[Row], tuple[int, tuple[float, ...]]]

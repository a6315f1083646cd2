"""The command as it is run."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from training.collect import command

Run = Callable[..., tuple[int, list[dict[str, str]]]]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "set"


@pytest.fixture
def collect(output: Path) -> Run:
    """Runs the command; returns its exit code and the rows of the table, none without one."""

    def run(*words: object) -> tuple[int, list[dict[str, str]]]:
        code = command.main([*map(str, words), "--output", str(output)])
        table = output / "labels.csv"
        if not table.is_file():
            return code, []
        with table.open(newline="") as file:
            return code, list(csv.DictReader(file))

    return run

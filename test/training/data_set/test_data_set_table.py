"""Owns: the table of a data set. Leaves to others: who fills it (collect, label), what training makes of it (data)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cnn_perception.errors import DataError
from training.data_set.table import DataSetTable, read, state_of


def test_a_table_comes_back_as_it_was_written_with_the_columns_of_others(tmp_path: Path) -> None:
    rows = ({"path": "images/a,b.png", "class": "", "note of somebody": 'said "so"\nhere'},)
    DataSetTable(tmp_path / "labels.csv", ("path", "class", "note of somebody"), rows).write()
    assert read(tmp_path).rows == rows
    with (tmp_path / "labels.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == list(rows)


def test_a_label_of_one_row_leaves_the_others(tmp_path: Path) -> None:
    table = DataSetTable(
        tmp_path / "t.csv", ("path", "class"), ({"path": "a", "class": ""}, {"path": "b", "class": "x"})
    )
    changed = table.with_columns(["state"]).changed(0, {"class": "ant", "state": "labelled"})
    assert [row["class"] for row in changed.rows] == ["ant", "x"]
    assert [row["class"] for row in table.rows] == ["", "x"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"class": "", "state": ""}, ""),
        ({"class": "", "state": "labelled"}, "labelled"),
        ({"class": "ant", "state": "skipped"}, "skipped"),
        ({"class": ""}, ""),
        ({"class": "ant"}, "labelled"),
    ],
)
def test_an_empty_label_is_one_only_where_the_state_says_so(row: dict[str, str], expected: str) -> None:
    assert state_of(row, ["class"]) == expected


def test_a_state_that_there_is_none_is_refused_by_row(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,class,state\na.png,ant,done\n")
    with pytest.raises(DataError, match=r"row 2, column 'state': 'done'"):
        read(tmp_path)

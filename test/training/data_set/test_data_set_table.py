"""Owns: the table of a data set. Leaves to others: who fills it (collect, label), what training makes of it (data)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cnn_perception.errors import DataError
from cnn_perception.label_table import states_of
from training.data import csv_table
from training.data_set.table import DataSetTable, read
from training.label.answers import OneClass
from training.label.worklist import Worklist


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
    ("rows", "expected"),
    [
        ([{"class": "", "state": "labelled"}, {"class": "ant", "state": "skipped"}], ["labelled", "skipped"]),
        ([{"class": "ant"}, {"class": ""}], ["labelled", ""]),
        ([{"class": "ant", "state": ""}, {"class": "", "state": ""}], ["labelled", ""]),  # filled in by hand
        (
            [{"class": "ant", "state": ""}, {"class": "bee", "state": "labelled"}],
            ["", "labelled"],
        ),
        ([{"class": "ant", "state": "", "was": "ant"}, {"class": "", "state": "", "was": ""}], ["", ""]),
    ],
)
def test_states_say_what_is_decided_where_anybody_wrote_one_else_filled_labels(
    rows: list[dict[str, str]], expected: list[str]
) -> None:
    assert states_of(rows, ["class"]) == expected


@pytest.mark.parametrize("header", ["class", "class,state", "class,state,was"])
@pytest.mark.parametrize("second", ["", "labelled", "skipped"])
def test_training_learns_from_the_rows_that_the_page_shows_as_labelled(
    tmp_path: Path, header: str, second: str
) -> None:
    rows = [{"class": "ant", "state": "", "was": "ant"}, {"class": "bee", "state": second, "was": "bee"}]
    rows.append({"class": "", "state": "", "was": ""})
    lines = [",".join([f"{number}.png", *(row[name] for name in header.split(","))]) for number, row in enumerate(rows)]
    (tmp_path / "labels.csv").write_text("\n".join([f"path,{header}", *lines]) + "\n")
    for number in range(3):
        (tmp_path / f"{number}.png").touch()

    shown = Worklist(tmp_path / "labels.csv", OneClass()).read().table.rows
    learned = csv_table.read(tmp_path / "labels.csv", "multiclass", ()).samples

    labelled = [row["path"] for row in shown if row["state"] == "labelled"]
    assert [sample.path.name for sample in learned] == labelled


def test_a_state_that_there_is_none_is_refused_by_row(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,class,state\na.png,ant,done\n")
    with pytest.raises(DataError, match=r"row 2, column 'state': 'done'"):
        read(tmp_path)

"""Owns: a worklist and the way back of its decisions. Leaves to others: which images it lists."""

from __future__ import annotations

import csv
import dataclasses
import os
from pathlib import Path

import pytest
from tiny_images import write_folder

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.label_text import NONE_OF_THESE
from training.check import main
from training.data.load import DataOptions, list_images
from training.label_errors import worklist
from training.label_errors.corrections import corrected
from training.label_errors.record import Finding


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def suspects(folder: Path, source: Path, count: int = 4) -> list[dict[str, str]]:
    """The worklist of the first images of a data set, as its rows."""
    listing = list_images(source, DataOptions())
    findings = [Finding(row, "label", "stop", 0.9 - row / 10, f"reason {row}") for row in range(count)]
    folder.mkdir(exist_ok=True)
    made = worklist.of_findings(folder / worklist.NAME, listing, findings)
    made.write()
    return read(made.file)


def apply(source: Path, decided: Path, output: Path, *more: str) -> int:
    return main(["--data", str(source), "--apply", str(decided), "--output", str(output), *more])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "photos", {"go": 6, "stop": 6})


@pytest.fixture
def table(folder: Path, tmp_path: Path) -> Path:
    rows = [
        {"note": f"n{number}", "path": str(path.relative_to(tmp_path)), "class": path.parent.name}
        for number, path in enumerate(sorted(folder.rglob("*.png")))
    ]
    return write(tmp_path / "labels.csv", rows)


def test_worklist_has_the_contracts_columns_the_worst_first_and_its_images_are_found(folder, tmp_path):
    listing = list_images(folder, DataOptions())
    findings = [
        Finding(3, "blurred", "", 0.2, "soft"),
        Finding(3, "label", "stop", 0.7, "looks like stop"),
        Finding(8, "label", "go", 0.9, "looks like go"),
    ]
    (tmp_path / "out").mkdir()

    worklist.of_findings(tmp_path / "out" / "suspects.csv", listing, findings).write()

    rows = read(tmp_path / "out" / "suspects.csv")
    assert list(rows[0]) == ["path", "class", "state", "was", "guess", "doubt", "reason", "bag"]
    assert [(row["class"], row["state"], row["was"], row["guess"], row["doubt"]) for row in rows] == [
        ("stop", "", "stop", "go", "0.9000"), ("go", "", "go", "stop", "0.7000"),
    ]  # fmt: skip
    assert rows[1]["reason"] == "label: looks like stop; blurred: soft"
    for row, sample in zip(rows, (listing.samples[8], listing.samples[3]), strict=True):
        assert (tmp_path / "out" / row["path"]).samefile(sample.path)


def test_decisions_come_back_into_a_table_and_nothing_else_changes(table, tmp_path, capsys):
    before = table.read_bytes()
    rows = suspects(tmp_path / "out", table, count=5)
    rows[0] |= {"state": "labelled", "class": "stop"}
    rows[1] |= {"state": "labelled", "class": NONE_OF_THESE}
    rows[2] |= {"state": "skipped"}
    rows[3] |= {"state": "labelled"}
    decided = write(tmp_path / "out" / "suspects.csv", rows)

    assert apply(table, decided, tmp_path / "new.csv") == EXIT_OK

    expected = read(table)
    expected[0]["class"] = "stop"
    expected[1]["class"] = NONE_OF_THESE
    del expected[2]
    assert read(tmp_path / "new.csv") == expected
    assert table.read_bytes() == before
    said = capsys.readouterr().out
    for words in (
        "11 images",
        "1 labels changed",
        "1 now 'none of these'",
        "1 skipped and left out",
        "1 labels confirm",
    ):
        assert words in said


def test_skipped_images_are_kept_where_that_is_wanted(table, tmp_path):
    rows = suspects(tmp_path / "out", table)
    rows[2] |= {"state": "skipped", "class": ""}
    decided = write(tmp_path / "out" / "suspects.csv", rows)

    assert apply(table, decided, tmp_path / "new.csv", "--skipped", "keep") == EXIT_OK

    assert read(tmp_path / "new.csv") == read(table)


def test_class_folders_become_a_table_that_training_reads(folder, tmp_path):
    rows = suspects(tmp_path / "out", folder)
    rows[0] |= {"state": "labelled", "class": "stop"}
    decided = write(tmp_path / "out" / "suspects.csv", rows)
    (tmp_path / "elsewhere").mkdir()

    assert apply(folder, decided, tmp_path / "elsewhere" / "new.csv") == EXIT_OK

    listing = list_images(tmp_path / "elsewhere" / "new.csv", DataOptions())
    words = [(sample.path.resolve(), listing.words(sample)) for sample in listing.samples]
    before = list_images(folder, DataOptions())
    expected = [(sample.path.resolve(), before.words(sample)) for sample in before.samples]
    assert words == [(expected[0][0], "stop"), *expected[1:]]


def test_parts_of_a_folder_are_kept(tmp_path):
    root = tmp_path / "photos"
    write_folder(root / "train", {"go": 4, "stop": 4})
    write_folder(root / "val", {"go": 3, "stop": 3}, first_seed=50)
    rows = suspects(tmp_path / "out", root)
    decided = write(tmp_path / "out" / "suspects.csv", rows)

    assert apply(root, decided, tmp_path / "new.csv") == EXIT_OK

    assert sorted(row["part"] for row in read(tmp_path / "new.csv")) == ["train"] * 8 + ["val"] * 6


def test_a_table_in_another_folder_finds_its_images(table, tmp_path):
    decided = write(tmp_path / "done.csv", [dict(row, state="labelled") for row in suspects(tmp_path, table)])
    (tmp_path / "deep" / "er").mkdir(parents=True)

    assert apply(table, decided, tmp_path / "deep" / "er" / "new.csv") == EXIT_OK

    listing = list_images(tmp_path / "deep" / "er" / "new.csv", DataOptions())
    assert len(listing.samples) == 12


@pytest.mark.parametrize("header", ["classes", "flags"])
def test_several_classes_come_back_in_the_columns_that_the_table_has(header, folder, tmp_path):
    paths = [str(path.relative_to(tmp_path)) for path in sorted(folder.rglob("*.png"))]
    cells = {"classes": "wet;dark"} if header == "classes" else {"dark": "1", "wet": "1"}
    source = write(tmp_path / "labels.csv", [{"path": path, **cells} for path in paths])
    task = ["--task", "multilabel"]
    options = DataOptions(task="multilabel")
    listing = list_images(source, options)
    worklist.of_findings(tmp_path / "suspects.csv", listing, [Finding(1, "label", "wet", 0.9, "")]).write()
    rows = read(tmp_path / "suspects.csv")
    assert rows[0]["classes"] == "dark;wet"
    rows[0] |= {"state": "labelled", "classes": "wet"}

    assert apply(source, write(tmp_path / "suspects.csv", rows), tmp_path / "new.csv", *task) == EXIT_OK

    found = read(tmp_path / "new.csv")
    assert found[0] == read(source)[0]
    assert found[1] == {"path": paths[1], **({"classes": "wet"} if header == "classes" else {"dark": "0", "wet": "1"})}


def test_numbers_come_back(folder, tmp_path):
    paths = [str(path.relative_to(tmp_path)) for path in sorted(folder.rglob("*.png"))]
    source = write(tmp_path / "labels.csv", [{"path": path, "angle": "0.25", "speed": "1"} for path in paths])
    targets = ["--targets", "angle:rad"]
    listing = list_images(source, DataOptions(targets=("angle:rad",)))
    worklist.of_findings(tmp_path / "suspects.csv", listing, [Finding(1, "label", "0.5", 0.9, "")]).write()
    (row,) = read(tmp_path / "suspects.csv")
    assert row["angle"] == "0.25"

    decided = write(tmp_path / "suspects.csv", [{**row, "state": "labelled", "angle": "-0.5"}])
    assert apply(source, decided, tmp_path / "new.csv", *targets) == EXIT_OK

    assert [row["angle"] for row in read(tmp_path / "new.csv")] == ["0.25", "-0.5"] + ["0.25"] * 10


def test_odd_names_come_back(tmp_path):
    root = write_folder(tmp_path / "photos", {"a;b, 'c'": 4, "<b>": 4})
    first = root / "<b>" / "00.png"
    first.rename(root / "<b>" / os.fsdecode(b"\xff \n=1.png"))
    rows = suspects(tmp_path / "out", root, count=8)
    decided = write(tmp_path / "out" / "suspects.csv", [dict(row, state="labelled") for row in rows])

    assert apply(root, decided, tmp_path / "new.csv") == EXIT_OK

    listing = list_images(tmp_path / "new.csv", DataOptions())
    assert {sample.path.resolve() for sample in listing.samples} == {path.resolve() for path in root.rglob("*.png")}


WRONG = {
    "a state that there is none": ({"state": "done"}, "column 'state': 'done' is none of labelled, skipped"),
    "a class that there is none": ({"state": "labelled", "class": "halt"}, "'halt' is no class of"),
    "no class": ({"state": "labelled", "class": ""}, "column 'class': is empty, though labelled"),
    "an image that is gone": ({"state": "labelled", "path": "gone.png"}, "'gone.png' is no file"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_decision_that_cannot_be_meant_is_one_line_and_nothing_is_written(kind, table, tmp_path, capsys):
    cells, reason = WRONG[kind]
    rows = suspects(tmp_path / "out", table)
    rows[1] |= cells
    decided = write(tmp_path / "out" / "suspects.csv", rows)

    assert apply(table, decided, tmp_path / "new.csv") == EXIT_BAD_INPUT

    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert "suspects.csv, line 3" in line
    assert not (tmp_path / "new.csv").exists()


def test_a_class_that_was_added_while_labelling_is_taken(table, tmp_path):
    rows = suspects(tmp_path / "out", table)
    rows[0] |= {"state": "labelled", "class": "yield"}
    decided = write(tmp_path / "out" / "suspects.csv", rows)
    (tmp_path / "out" / "classes.txt").write_text("go\nstop\nyield\n")

    assert apply(table, decided, tmp_path / "new.csv") == EXIT_OK

    assert read(tmp_path / "new.csv")[0]["class"] == "yield"


def test_tables_with_other_columns_become_one(folder, tmp_path):
    """A row whose own table has no state is labelled, and keeps the part that it has been given."""
    paths = [str(path.relative_to(tmp_path)) for path in sorted(folder.rglob("*.png"))]
    known = [{"path": path, "class": "go", "state": "labelled", "part": "val"} for path in paths[:3]]
    known.append({"path": paths[3], "class": "go", "state": "", "part": "train"})
    one = write(tmp_path / "one.csv", known)
    other = write(tmp_path / "other.csv", [{"path": path, "class": "stop", "who": "me"} for path in paths[6:]])
    every = list_images(folder, DataOptions())
    first = [dataclasses.replace(sample, part="val") for sample in every.samples[:3]]
    listing = dataclasses.replace(every, samples=(*first, *every.samples[6:]), in_time=True)
    row = suspects(tmp_path / "out", folder)[0]
    decided = write(tmp_path / "out" / "suspects.csv", [{**row, "state": "labelled", "class": "stop"}])

    found = corrected(listing, [one, other], decided, tmp_path / "new.csv", "drop")

    rows = list(found.table.rows)
    assert [(row["class"], row["state"], row["part"], row["who"]) for row in rows[:5]] == [
        ("stop", "labelled", "val", ""), ("go", "labelled", "val", ""), ("go", "labelled", "val", ""),
        ("go", "", "train", ""), ("stop", "labelled", "train", "me"),
    ]  # fmt: skip
    assert len(rows) == 10


def test_an_image_of_another_data_set_is_refused(table, folder, tmp_path, capsys):
    other = write_folder(tmp_path / "other", {"go": 3, "stop": 3})
    rows = [dict(row, state="labelled") for row in suspects(tmp_path / "out", other)]
    decided = write(tmp_path / "out" / "suspects.csv", rows)

    assert apply(table, decided, tmp_path / "new.csv") == EXIT_BAD_INPUT

    assert "is no image of" in capsys.readouterr().err


def test_no_file_is_overwritten(table, tmp_path, capsys):
    rows = suspects(tmp_path / "out", table)
    decided = write(tmp_path / "out" / "suspects.csv", [dict(row, state="labelled") for row in rows])
    before = table.read_bytes()

    assert apply(table, decided, table) == EXIT_BAD_INPUT
    assert apply(table, decided, decided) == EXIT_BAD_INPUT

    assert table.read_bytes() == before
    assert capsys.readouterr().err.count("is there already; choose another --output") == 2


def test_a_table_beside_a_folder_keeps_its_rows_without_a_label_and_its_columns(table, folder, tmp_path):
    other = write_folder(tmp_path / "set", {"images": 4})
    rows = [
        {"path": f"images/0{i}.png", "class": "go" * (i < 2), "state": "labelled" * (i < 2), "bag": "b"}
        for i in range(4)
    ]
    source = write(other / "labels.csv", rows)
    decided = write(tmp_path / "decided.csv", [{"path": "set/images/01.png", "class": "stop", "state": "labelled"}])

    words = ["--data", str(folder), str(other), "--apply", str(decided), "--output", str(tmp_path / "new.csv")]
    assert main(words) == EXIT_OK

    found = read(tmp_path / "new.csv")
    assert [(row["class"], row["state"], row["bag"]) for row in found[:4]] == [
        ("go", "labelled", "b"), ("stop", "labelled", "b"), ("", "", "b"), ("", "", "b"),
    ]  # fmt: skip
    assert [row["state"] for row in found[4:]] == ["labelled"] * 12
    assert read(source) == rows


def test_an_image_of_two_tables_comes_back_once(table, tmp_path, capsys):
    rows = read(table)
    more = [{**row, "part": "val", "class": row["class"] if i else "stop"} for i, row in enumerate(rows[:3])]
    other = write(tmp_path / "more.csv", more)
    decided = tmp_path / "decided.csv"
    both = ["--data", str(table), str(other), "--apply", str(decided), "--output", str(tmp_path / "new.csv")]

    write(decided, [{"path": rows[2]["path"], "class": "", "state": "skipped"}])
    assert main(both) == EXIT_BAD_INPUT
    assert "is labelled class 'go' by one row and otherwise by another" in capsys.readouterr().err
    write(decided, [{"path": row["path"], "class": "stop", "state": "labelled"} for row in rows[:2]])
    assert main(both) == EXIT_OK

    found = read(tmp_path / "new.csv")
    assert [row["path"] for row in found] == [row["path"] for row in rows]
    assert [row["class"] for row in found[:3]] == ["stop", "stop", "go"]
    assert [row["part"] for row in found[:3]] == ["val"] * 3

"""Owns: folders of images and what a perception node's recorder left, in either format, become a data set."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import recording
from PIL import Image
from recording import SHA256, SURE, Recording, packed, prediction, raw
from scenes import scene
from tiny_model import with_unknown

from training.collect import collecting
from training.data import csv_table
from training.data_set.columns import CLASS, STATE
from training.label.answers import OneClass
from training.label.worklist import Worklist


def write_images(folder: Path, numbers, ending: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(scene(number)).save(folder / f"{number:03}{ending}")
    return folder


def test_files_are_kept_as_they_are_and_others_as_png(tmp_path: Path, output: Path, collect) -> None:
    folder = write_images(tmp_path / "shots", [1], ".jpg")
    write_images(folder / "b sub", [2], ".bmp")
    code, rows = collect("--images", folder)

    assert code == 0
    assert [row["path"] for row in rows] == ["images/shots/001.jpg", "images/shots/b_sub/002.png"]
    assert {(row["topic"], row["camera"], row["stamp_ns"]) for row in rows} == {("", "", "")}
    assert (output / rows[0]["path"]).read_bytes() == (folder / "001.jpg").read_bytes()
    with Image.open(output / rows[1]["path"]) as image:
        np.testing.assert_array_equal(np.asarray(image), scene(2))


def test_images_of_one_folder_are_divided_by_chance_and_none_is_taken_twice(tmp_path: Path, collect) -> None:
    folder = write_images(tmp_path / "shots", range(20))
    write_images(folder / "copies", [3, 4])
    _, rows = collect("--images", folder)

    assert len(rows) == 20
    held = [row for row in rows if row["part"] == "val"]
    assert {row["bag"] for row in held} == {"shots_val"}
    assert 3 <= len(held) <= 5
    assert collect("--images", folder) == (0, rows)


def test_names_that_no_other_system_takes_are_made_safe(tmp_path: Path, output: Path, collect) -> None:
    folder = write_images(tmp_path / "d#%?\n é", [1])
    (folder / "001.png").rename(folder / "a b;c?.png")
    _, (row,) = collect("--images", folder)

    assert row["path"] == "images/d_____é/a_b_c_.png"
    assert (output / row["path"]).is_file()


def test_folder_that_changes_while_it_is_read_gives_no_image_under_another_ones_row(
    tmp_path: Path, output: Path, collect, capsys, monkeypatch
) -> None:
    folder = write_images(tmp_path / "shots", range(10, 16))
    original = collecting.place

    def place(*words: object) -> object:
        write_images(folder, [0])  # the first in the order of names
        return original(*words)

    monkeypatch.setattr(collecting, "place", place)
    code, rows = collect("--images", folder)

    assert code == 2
    assert "changed while it was read" in capsys.readouterr().err
    for row in rows:
        number = int(Path(row["path"]).stem)
        with Image.open(output / row["path"]) as image:
            np.testing.assert_array_equal(np.asarray(image), scene(number))


def test_an_empty_folder_is_refused_with_what_there_is(tmp_path: Path, collect, capsys) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")

    assert collect("--images", tmp_path / "empty") == (2, [])
    assert "there is no image in it (there are 1 not an image (.txt))" in capsys.readouterr().err


@pytest.fixture(params=["folder", "bag"])
def recorder(request, tmp_path: Path) -> tuple[str, Path]:
    """What a recorder leaves of a JPEG, a raw picture and a JPEG that is unknown, from two cameras."""
    where = tmp_path / "recorded"
    one = Recording(where, with_unknown(recording.SPEC, 0.0), format=request.param)
    assert one.offer(packed(scene(1)), camera="left", stamp_ns=10)
    assert one.offer(raw(scene(2)), camera="right", stamp_ns=20)
    assert one.offer(packed(scene(3)), prediction(SURE, unknown=True), camera="left", stamp_ns=30)
    one.close()
    return request.param, where


def test_both_formats_of_the_recorder_are_read_with_their_cameras(recorder, output: Path, collect) -> None:
    kind, where = recorder
    code, rows = collect("--recorded", where, "--gap", 0)  # of a bag the time is that of the recording

    assert code == 0
    assert sorted((row["camera"], row["stamp_ns"]) for row in rows) == [("left", "10"), ("left", "30"), ("right", "20")]
    of_stamp = {row["stamp_ns"]: row for row in rows}
    assert (output / of_stamp["10"]["path"]).read_bytes() == packed(scene(1)).data
    with Image.open(output / of_stamp["20"]["path"]) as image:
        np.testing.assert_array_equal(np.asarray(image), scene(2))
    if kind == "folder":
        doubts = {stamp: (row["guess"], float(row["doubt"]), row["model"]) for stamp, row in of_stamp.items()}
        assert doubts == {
            "10": ("ants", 0.875, SHA256), "20": ("ants", 0.875, SHA256), "30": ("none of these", 1.0, SHA256),
        }  # fmt: skip


def test_each_camera_of_a_recorder_is_compared_with_itself(tmp_path: Path, collect) -> None:
    one = Recording(tmp_path / "recorded")
    for number in range(6):  # both stand still
        one.offer(raw(scene(number % 2)), camera=("left", "right")[number % 2], stamp_ns=number)
    one.close()
    _, rows = collect("--recorded", tmp_path / "recorded", "--gap", 0)

    assert [row["camera"] for row in rows] == ["left", "right"]


def recorded_table(where: Path, frames: int) -> Path:
    """What a recorder leaves of some frames; returns its table."""
    one = Recording(where)
    for number in range(frames):
        one.offer(raw(scene(number)), stamp_ns=number)
    one.close()
    return where / SHA256[:12] / "frames.csv"


def edit(table: Path, classes: list[str], states: list[str]) -> None:
    """Fills in classes and states as a person does."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, label, state in zip(rows, classes, states, strict=True):
        row |= {"class": label, "state": state, "topic": "/odd/name"}
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def labels_of(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(row["class"], row["state"]) for row in sorted(rows, key=lambda row: int(row["stamp_ns"]))]


def test_labels_that_a_person_gave_in_the_recorders_table_are_kept_and_odd_ones_are_said(
    tmp_path: Path, collect, capsys
) -> None:
    table = recorded_table(tmp_path / "recorded", 5)
    edit(table, ["bees", "none of these", "", "wolf", "wolf"], [""] * 5)
    (tmp_path / "classes.txt").write_text("ants\nbees\nwasps\n")
    code, rows = collect("--recorded", tmp_path / "recorded", "--classes", tmp_path / "classes.txt")

    assert labels_of(rows) == [("bees", "labelled"), ("none of these", "labelled"), ("", ""), ("", ""), ("", "")]
    assert {row["topic"] for row in rows} == {"/odd/name"}
    assert code == 2
    assert capsys.readouterr().err.count("'wolf'") == 1


@pytest.mark.parametrize(
    "states",
    [["", "", "", ""], ["labelled", "", "", ""], ["", "skipped", "", "labelled"], ["", "", "", "skipped"]],
)
def test_collecting_takes_the_labels_that_the_page_shows_and_says_which_it_leaves(
    tmp_path: Path, collect, capsys, states
) -> None:
    table = recorded_table(tmp_path / "recorded", 4)
    edit(table, ["ants", "bees", "", "ants"], states)
    shown = [(row[CLASS], row[STATE]) for row in Worklist(table, OneClass()).read().table.rows]
    code, rows = collect("--recorded", tmp_path / "recorded")

    assert code == 0
    assert [state for _, state in labels_of(rows)] == [state for _, state in shown]
    assert [name for name, state in labels_of(rows) if state == "labelled"] == [
        name for name, state in shown if state == "labelled"
    ]
    left = sum(bool(name) and not state for name, state in shown)
    assert (f"{left} rows have a label, but nothing in the column 'state'" in capsys.readouterr().out) == (left > 0)


def test_labels_of_the_data_set_without_states_stay_labels_beside_new_rows_with_states(
    tmp_path: Path, output: Path, collect
) -> None:
    write_images(output, [10, 11])
    (output / "labels.csv").write_text("path,class\n010.png,ants\n011.png,\n")
    table = recorded_table(tmp_path / "recorded", 1)
    edit(table, ["bees"], ["labelled"])
    _, rows = collect("--recorded", tmp_path / "recorded")

    assert [(row["class"], row["state"]) for row in rows] == [("ants", "labelled"), ("", ""), ("bees", "labelled")]
    assert [sample.path.name for sample in csv_table.read(output / "labels.csv", "auto", ()).samples] == [
        "010.png",
        "0.png",
    ]


def test_a_table_whose_labels_are_of_another_kind_labels_nothing(tmp_path: Path, collect, capsys) -> None:
    table = recorded_table(tmp_path / "recorded", 3)
    edit(table, ["ants", "bees", "ants"], ["labelled", "labelled", ""])
    (tmp_path / "classes.txt").write_text("ants\nbees\n")
    several = ("--task", "multilabel", "--classes", tmp_path / "classes.txt")
    code, rows = collect("--recorded", tmp_path / "recorded", *several)

    assert code == 2
    assert {(row["classes"], row["state"]) for row in rows} == {("", "")}
    assert capsys.readouterr().err.count("has no column 'classes'") == 1


def test_doubt_of_the_recorders_model_chooses_too(tmp_path: Path, collect) -> None:
    one = Recording(tmp_path / "recorded")
    for number in range(10):
        one.offer(raw(scene(number)), prediction((0.5, 0.3 + 0.01 * number, 0.0)), camera="c", stamp_ns=number)
    one.close()
    _, rows = collect("--recorded", tmp_path / "recorded", "--budget", 3, "--doubt-share", 1, "--val-fraction", 0)

    assert {(row["stamp_ns"], row["reason"]) for row in rows} == {("7", "margin"), ("8", "margin"), ("9", "margin")}

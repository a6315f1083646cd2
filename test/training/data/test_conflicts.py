"""Owns: what becomes of images and classes that contradict each other. Leaves to others: near duplicates."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tiny_images import scene

from cnn_perception.errors import DataError
from training.data.load import DataOptions, load_images


def folder(root: Path, counts: dict[str, int], first: int = 0) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(scene(first + 1000 * number + index, 24, 40)).save(root / name / f"{index:02}.png")
    return root


def load(root: Path, choice: str):
    """Returns the data set, and the findings as (path below the folder, reason, action)."""
    table = root.parent / "findings.csv"
    data = load_images(root, DataOptions(on_conflict=choice), table)
    with table.open(newline="") as file:
        return data, [
            (row["path"].removeprefix(f"{root}/"), row["reason"], row["action"]) for row in csv.DictReader(file)
        ]


def saved_again(source: Path, target: Path) -> None:
    """Writes the same picture as another file."""
    words = PngImagePlugin.PngInfo()
    words.add_text("Comment", "saved again")
    Image.open(source).save(target, pnginfo=words)
    assert source.read_bytes() != target.read_bytes()


def names(data) -> Counter:
    return Counter(sample.path.name for sample in data.samples)


@pytest.mark.parametrize("copy", [shutil.copy, saved_again])
def test_one_picture_under_two_labels_is_an_error_that_lists_it_and_names_the_option(tmp_path, copy):
    root = folder(tmp_path / "d", {"a": 6, "b": 6})
    copy(root / "a" / "03.png", root / "b" / "copy.png")
    with pytest.raises(DataError, match=r"1 images have two labels, first .*copy\.png .*--on-conflict drop or first"):
        load(root, "error")
    rows = list(csv.reader((tmp_path / "findings.csv").open()))
    assert [(row[0].rpartition("/")[2], row[2]) for row in rows[1:]] == [("copy.png", "error")]


@pytest.mark.parametrize("copy", [shutil.copy, saved_again])
def test_all_of_them_or_all_but_the_first_go_where_that_is_wanted(tmp_path, copy):
    root = folder(tmp_path / "d", {"a": 6, "b": 6})
    copy(root / "a" / "03.png", root / "b" / "copy.png")
    copy(root / "a" / "03.png", root / "a" / "copy too.png")

    dropped, findings = load(root, "drop")
    assert names(dropped)["copy.png"] == names(dropped)["copy too.png"] == 0
    assert len(dropped.samples) == 11
    assert sorted((path, action) for path, _, action in findings) == [
        ("a/03.png", "dropped"), ("a/copy too.png", "dropped"), ("b/copy.png", "dropped"),
    ]  # fmt: skip
    assert "3 images dropped: same image under two labels" in dropped.warnings

    first, findings = load(root, "first")
    assert len(first.samples) == 13  # a copy under the same label is no conflict
    assert [(path, action) for path, _, action in findings] == [
        ("a/copy too.png", "warning"),
        ("b/copy.png", "dropped"),
    ]
    assert first.rejected == ()


def test_of_a_picture_in_two_parts_the_one_in_train_is_the_first(tmp_path):
    root = tmp_path / "d"
    folder(root / "train", {"a": 6, "b": 6})
    folder(root / "test", {"a": 4, "b": 4}, first=50)
    shutil.copy(root / "train" / "b" / "03.png", root / "test" / "b" / "leak.png")

    with pytest.raises(DataError, match="1 images are in two parts"):
        load(root, "error")
    first, findings = load(root, "first")
    assert [(path, action) for path, _, action in findings] == [("test/b/leak.png", "dropped")]
    assert Counter(sample.part == "test" for sample in first.samples) == {False: 12, True: 8}
    dropped, findings = load(root, "drop")
    assert {path for path, _, _ in findings} == {"test/b/leak.png", "train/b/03.png"}
    assert Counter(sample.part == "test" for sample in dropped.samples) == {False: 11, True: 8}


@pytest.mark.parametrize("choice", ["drop", "first"])
def test_a_class_without_images_is_an_error_or_goes(tmp_path, choice):
    root = folder(tmp_path / "d", {"a": 6, "b": 6, "empty": 0})
    (root / "empty" / "notes.svg").write_text("<svg/>")
    with pytest.raises(
        DataError, match=r"1 classes have no image, first class 'empty' holds no image \(there are 1 not"
    ):
        load(root, "error")
    data, findings = load(root, choice)
    assert data.class_names == ("a", "b")
    assert findings[0][1:] == ("class without images: class 'empty' holds no image", "dropped")
    assert data.warnings[0] == findings[0][1]


def test_classes_that_a_part_lacks_are_an_error_or_go_or_those_of_train_stay(tmp_path):
    root = tmp_path / "d"
    folder(root / "train", {"a": 6, "b": 6, "Only train": 6})
    folder(root / "val", {"a": 4, "b": 4, "Only val": 4}, first=50)
    with pytest.raises(
        DataError, match="2 classes are missing from a part, first class 'Only train' has no image in val"
    ):
        load(root, "error")

    dropped, findings = load(root, "drop")
    assert dropped.class_names == ("a", "b")
    assert {dropped.class_names[s.label] for s in dropped.samples} == {s.path.parent.name for s in dropped.samples}
    assert [action for _, _, action in findings] == ["dropped", "dropped"]

    first, findings = load(root, "first")
    assert first.class_names == ("Only train", "a", "b")
    assert all(first.class_names[s.label] == s.path.parent.name for s in first.samples)
    assert [action for _, _, action in findings] == ["warning", "dropped"]


def test_pictures_without_a_label_count_as_left_out(tmp_path):
    root = folder(tmp_path / "d", {"a": 10, "b": 10})
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(root / "sheet.png")
    data, findings = load(root, "error")
    assert findings == [("sheet.png", "no label: lies outside the class folders", "left out")]
    assert len(data.rejected) == 1
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(root / "sheet2.png")
    with pytest.raises(DataError, match=r"2 images cannot be used, first .*sheet\.png \(no label"):
        load(root, "error")


def test_a_class_folder_that_is_a_link_to_nothing_is_said(tmp_path):
    root = folder(tmp_path / "d", {"a": 6, "b": 6})
    (root / "cats").symlink_to(tmp_path / "unmounted")
    data = load_images(root, DataOptions())
    assert data.warnings == ("'cats' is a link to nothing, and so no class; mend or remove it",)

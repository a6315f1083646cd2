"""Owns: which folders are parts and which are classes. Leaves to others: what is in the files (test_load)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_images import write_folder

from cnn_perception.errors import DataError
from training.data import image_folder

CLASSES = {"ant": 3, "bee": 3}


@pytest.mark.parametrize(
    "parts",
    [
        "train val test", "Train Test", "TRAIN VAL TEST", "training validation", "training_set test_set",
        "seg_train seg_test", "trainset valid", "images_train images_val", "Training Testing",
    ],
)  # fmt: skip
def test_parts_are_recognised_as_their_makers_name_them(tmp_path: Path, parts: str):
    for name in parts.split():
        write_folder(tmp_path / name, CLASSES)
    found = image_folder.read(tmp_path)
    assert found.class_names == ("ant", "bee")
    assert len(found.given) == len(parts.split())
    assert "train" in found.given
    assert len(found.samples) == 6 * len(parts.split())


def test_parts_may_be_wrapped_in_a_folder_of_their_own_name(tmp_path: Path):
    for name in ("seg_train", "seg_test"):
        write_folder(tmp_path / name / name, CLASSES)
    found = image_folder.read(tmp_path)
    assert (found.class_names, found.given) == (("ant", "bee"), frozenset({"train", "test"}))


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({"seg_train": CLASSES, "seg_test": CLASSES, "seg_pred": {".": 3}}, "holds 'seg_pred' beside seg_train"),
        ({"Train": CLASSES, "other": CLASSES}, "holds 'other' beside Train"),
        ({"val": CLASSES, "valid": CLASSES, "train": CLASSES}, "'val' and 'valid' both name the part val"),
        ({"Valid": CLASSES, "Test": CLASSES}, "holds Valid and Test but no train folder"),
        ({"train": CLASSES, "test": {".": 4}}, "test holds no class folders"),
        ({"train": {".": 4}, "val": {".": 4}}, "train holds no class folders"),
        ({"data/Train": CLASSES, "data/Test": CLASSES}, "use --data .*data"),
    ],
)
def test_what_cannot_be_told_is_refused_by_name(tmp_path: Path, folders: dict, words: str):
    for name, counts in folders.items():
        write_folder(tmp_path / name, counts)
    with pytest.raises(DataError, match=words):
        image_folder.read(tmp_path)


def test_class_may_be_called_train(tmp_path: Path):
    write_folder(tmp_path, {"train": 3, "bus": 3, "car": 3})
    assert image_folder.read(tmp_path).class_names == ("bus", "car", "train")


def test_folders_within_a_class_are_said(tmp_path: Path):
    write_folder(tmp_path, {"plants": 3})
    write_folder(tmp_path / "animals", {"cat": 3, "dog": 3})
    (note,) = image_folder.read(tmp_path).notes
    assert note == "class 'animals' holds folders of images (cat, dog), which are taken as this one class"

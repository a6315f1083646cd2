"""Owns: which folders are parts and which are classes. Leaves to others: what is in the files (test_load)."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tiny_images import COLORS, picture, write_folder

from cnn_perception.errors import DataError
from training.data import image_folder

CLASSES = {"ant": 3, "bee": 3}


@pytest.mark.parametrize(
    "parts",
    [
        "train val test", "Train Test", "TRAIN VAL TEST", "training validation", "training_set test_set",
        "seg_train seg_test", "trainset valid", "images_train images_val", "Training Testing",
        "entrenamiento validación prueba", "Trainingsdaten Testdaten", "训练集 测试集", "train holdout",
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
        ({"train": CLASSES, "test": {".": 4}}, "test holds no class folders; images without a label .* move it away"),
        ({"train": CLASSES, "test": {}}, "test holds no class folders; remove or fill it"),
        ({"images": {"train": 3}, "labels": {"train": 0}}, "images/train holds no class .*YOLO.* write a table"),
        ({"train": {".": 4}, "val": {".": 4}}, "train holds no class folders; .*YOLO.* write a table"),
        ({"images/train": CLASSES, "labels": {"train": 0}}, "one folder below; use --data .*/images"),
        ({"data/Train": CLASSES, "data/Test": CLASSES}, "use --data .*data"),
        ({"ant": {"train": 3, "test": 3}, "bee": {"train": 3, "test": 3}}, "as ant/train does; turn .* in train/ant"),
        ({"a/train": CLASSES, "b/train": CLASSES}, "one folder below; use --data .*/a"),
    ],
)
def test_what_cannot_be_told_is_refused_by_name(tmp_path: Path, folders: dict, words: str):
    for name, counts in folders.items():
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        write_folder(tmp_path / name, {folder: count for folder, count in counts.items() if folder != "."})
        for number in range(counts.get(".", 0)):
            Image.fromarray(picture(COLORS[0], number)).save(tmp_path / name / f"{number}.png")
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


@pytest.mark.parametrize("names", [("fold1", "fold2"), ("photo", "sketch", "drawing"), ("obuka", "provera")])
def test_folders_that_hold_the_same_folders_are_learned_as_classes_only_where_it_is_said(
    tmp_path: Path, names: tuple[str, ...]
):
    for name in names[1:]:
        write_folder(tmp_path / name, CLASSES)
    write_folder(tmp_path / names[0], {**CLASSES, "fly": 2})
    with pytest.raises(DataError, match=rf"{names[1]}.* hold the same folders 'ant', 'bee'.* call them train"):
        image_folder.read(tmp_path)
    assert image_folder.read(tmp_path, classes_said=True).class_names == tuple(sorted(names))


def test_images_of_the_same_names_are_no_folders_and_links_to_a_class_or_part_are_contradictions(tmp_path: Path):
    write_folder(tmp_path, CLASSES)
    assert image_folder.read(tmp_path).class_names == ("ant", "bee")
    (tmp_path / "fly").symlink_to(tmp_path / "bee")
    found = image_folder.read(tmp_path)
    assert [sample.label for sample in found.samples] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    write_folder(tmp_path / "data" / "train", CLASSES)
    (tmp_path / "data" / "val").symlink_to(tmp_path / "data" / "train")
    assert sorted(sample.part for sample in image_folder.read(tmp_path / "data").samples) == ["train"] * 6 + ["val"] * 6


@pytest.mark.parametrize(
    "folders", [{"ant": {"day": 3, "night": 3}, "bee": {"dusk": 3, "dawn": 3}}, {"ant": {"day": 3}, "bee": {"day": 3}}]
)
def test_classes_that_hold_folders_of_their_own_are_classes(tmp_path: Path, folders: dict):
    for name, counts in folders.items():
        write_folder(tmp_path / name, counts)
    assert image_folder.read(tmp_path).class_names == ("ant", "bee")

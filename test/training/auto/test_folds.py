"""Owns: folds of the training part, of images that are read once. Leaves to others: the division (test_split)."""

from __future__ import annotations

import csv
from collections import Counter

import pytest
from tiny_images import write_folder

from cnn_perception.errors import DataError
from training.data import load, scan
from training.data.load import DataOptions, load_folds, load_images

COUNTS = {"go": 12, "stop": 15, "turn": 13}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "signs", COUNTS)


def paths(samples):
    return [sample.path for sample in samples]


def test_each_training_image_is_held_out_once_and_none_of_val_and_test_ever(photos):
    options = DataOptions(test_fraction=0.2)

    whole, folds = load_folds(photos, options, [4])

    held = [path for fold in folds for path in paths(fold.part("val"))]
    assert sorted(held) == sorted(paths(whole.part("train")))
    assert {len(fold.part("train")) + len(fold.part("val")) for fold in folds} == {len(held)}
    assert not {*held} & {*paths(whole.part("val")), *paths(whole.part("test"))}
    assert whole.part("test")
    assert {fold.sha256 for fold in folds} == {whole.sha256}


def test_every_fold_has_its_share_of_each_class(photos):
    whole, folds = load_folds(photos, DataOptions(), [3])
    of_class = Counter(sample.label for sample in whole.part("train"))

    for fold in folds:
        held = Counter(sample.label for sample in fold.part("val"))
        assert all(abs(held[label] - count / 3) < 1 for label, count in of_class.items())


def test_the_whole_is_what_a_training_gets(photos):
    whole, _ = load_folds(photos, DataOptions(seed=3), [2])

    assert whole == load_images(photos, DataOptions(seed=3))


def test_every_image_is_read_once(photos, monkeypatch):
    read = []
    really = scan.read_all
    monkeypatch.setattr(load.scan, "read_all", lambda these: read.extend(these) or really(these))

    load_folds(photos, DataOptions(), [5])

    assert len(read) == sum(COUNTS.values())


def table_of_groups(photos, path, groups):
    rows = [(str(file), file.parent.name) for file in sorted(photos.rglob("*.png"))]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "class", "part", "group"])
        for index, (name, label) in enumerate(rows):
            part = "val" if index % 5 == 0 else "train"
            writer.writerow([name, label, part, "v" if part == "val" else f"g{index % groups}"])
    return path


def test_groups_are_never_divided(photos, tmp_path):
    _, folds = load_folds(table_of_groups(photos, tmp_path / "labels.csv", 6), DataOptions(), [3])

    for fold in folds:
        assert not {s.group for s in fold.part("train")} & {s.group for s in fold.part("val")}


def test_fewer_folds_are_made_of_few_groups(photos, tmp_path):
    _, folds = load_folds(table_of_groups(photos, tmp_path / "labels.csv", 2), DataOptions(), [5, 4, 3, 2])

    assert len(folds) == 2


def test_what_cannot_be_divided_at_all_is_refused_in_a_line(photos, tmp_path):
    with pytest.raises(DataError, match="groups and duplicates stay together"):
        load_folds(table_of_groups(photos, tmp_path / "labels.csv", 1), DataOptions(), [3, 2])

"""Owns: which names are those of parts, and which class names look alike. Oracle: lists written by hand."""

from __future__ import annotations

import unicodedata

import pytest

from cnn_perception.errors import DataError
from training.data.names import alike, like_several, odd, part_of, require_storable


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"), ("Train", "train"), ("TRAIN", "train"), ("training", "train"), ("training_set", "train"),
        ("trainset", "train"), ("TrainImages", "train"), ("train2017", "train"), ("train-data", "train"),
        ("val", "val"), ("valid", "val"), ("Validation", "val"), ("validation set", "val"), ("dev", "val"),
        ("test", "test"), ("Testing", "test"), ("test_images", "test"), ("testset", "test"),
        ("trains", None), ("test tube", None), ("train station", None), ("contest", None), ("valley", None),
        ("Trainingsdaten", "train"), ("Validierung", "val"), ("entraînement", "train"), ("treino", "train"),
        ("validación", "val"), ("prueba", "test"), ("训练集", "train"), ("验证", "val"), ("測試", "test"),
        ("学習データ", "train"), ("テスト", "test"), ("훈련", "train"), ("тест", "test"),
        ("images", None), ("", None), ("7", None), ("train_test", None), ("device", None), ("trained", None),
    ],
)  # fmt: skip
def test_parts_are_told_by_their_usual_names(name, part):
    assert part_of(name) == part


def test_what_all_folders_are_called_means_nothing():
    names = ["seg_train", "seg_test"]
    assert [part_of(name, names) for name in names] == ["train", "test"]
    names = ["flowers train", "flowers valid", "roses"]
    assert [part_of(name, names) for name in names] == [None, None, None]


@pytest.mark.parametrize(
    "names",
    [
        ("dog", "Dog"),
        ("dog", "dog "),
        ("hot dog", "hot_dog"),
        ("hot-dog", "hot  dog"),
        ("café", unicodedata.normalize("NFD", "café")),
        ("stop", "st\u200bop"),
        ("\uff44og", "dog"),
        ("7", "7.0"),
        ("7", "07"),
    ],
)
def test_class_names_that_only_a_computer_tells_apart_are_said(names):
    (line,) = alike(["cat", *names, "bird"])
    shown = ascii if "caf\u00e9" in names else repr  # of which both look the same
    assert all(shown(name) in line for name in names)


def test_other_class_names_are_not():
    assert alike(["cat", "cats", "dog", "dog 2", "dog 3", "止まれ", "zone 30", "zone 50"]) == []


@pytest.mark.parametrize("name", ["caf\udce9", "a\0b"])
def test_name_that_no_file_can_hold_is_refused_before_training(name):
    with pytest.raises(DataError, match=r"data: the class name b'.*' is no UTF-8 text; rename it before training"):
        require_storable(["cat", name], "data")


@pytest.mark.parametrize("name", [" ", "\t", "\u200b", "\u202e \u202c", "\x01", "\u3000"])
def test_name_that_shows_nothing_is_refused_before_training(name):
    with pytest.raises(DataError, match=r"data: the class name '.*' shows nothing; rename it before training"):
        require_storable(["cat", name], "data")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dog ", "begins or ends with a blank"),
        ("do\ng", "holds characters that cannot be seen"),
        ("do\u202egod", "holds characters that cannot be seen"),
        ("d" * 300, "has 300 characters"),
    ],
)
def test_name_that_people_will_stumble_over_is_said_in_one_line_of_ascii(name, words):
    require_storable([name], "data")
    (line,) = odd(["cat", name, "止まれ", "zone 30, große"])
    assert words in line
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize("name", ["nan", "NULL", "n/a", "None", "?"])
def test_class_that_is_a_missing_label_is_said(name):
    (line,) = odd(["cat", name])
    assert line.startswith(f"the class name {name!r} is how programs write that there is no label")


@pytest.mark.parametrize("name", ["cat|dog", "cat;bird", "['cat']", "cat, dog", "cat dog"])
def test_class_that_reads_as_several_is_said(name):
    (line,) = like_several(["cat", "dog", name], only_one=True)
    assert repr(name) in line
    assert "'classes'" in line


def test_class_of_several_words_is_one():
    assert like_several(["Paris, Texas", "hot dog", "dog", "cat", "7-8 [m]"], only_one=True) == []
    assert like_several(["hot dog", "dog", "hot"], only_one=False) == []
    assert len(like_several(["Paris, Texas", "dog"], only_one=False)) == 1


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled", "nan"])
def test_a_class_called_as_what_has_no_label_is_said(name):
    (line,) = odd(["cat", name])
    assert repr(name) in line
    assert "no label" in line


def test_a_name_that_only_this_environment_cannot_read_is_told_from_one_that_is_no_text():
    utf8 = "caf\u00e9".encode().decode("ascii", "surrogateescape")  # as with LC_ALL=C
    with pytest.raises(DataError, match=r"'caf\\xe9' cannot be read in this environment.*; set PYTHONUTF8=1"):
        require_storable([utf8], "here")
    with pytest.raises(DataError, match="no UTF-8 text; rename it"):
        require_storable([b"caf\xe9".decode("utf-8", "surrogateescape")], "here")
    with pytest.raises(DataError, match="no UTF-8 text; rename it"):
        require_storable(["\ud83d"], "here")

"""Owns: the file of a data set's classes, one a line, as `collect` and `label` read and write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnn_perception.errors import DataError
from training.data_set import classes
from training.label import class_list


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"ant\nbee\n", ["ant", "bee"]),
        (b"\xef\xbb\xbfant\r\n\r\n  bee \r\n", ["ant", "bee"]),
        ("Ä\n蜂".encode(), ["Ä", "蜂"]),
        (b"", []),
    ],
)
def test_both_read_the_same_classes(tmp_path: Path, content: bytes, expected: list[str]):
    (tmp_path / "classes.txt").write_bytes(content)

    assert list(classes.read(tmp_path)) == expected
    assert class_list.listed(tmp_path / "labels.csv") == expected


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"ant\nbee\nant\n", "names 'ant' twice; name each class once"),
        (b"ant\nnone of these\n", "'none of these' is what an image of no class is labelled"),
        (b"\xff\xfea\n", "is not UTF-8 text"),
    ],
)
def test_both_refuse_the_same_files_in_the_same_words(tmp_path: Path, content: bytes, text: str):
    (tmp_path / "classes.txt").write_bytes(content)

    with pytest.raises(DataError, match=text) as of_collect:
        classes.read(tmp_path)
    with pytest.raises(DataError) as of_label:
        class_list.listed(tmp_path / "labels.csv")

    assert str(of_collect.value) == str(of_label.value)


@pytest.mark.parametrize("name", ["", " ant", "ant\nbee", "ant\x85"])
def test_neither_writes_a_name_that_would_be_read_as_another_and_the_file_stays(tmp_path: Path, name: str):
    classes.write(tmp_path, ["ant"])

    with pytest.raises(DataError, match="cannot hold the name"):
        classes.write(tmp_path, ["ant", name])
    with pytest.raises(DataError, match="cannot hold the name"):
        class_list.write(tmp_path / "labels.csv", ["ant", name])

    assert classes.read(tmp_path) == ("ant",)


def test_a_data_set_without_the_file_has_no_classes(tmp_path: Path):
    assert classes.read(tmp_path) == ()
    assert class_list.listed(tmp_path / "labels.csv") == []

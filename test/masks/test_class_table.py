"""Owns: which class tables are read and how; which are refused. Leaves to others: the masks (test_mask_folder)."""

from __future__ import annotations

import pytest

from cnn_perception.errors import DataError
from cnn_perception.masks.class_table import BACKGROUND, VOID, read_class_table


def read(folder, text, name="classes.csv"):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_class_table(folder)


def meanings(table):
    return dict(zip(table.values, table.labels, strict=True))


def test_colours_stand_for_the_concepts_in_the_order_of_the_table(tmp_path):
    table = read(tmp_path, "name,r,g,b\nroad,128,64,128\ncar,0,0,142\n")

    assert table.concepts == table.class_names == ("road", "car")
    assert table.is_colour
    assert meanings(table) == {0: BACKGROUND, 0x804080: 0, 0x00008E: 1}


def test_indices_stand_for_the_concepts_and_255_is_void(tmp_path):
    table = read(tmp_path, "index,name\n7,road\n1,car\n")

    assert table.concepts == ("road", "car")
    assert not table.is_colour
    assert meanings(table) == {0: BACKGROUND, 1: 1, 7: 0, 255: VOID}


@pytest.mark.parametrize("text", ["cat\ndog\n", "name\ncat\ndog", "class\ncat\ndog\n", b"\xef\xbb\xbfcat\r\ndog\r\n"])
def test_a_list_of_names_is_numbered_from_0(tmp_path, text):
    table = read(tmp_path, text, "classes.txt")

    assert table.concepts == ("cat", "dog")
    assert meanings(table) == {0: 0, 1: 1, 255: VOID}


def test_background_and_void_are_no_concepts_whatever_their_values(tmp_path):
    table = read(tmp_path, "name,r,g,b\nVoid,0,0,0\nignore,9,9,9\n_background_,1,1,1\ncar,2,2,2\n")

    assert table.concepts == ("car",)
    assert meanings(table) == {0: VOID, 0x090909: VOID, 0x010101: BACKGROUND, 0x020202: 0}


def test_a_list_may_begin_with_the_background(tmp_path):
    table = read(tmp_path, "background\nperson\n", "classes.txt")

    assert table.concepts == ("person",)
    assert meanings(table) == {0: BACKGROUND, 1: 0, 255: VOID}


def test_a_column_says_as_which_class_a_concept_counts(tmp_path):
    table = read(tmp_path, "name,r,g,b,class\nstop,1,0,0,\nroad,2,0,0,clear_road\nbackground,0,0,0,clear_road\n")

    assert table.class_names == ("stop", "clear_road")
    assert table.background_class == "clear_road"


@pytest.mark.parametrize(
    "text", ["Name;Red;Green;Blue\ncar;1;2;3\n", "b,g,r,class\n3,2,1,car\n", "label\tr\tg\tb\ncar\t1\t2\t3\n"]
)
def test_columns_are_known_by_their_names_in_any_order(tmp_path, text):
    table = read(tmp_path, text)

    assert table.concepts == ("car",)
    assert meanings(table)[0x010203] == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,r,g\ncar,1,2\n", "line 1: 'name,r,g' names no columns of masks; write name,r,g,b"),
        ("car,1,2,3\nroad,4,5,6\n", "line 1: 'car,1,2,3' names no columns of masks"),
        ("name,r,g,b\ncar,1,2,256\n", "line 2, column 'b': '256' is no whole number from 0 to 255"),
        ("name,r,g,b\ncar,-1,2,6\n", "line 2, column 'r': '-1' is no whole number from 0 to 255"),
        ("index,name\n70000,car\n", "line 2, column 'index': '70000' is no whole number from 0 to 65535"),
        ("index,name\n1,\n", "line 2, column 'name': is empty"),
        ("index,name\n1,car\n1,road\n", "line 3: 'road' has the value of a line before"),
        ("index,name\n1,car\n2,car\n", "line 3: 'car' is there twice"),
        ("index,name\n0,background\n", "names no concept"),
        ("index,name\n1,car,2\n", "line 2: 3 columns, the header has 2"),
    ],
)
def test_a_table_that_says_nothing_certain_is_refused_with_its_line(tmp_path, text, words):
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)

    assert words in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "classes.csv"))


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no classes\.csv, which says what the masks' values stand for"):
        read_class_table(tmp_path)

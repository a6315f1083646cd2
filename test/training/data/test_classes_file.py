"""Owns: a file of class names: what it may hold, and that data get its order and names. Oracle: pictures' own paths."""

from __future__ import annotations

import codecs
import json

import pytest
from tiny_images import write_folder

from cnn_perception.errors import ConfigError
from training.data import classes_file
from training.data.load import DataOptions, load_images, write_split

COUNTS = {"go": 10, "stop": 11, "turn": 12}


@pytest.fixture
def photos(tmp_path):
    return write_folder(tmp_path / "photos", COUNTS)


def load(source, names):
    return load_images(source, DataOptions(class_names=names))


@pytest.mark.parametrize(
    "content",
    [
        b"turn\ngo\nstop\n",
        b"turn\r\ngo\r\nstop",
        b"  turn \ngo\t\nstop\n\n\n",
        codecs.BOM_UTF8 + b"turn\ngo\nstop\n",
        codecs.BOM_UTF16_LE + "turn\ngo\nstop\n".encode("utf-16-le"),
        json.dumps(["turn", "go", "stop"]).encode(),
    ],
)
def test_one_name_a_line_or_a_json_list_is_read(tmp_path, content):
    (tmp_path / "labels.txt").write_bytes(content)

    assert classes_file.read(str(tmp_path / "labels.txt")) == ("turn", "go", "stop")


def test_a_name_may_hold_anything_but_an_end_of_line(tmp_path):
    names = ("große Zone", "a, b", "蜂", "a\u2028b", "# 1")
    (tmp_path / "labels.txt").write_text("\n".join(names), encoding="utf-8")

    assert classes_file.read(str(tmp_path / "labels.txt")) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1 is empty"),
        (b"\n\n", "line 1 is empty"),
        (b"go\n\nstop\n", "line 2 is empty; write one name a line"),
        (b"caf\xe9\nb", "no text in UTF-8"),
        (b"[1, 2]", "must hold a list of names"),
        (b"[]", "must hold a list of names"),
        (b"[", "no JSON list of names"),
    ],
)
def test_what_holds_no_names_is_refused_with_its_line(tmp_path, content, message):
    (tmp_path / "labels.txt").write_bytes(content)

    with pytest.raises(ConfigError, match=rf"--classes .*labels\.txt: .*{message}"):
        classes_file.read(str(tmp_path / "labels.txt"))
    with pytest.raises(ConfigError, match=r"neither a number nor a readable file of names \(No such file"):
        classes_file.read(str(tmp_path / "none.txt"))


def test_the_classes_of_a_folder_have_the_order_of_the_file(photos):
    order = ("turn", "go", "stop")

    data = load(photos, order)

    assert data.class_names == order
    assert len(data.samples) == 33
    assert all(order[sample.label] == sample.path.parent.name for sample in data.samples)
    assert [sample.label for sample in data.samples] == sorted(sample.label for sample in data.samples)
    assert load(photos, ("go", "stop", "turn")).sha256 == load_images(photos).sha256


@pytest.mark.parametrize("first", [0, 1])
def test_folders_that_are_only_numbered_get_the_names_of_the_lines(tmp_path, first):
    counts = {str(first + number): 6 for number in range(11)}  # 10 sorts before 2
    names = tuple(f"kind {chr(97 + number)}" for number in range(11))

    data = load(write_folder(tmp_path / "photos", counts), names)

    assert data.class_names == names
    assert {(int(s.path.parent.name) - first, names[s.label]) for s in data.samples} == {*enumerate(names)}


def test_names_that_are_numbers_themselves_are_not_counted(tmp_path):
    data = load(write_folder(tmp_path / "photos", {"0": 6, "1": 7, "2": 8}), ("2", "0", "1"))

    assert {(s.path.parent.name, data.class_names[s.label]) for s in data.samples} == {(n, n) for n in "012"}


def test_a_table_of_several_classes_an_image_has_the_order_of_the_file(photos, tmp_path):
    rows = [f"photos/go/{index:02}.png,{'go;far' if index % 2 else 'turn'}" for index in range(10)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,classes", *rows]))

    data = load(tmp_path / "labels.csv", ("turn", "go", "far"))

    assert data.class_names == ("turn", "go", "far")
    for sample in data.samples:
        odd = int(sample.path.stem) % 2
        assert (sample.values, sample.label) == (((0.0, 1.0, 1.0), 1) if odd else ((1.0, 0.0, 0.0), 0))
    write_split(tmp_path / "split.csv", data)
    options = DataOptions(task="multilabel", class_names=("turn", "go", "far"))
    again = load_images(tmp_path / "split.csv", options)
    assert [sample.values for sample in again.samples] == [sample.values for sample in data.samples]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("go", "stop"), r"it lacks 'turn'; mend"),
        (("go", "stop", "turn", "yield", "Go"), r"without images are 'Go', 'yield'; mend"),
        (("Go", "stop", "turn"), r"it lacks 'go'; without images are 'Go'; mend"),
        (("a", "b", "c", "d", "e"), r"it lacks 'go', 'stop', 'turn'; without images are 'a', 'b', 'c', \.\.\.; mend"),
        (("go", "stop", "turn", "go"), "names 'go' twice"),
    ],
)
def test_names_that_are_not_those_of_the_data_are_told_in_one_line(photos, names, message):
    with pytest.raises(ConfigError, match=f"--classes: .*{message}") as caught:
        load(photos, names)

    assert "\n" not in str(caught.value)


def test_numbers_that_are_learned_have_no_classes(photos, tmp_path):
    rows = [f"photos/go/{index:02}.png,{index}" for index in range(10)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,angle", *rows]))

    with pytest.raises(ConfigError, match="--classes: names classes, but numbers are learned"):
        load_images(tmp_path / "labels.csv", DataOptions(targets=("angle",), class_names=("angle",)))

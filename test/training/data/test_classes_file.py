"""Owns: a file of class names: what it may hold, and that data get its order and names. Oracle: pictures' own paths."""

from __future__ import annotations

import codecs
import json
import os
import unicodedata

import pytest
import yaml
from tiny_images import write_folder

from cnn_perception.errors import ConfigError
from training.config import make
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


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"turn": 0, "go": 1, "stop": 2}, indent=2),
        json.dumps({"go": 1, "stop": 2, "turn": 0}),
        json.dumps({"2": "stop", "0": "turn", "1": "go"}, indent=4),
        json.dumps({"1": "turn", "2": "go", "3": "stop"}),
        json.dumps(["turn", "go", "stop"], indent=2),
        json.dumps({"model": "m", "id2label": {"1": "go", "0": "turn", "2": "stop"}, "layers": [1, 2]}),
        "{0: 'turn',\n 1: 'go',\n 2: 'stop'}",
        "['turn', 'go', 'stop']",
        "0 turn\n1 go\n2 stop\n",
        "1 go\n2 stop\n0 turn\n",
        "1: turn\n2: go\n3: stop\n",
        "0,turn\n1,go\n2,stop\n",
        "0\tturn\n2\tstop\n1\tgo\n",
        "1. turn\n2. go\n3. stop\n",
        "0: 'turn',\n1: 'go',\n2: 'stop'\n",
        "go 1\nturn 0\nstop 2\n",
        "turn,0\ngo,1\nstop,2\n",
        "go: 1\nstop: 2\nturn: 0\n",
        yaml.safe_dump({"train": "a/images", "nc": 3, "names": ["turn", "go", "stop"]}),
        yaml.safe_dump({"path": "..", "names": {0: "turn", 1: "go", 2: "stop"}, "more": [{"a": [1]}]}),
        "nc: 3\nnames: ['turn', 'go', 'stop']\n",
        "- turn\n- go\n- stop\n",
        "class_id,name\n0,turn\n1,go\n2,stop\n",
        "Name;ID;colour\ngo;1;red\nstop;2;\nturn;0;blue\n",
        ",class\n0,turn\n1,go\n2,stop\n",
        "label,class\n1,turn\n2,go\n3,stop\n",
    ],
)
def test_what_programs_write_of_classes_and_their_numbers_is_read_in_the_order_of_the_numbers(tmp_path, content):
    (tmp_path / "labels.txt").write_text(content)

    assert classes_file.read(str(tmp_path / "labels.txt")) == ("turn", "go", "stop")


@pytest.mark.parametrize(
    "names",
    [
        ("1 euro", "2 euro", "5 euro"),
        ("50 km", "70 km/h", "120 mph"),
        ("kind 0", "kind 1", "kind 2"),
        ("Boeing 737", "Airbus 320"),
        ("2", "0", "1"),
        ("1.5", "2.5"),
        ("2 dogs", "cat"),
        ("a: b", "c"),
        ("no", "yes", "null"),
        ("identity, name", "x"),
    ],
)
def test_numbers_that_belong_to_the_names_stay_in_them(tmp_path, names):
    (tmp_path / "labels.txt").write_text("\n".join(names))
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump({"names": list(names)}))

    assert classes_file.read(str(tmp_path / "labels.txt")) == names
    assert classes_file.read(str(tmp_path / "labels.yaml")) == names


def test_equal_names_of_lines_that_are_numbered_stay_two(tmp_path):
    (tmp_path / "labels.txt").write_text("0: crane\n1: maillot\n2: crane\n3: go\n4: 'tench, Tinca tinca'")

    assert classes_file.read(str(tmp_path / "labels.txt")) == ("crane", "maillot", "crane", "go", "tench, Tinca tinca")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 cat\n2 dog\n", "gives none the number 1"),
        ("0 cat\n1 dog\n1 bird\n", "gives the number 1 to two classes"),
        ('{"cat": 0, "dog": 2}', "gives none the number 1"),
        ('{"cat": 0, "dog": 0}', "gives the number 0 to two classes"),
        ('{"0": "cat", "0": "dog"}', "gives the number 0 to two classes"),
        ("names:\n  0: cat\n  0: dog\n", "gives the number 0 to two classes"),
        ('{"0": 1, "1": 0}', "is a map, but not one of names and numbers"),
        ('{"cat": "dog", "go": "stop"}', "is a map, but not one of names and numbers"),
        ('{"0": ["n01", "cat"], "1": ["n02", "dog"]}', "not of each to one name"),
        ('{"cat": true, "dog": false}', "is a map, but not one"),
        ("{}", "is a map"),
        ("names:\n  - [a, b]\n", "must hold a list"),
        ("names: [a, b\n", "no YAML, line 1"),
        ("['cat' 'dog']", "no JSON list of names"),
        ("name\ncat\ndog\n", "line 1, 'name', reads as the title of a column"),
        ("id,name\n0,cat\n1,dog,x\n", "line 3 has another number of columns"),
        ("id,name,label\n0,cat,Katze\n1,dog,Hund\n", "not of one column of names and one of their numbers"),
        ("0 48\n1 49\n", "holds two numbers a line"),
        ("names: &a [*a]", "must hold a list"),
    ],
)
def test_a_list_of_which_nobody_knows_the_order_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "labels.txt").write_text(content)

    with pytest.raises(ConfigError, match=rf"--classes .*labels\.txt: .*{message}") as caught:
        classes_file.read(str(tmp_path / "labels.txt"))
    assert "\n" not in str(caught.value)


def test_a_pipe_is_read_once():
    out, into = os.pipe()
    os.write(into, b"turn\ngo\nstop\n")
    os.close(into)
    try:
        assert classes_file.read(f"/dev/fd/{out}") == ("turn", "go", "stop")
    finally:
        os.close(out)


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


OF_A_MODEL = ("yield", "turn", "go", "wait", "stop")


def among(source, names=OF_A_MODEL, **options):
    return load_images(source, DataOptions(class_names=names, may_lack_classes=True, **options))


def test_some_of_a_models_classes_have_the_models_order(photos):
    data = among(photos)

    assert data.class_names == ("turn", "go", "stop")
    assert len(data.samples) == 33
    assert all(data.class_names[sample.label] == sample.path.parent.name for sample in data.samples)
    assert {sample.part for sample in data.samples if sample.label == 2} == {"train", "val"}


def test_a_folder_of_a_models_class_without_an_image_is_none_of_them(photos):
    (photos / "wait").mkdir()

    assert among(photos).class_names == ("turn", "go", "stop")


def test_a_table_of_some_of_a_models_classes_and_of_images_of_none_is_read(photos, tmp_path):
    rows = [f"photos/{name}/{index:02}.png,{name}" for name in ("go", "stop") for index in range(10)]
    rows += [f"photos/turn/{index:02}.png,none of these" for index in range(5)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,class", *rows]))

    data = among(tmp_path / "labels.csv")

    assert data.class_names == ("go", "stop")
    assert all(data.class_names[sample.label] == sample.path.parent.name for sample in data.samples)
    assert (len(data.samples), len(data.outside)) == (20, 5)


def test_labels_of_some_of_a_models_classes_stay_columns(photos, tmp_path):
    rows = [f"photos/go/{index:02}.png,{'go;stop' if index % 2 else 'turn'}" for index in range(10)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,classes", *rows]))

    data = among(tmp_path / "labels.csv")

    assert data.class_names == ("turn", "go", "stop")
    for sample in data.samples:
        assert sample.values == ((0.0, 1.0, 1.0) if int(sample.path.stem) % 2 else (1.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (("0", "3"), ("yield", "wait")),
        (("000", "004"), ("yield", "stop")),
        (("2", "5"), ("turn", "stop")),
        (("1", "2", "3", "4", "5"), OF_A_MODEL),
        (("0", "1", "2", "3", "4"), OF_A_MODEL),
    ],
)
def test_folders_of_numbers_of_a_models_classes_are_found_where_the_first_or_the_last_is_there(
    tmp_path, numbers, expected
):
    data = among(write_folder(tmp_path / "photos", dict.fromkeys(numbers, 6)))

    assert data.class_names == expected
    names = dict(zip(numbers, expected, strict=True))
    assert all(data.class_names[sample.label] == names[sample.path.parent.name] for sample in data.samples)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("go", "strop"), r"its class 'strop' is none of the model's, which has 'stop'; rename it"),
        (("go", "zebra"), r"its class 'zebra' is none of the model's; rename it"),
        (("1", "3"), r"numbers such as '1', of which nothing tells whether the model's begin with 0 or with 1"),
        (("0", "5"), r"its class '5' is none of the model's, which counted from 0 end with 4; rename it"),
        (("1", "6"), r"its class '6' is none of the model's, which counted from 1 end with 5; rename it"),
        (("1", "01", "5"), r"its class '0?1' is none of the model's"),
        (("0", "go"), r"its class '0' is none of the model's"),
    ],
)
def test_a_class_that_is_none_of_the_models_is_named_in_one_line(tmp_path, folders, message):
    photos = write_folder(tmp_path / "photos", dict.fromkeys(folders, 6))

    with pytest.raises(ConfigError, match=message) as caught:
        among(photos)

    assert "\n" not in str(caught.value)


def test_no_setting_of_a_run_lets_classes_be_missing(photos, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(OF_A_MODEL))
    settings = make(data=str(photos), output=str(tmp_path / "run"), classes=str(tmp_path / "names.txt")).to_dict()

    assert not {"may_lack_classes", "can_choose"} & settings.keys()
    with pytest.raises(ConfigError, match="without images are 'wait', 'yield'"):
        load_images(photos, DataOptions.of(settings))


@pytest.mark.parametrize(("folder", "line"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_that_are_composed_otherwise_are_the_same_class(tmp_path, folder, line):
    said, there = (unicodedata.normalize(form, "caf\u00e9") for form in (line, folder))
    photos = write_folder(tmp_path / "photos", {there: 6, "bar": 7})

    data = load(photos, (said, "bar"))
    some = among(photos, ("bar", "stop", said))

    assert data.class_names == (said, "bar")
    assert [sample.path.parent.name for sample in data.samples if sample.label == 0] == [there] * 6
    assert some.class_names == ("bar", said)


def test_names_that_look_the_same_are_shown_with_how_they_differ(photos):
    with pytest.raises(ConfigError, match=r"it lacks 'go'; without images are 'go\\u200b'; mend"):
        load(photos, ("turn", "go\u200b", "stop"))

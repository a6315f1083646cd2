"""Owns: CSV data sets: columns, tasks, numbers, and what is wrong with a row. Leaves to others: images, the split."""

from __future__ import annotations

import csv
import json
import unicodedata

import numpy as np
import pytest
from tiny_images import write_folder

from cnn_perception.errors import ConfigError, DataError
from training.data.load import DataOptions, load_images, write_split


@pytest.fixture
def images(tmp_path):
    write_folder(tmp_path, {"i": 20})
    return tmp_path


def table(folder, header, rows, name="labels.csv"):
    """Writes a CSV file; rows are the cells after the path, of the images 00.png, 01.png and so on."""
    lines = [",".join(("path", *header)), *(",".join((f"i/{i:02}.png", *row)) for i, row in enumerate(rows))]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def load(path, **options):
    return load_images(path, DataOptions(**options))


def test_one_class_an_image(images):
    data = load(table(images, ["class"], [("go",)] * 10 + [("stop",)] * 10))

    assert (data.task, data.class_names, data.units, data.scaling) == ("multiclass", ("go", "stop"), (), ())
    assert [s.label for s in data.samples] == [0] * 10 + [1] * 10
    assert [s.path for s in data.samples] == [images / "i" / f"{i:02}.png" for i in range(20)]
    assert len(data.part("val")) == 4


def test_several_classes_an_image_or_none(images):
    cells = ["person;car", "car|dog", "", " person "] * 5
    data = load(table(images, ["classes"], [(cell,) for cell in cells]))

    assert (data.task, data.class_names) == ("multilabel", ("car", "dog", "person"))
    assert [s.values for s in data.samples[:4]] == [(1, 0, 1), (1, 1, 0), (0, 0, 0), (0, 0, 1)]
    assert [s.label for s in data.samples[:4]] == [0, 0, 0, 2]


def test_a_column_of_0_and_1_for_each_class(images):
    file = table(images, ["wet", "dark", "group"], [("1", "0", "x"), ("0", "1", "y"), ("0", "0", "z")] * 5)
    data = load(file, task="multilabel")

    assert data.class_names == ("wet", "dark")  # in the order of the columns
    assert [s.values for s in data.samples[:3]] == [(1, 0), (0, 1), (0, 0)]
    with pytest.raises(ConfigError, match="has no column 'class' or 'classes'"):
        load(file)


def test_numbers_are_standardised_by_the_training_part(images):
    rng = np.random.default_rng(0)
    angle, speed = rng.normal(0.3, 2, 20), np.full(20, 5.0)
    rows = [(f"{a}", f"{v}", "val" if i >= 15 else "train") for i, (a, v) in enumerate(zip(angle, speed, strict=True))]
    data = load(table(images, ["angle", "speed", "part"], rows), targets=("angle:rad", "speed"))

    assert (data.task, data.class_names, data.units) == ("regression", ("angle", "speed"), ("rad", ""))
    mean, std = angle[:15].mean(), angle[:15].std()
    assert data.scaling == (pytest.approx((mean, std)), (5.0, 1.0))
    assert [s.values[0] for s in data.samples] == pytest.approx((angle - mean) / std)
    assert {s.values[1] for s in data.samples} == {0.0}
    assert [data.in_units(s).values[0] for s in data.samples] == pytest.approx(angle)
    assert data.warnings == ("'speed' is 5 in every training image",)


@pytest.mark.parametrize("column", ["part", "split"])
def test_the_part_column_decides(images, column):
    rows = [(name, part) for part in ("train",) * 3 + ("val",) * 2 + ("test",) for name in ("a", "b")]
    data = load(table(images, ["class", column], rows), test_fraction=0.5)

    assert [s.part for s in data.samples] == [part for _, part in rows]


@pytest.mark.parametrize("column", ["group", "bag"])
def test_groups_and_bags_are_never_parted(images, column):
    rows = [("ab"[i % 2], f"drive{i // 4}") for i in range(20)]
    file = table(images, ["class", column], rows)

    for seed in range(10):
        parts = [s.part for s in load(file, seed=seed).samples]
        assert all(len(set(parts[i : i + 4])) == 1 for i in range(0, 20, 4))


def test_a_group_in_two_parts_is_an_error(images):
    rows = [("ab"[i % 2], "val" if i > 15 else "train", f"drive{i // 10}") for i in range(20)]

    with pytest.raises(DataError, match="group 'drive1' is in train and in val"):
        load(table(images, ["class", "part", "group"], rows))


NUMBERS = [(str(i),) for i in range(20)]
CLASSES = [("a",), ("b",)] * 10


@pytest.mark.parametrize(
    ("header", "rows", "options", "message"),
    [
        (
            ["class", "state"],
            [*((name, "labelled") for (name,) in CLASSES[:5]), ("", "labelled")],
            {},
            r"line 7, column 'class': is empty",
        ),
        (["class", "state"], [("a", "labelled"), ("b", "done")], {}, r"line 3, column 'state': 'done' is none of lab"),
        (["class"], [("",)] * 5, {}, r"none of its 5 rows has a label yet; label some"),
        (["class", "state"], [("a", "skipped"), ("b", "")], {}, r"none of its 2 rows has a label yet"),
        (["class"], [("none of these",)] * 5, {}, r"no image is of a class; name some in the column 'class'"),
        (["classes"], [("a",), ("a;none of these",)], {}, r"line 3, column 'classes': .* both classes and none of"),
        (["a", "none of these"], [("1", "0")], {"task": "multilabel"}, r"line 1: a class cannot be called 'none of"),
        (["x"], [*NUMBERS, ("none of these",)], {"targets": ("x",)}, r"line 22.*: 'none of these' is said of classes"),
        (["classes"], [("a",), ("a;;b",)], {}, r"line 3, column 'classes': 'a;;b' holds an empty class"),
        (["x"], [*NUMBERS[:4], ("fast",)], {"targets": ("x",)}, r"line 6, column 'x': 'fast' is not a number"),
        (["x"], [*NUMBERS[:4], ("nan",)], {"targets": ("x",)}, r"line 6, column 'x': 'nan' is not finite"),
        (["x"], [*NUMBERS[:4], ("-inf",)], {"targets": ("x",)}, r"line 6, column 'x': '-inf' is not finite"),
        (["a", "b"], [("1", "2")], {"task": "multilabel"}, r"line 2, column 'b': '2' is neither 0 nor 1"),
        (
            ["class", "part"],
            [("a", "train"), ("b", "later")],
            {},
            r"line 3, column 'part': 'later' is none of train, val",
        ),
        (["class"], [("a",)] * 25, {}, r"line 22, column 'path': 'i/20\.png' is no file"),
        (["class"], [("a",), ("b", "c")], {}, r"line 3: 3 columns, the header has 2"),
        (["class", "class"], [("a", "b")], {}, r"line 1: column 'class' occurs twice"),
        (["class", "classes"], [("a", "b")], {}, r"columns 'class' and 'classes' mean the same"),
        (["class", "part", "split"], [("a", "b", "c")], {}, r"columns 'part' and 'split' mean the same"),
        (["class", ""], [("a", "b")], {}, r"line 1: column 3 has no name"),
        (["class"], [], {}, r"holds no rows"),
        (["class"], [("a",)] * 20, {}, r"one class only \('a'\)"),
        (["class"], [("a",)] * 18 + [("b",)] * 2, {}, r"class 'b' has 2 usable images in train, 3 are needed"),
        (["class", "part"], [("a", "train"), ("b", "val")] * 10, {}, r"class 'a' has no image in val\b"),
        (["class", "part"], [("a", "val"), ("b", "val")] * 10, {}, r"no row is of the part train"),
        (["x"], NUMBERS[:2], {"targets": ("x",)}, r"2 usable images in train, 3 are needed"),
        (["x"], NUMBERS, {"targets": ("y",)}, r"no column 'y'; it has path, x"),
        (["x"], NUMBERS, {"task": "regression"}, r"needs --targets"),
        (["x"], NUMBERS, {"targets": ("x", "x")}, r"repeated name"),
        (["class"], CLASSES, {"task": "multilabel"}, r"has no column 'classes'"),
        (["class"], CLASSES, {"targets": ("class",)}, r"reserved"),
        (["class"], CLASSES, {"task": "multiclass", "targets": ("x",)}, r"--task is multiclass"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_line_and_column(images, header, rows, options, message):
    with pytest.raises((DataError, ConfigError), match=message) as caught:
        load(table(images, header, rows), **options)
    assert "\n" not in str(caught.value)


def test_an_image_named_twice_is_an_error_however_it_is_written(images):
    (images / "labels.csv").write_text("path,class\ni/00.png,a\ni/01.png,b\n./i/../i/00.png,b\n")

    with pytest.raises(DataError, match=r"line 4, column 'path': .* is the image of line 2 already"):
        load(images / "labels.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column 'path'"),
        (b"what;class\n", "no column 'path'"),
        (b"path,class\n\xff\xfe,a\n", "is not UTF-8"),
        (b'path,class\n"i/00.png,a\n', "line 2: is not CSV"),
        (b"path,class\n,a\n", "line 2, column 'path': is empty"),
        (b"path,class\n" + b"x" * 5000 + b",a\n", "line 2, column 'path': 'xxx"),
    ],
)
def test_what_is_no_table_is_said_to_be_none(images, content, message):
    (images / "labels.csv").write_bytes(content)

    with pytest.raises(DataError, match=message) as caught:
        load(images / "labels.csv")
    assert "\n" not in str(caught.value)


def test_a_spreadsheets_file_and_lines_in_cells_are_read_and_counted(images):
    text = '\ufeffpath , class,note\r\n i/00.png ,"a","two\r\nlines"\r\n\r\ni/99.png,a,\r\n'
    (images / "labels.csv").write_bytes(text.encode())

    with pytest.raises(DataError, match=r"line 5, column 'path': 'i/99\.png' is no file"):
        load(images / "labels.csv")


def test_a_folder_has_one_class_an_image(images):
    with pytest.raises(ConfigError, match="write the labels to a CSV file"):
        load(images, task="regression")


def test_the_record_of_a_split_is_a_data_set_with_the_same_split(images):
    numbers = [(f"{i / 7}", f"g{i // 2}") for i in range(20)]
    data = load(table(images, ["x", "group"], numbers), targets=("x:m",))
    write_split(images / "split.csv", data)
    again = load(images / "split.csv", targets=("x:m",), seed=9)

    assert [(s.path, s.part, s.group) for s in again.samples] == [(s.path, s.part, s.group) for s in data.samples]
    assert [s.values for s in again.samples] == [pytest.approx(s.values, abs=1e-6) for s in data.samples]

    classes = load(table(images, ["class"], CLASSES))
    write_split(images / "split.csv", classes)
    assert load(images / "split.csv", seed=9).samples == classes.samples
    with (images / "split.csv").open() as file:
        assert next(csv.reader(file)) == ["path", "class", "part", "group"]


def test_the_record_of_a_split_finds_a_file_whose_name_is_no_utf8(images):
    (images / "i" / "03.png").rename(images / "i" / "caf\udce9.png")
    (images / "labels.csv").write_bytes(
        table(images, ["class"], CLASSES).read_bytes().replace(b"03.png", b"caf\\udce9.png")
    )
    assert load(images / "labels.csv").samples[3].path.name == "caf\udce9.png"


def test_the_digest_covers_what_the_rows_say(images):
    plain = load(table(images, ["class"], CLASSES)).sha256

    assert load(table(images, ["class"], CLASSES), seed=3).sha256 == plain
    assert load(table(images, ["class"], CLASSES[::-1])).sha256 != plain
    assert load(table(images, ["class", "group"], [(c, f"{i}") for i, (c,) in enumerate(CLASSES)])).sha256 != plain


def test_copies_with_other_numbers_are_a_warning_and_with_other_classes_an_error(images):
    (images / "i" / "05.png").write_bytes((images / "i" / "04.png").read_bytes())

    assert load(table(images, ["x"], NUMBERS), targets=("x",)).warnings == ("1 image: same image with other numbers",)
    with pytest.raises(DataError, match="1 images have two labels"):
        load(table(images, ["classes"], [("a",), ("b",)] * 10))


@pytest.mark.parametrize("header", ["File Name,label", "image_path,category", "img;target", "ID|Class Name"])
def test_columns_of_other_tools_are_taken_and_it_is_said(images, header):
    delimiter = next(mark for mark in ",;|" if mark in header)
    lines = [header, *(f"i/{i:02}.png{delimiter}{'ab'[i % 2]}" for i in range(20))]
    (images / "labels.csv").write_text("\n".join(lines) + "\n")
    data = load(images / "labels.csv")
    assert (data.class_names, len(data.samples)) == (("a", "b"), 20)
    path, label = header.split(delimiter)
    assert data.warnings[:2] == (
        f"the column {path!r} is taken for 'path'",
        f"the column {label!r} is taken for 'class'",
    )


def test_a_column_of_parts_by_another_name_decides_and_one_of_other_words_does_not(images):
    rows = [("ab"[i % 2], "train" if i < 14 else "test") for i in range(20)]
    assert len(load(table(images, ["class", "data set"], rows)).part("test")) == 6
    rows = [("ab"[i % 2], "train" if i < 14 else "evening") for i in range(20)]
    data = load(table(images, ["class", "data set"], rows))
    assert len(data.part("test")) == 0
    assert any(warning.startswith("the column 'data set' is not used") for warning in data.warnings)


def test_numbers_may_be_called_as_classes_are(images):
    data = load(table(images, ["target"], NUMBERS), targets=("target",))
    assert (data.task, data.class_names) == ("regression", ("target",))


def test_a_table_of_another_machine_is_read_and_it_is_said(images):
    lines = ["path,class", *(f"/mnt/old disk/i/{i:02}.png,{'ab'[i % 2]}" for i in range(20))]
    (images / "labels.csv").write_text("\n".join(lines) + "\n")
    data = load(images / "labels.csv")
    assert [sample.path for sample in data.samples] == [images / "i" / f"{i:02}.png" for i in range(20)]
    assert data.warnings[0] == f"/mnt/old disk/ is taken for {images}"


def test_tables_may_be_called_txt_or_tsv_and_other_files_are_refused(images):
    file = table(images, ["class"], CLASSES)
    text = file.read_text()
    for name in ("labels.tsv", "labels.TXT"):
        (images / name).write_text(text.replace(",", "\t"))
        assert load(images / name).class_names == ("a", "b")
    (images / "data.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"is neither a folder nor a table .*unpack it"):
        load(images / "data.zip")


def test_comma_between_two_classes_is_refused_and_one_within_a_name_is_not(images):
    rows = [(("a", "b", '"a, b"', '"Paris, Texas"')[i % 4],) for i in range(20)]
    with pytest.raises(DataError, match=r"line 4, column 'classes': 'a, b' holds a comma; write ';' between"):
        load(table(images, ["classes"], rows))
    fine = [(("a", "b", '"Paris, Texas"')[i % 3],) for i in range(20)]
    assert load(table(images, ["classes"], fine)).class_names == ("Paris, Texas", "a", "b")


@pytest.mark.parametrize(("train", "val"), [("Train", "Valid"), ("TRAINING", "validation"), ("train", "dev")])
def test_parts_in_a_column_have_their_usual_names(images, train, val):
    rows = [("ab"[i % 2], val if i > 13 else train) for i in range(20)]
    data = load(table(images, ["class", "part"], rows))
    assert [len(data.part(part)) for part in ("train", "val")] == [14, 6]


@pytest.mark.parametrize(
    "cells", [("\"['person', 'car']\"", "\"['dog']\"", "[]"), ('"[""person"", ""car""]"', '"[""dog""]"', "")]
)
def test_classes_may_be_lists_as_python_and_json_write_them(images, cells):
    data = load(table(images, ["classes"], [(cell,) for cell in cells] * 6))

    assert data.class_names == ("car", "dog", "person")
    assert [s.values for s in data.samples[:3]] == [(1, 0, 1), (0, 1, 0), (0, 0, 0)]


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ({"is_valid": "False True False"}, "train val train"),
        ({"is_train": "1 1 0"}, "train train val"),
        ({"is_val": "0 0 1", "is_test": "0 1 0"}, "train test val"),
    ],
)
def test_flags_of_other_tools_say_the_parts(images, flags, parts):
    rows = [*zip("abc", *(cells.split() for cells in flags.values()), strict=True)]
    written = [(name, *cells) for _, *cells in rows for name in ("a", "b")] * 3
    data = load(table(images, ["class", *flags], written))

    assert [s.part for s in data.samples] == [part for part in parts.split() for _ in "ab"] * 3
    assert f"the column {next(iter(flags))!r} is taken for the images of" in "".join(data.warnings)


def test_flags_that_contradict_each_other_are_refused_and_folds_are_said_to_be_unused(images):
    with pytest.raises(DataError, match=r"line 2, column 'is_test': is said beside 'is_val'"):
        load(table(images, ["class", "is_val", "is_test"], [("a", "1", "1"), ("b", "0", "0")] * 5))
    data = load(table(images, ["class", "fold"], [("ab"[i % 2], f"{i % 3}") for i in range(20)]))
    assert any(warning.startswith("the column 'fold' is not used") for warning in data.warnings)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("i/{:02}", "'i/00' is no file, but 'i/00.png' is one; write the paths so"),
        ("{:02}.png", "'00.png' is no file, but 'i/00.png' is one"),
        ("{:02}", "'00' is no file, but 'i/00.png' is one"),
        ("https://example.org/{:02}.png", "is no file, but an address; fetch it"),
        ("gs://bucket/{:02}.png", "is no file, but an address"),
    ],
)
def test_a_path_without_a_file_is_refused_with_what_may_be_meant(images, path, words):
    (images / "t.csv").write_text("path,class\n" + "".join(f"{path.format(i)},{'ab'[i % 2]}\n" for i in range(20)))
    with pytest.raises(DataError, match=words):
        load(images / "t.csv")


def test_a_path_may_begin_at_home(images, monkeypatch):
    monkeypatch.setenv("HOME", str(images))
    (images / "t").mkdir()
    file = images / "t" / "labels.csv"
    file.write_text("path,class\n" + "".join(f"~/i/{i:02}.png,{'ab'[i % 2]}\n" for i in range(20)))
    assert len(load(file).samples) == 20
    file.write_text("path,class\n~nobody_of_this_name/a.png,a\n")
    with pytest.raises(DataError, match="is no file"):
        load(file)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("{}e300", "line 3, column 'angle': '1e300' is out of the range of 32 bits"),
        ("{}e-300", "'1e-300' is out of the range of 32 bits"),
        ("170000000{}.5", "differ by .* only, which numbers of 32 bits cannot tell apart; subtract"),
        ('"0,{}"', "'0,0' is not a number; write its decimals behind a point"),
    ],
)
def test_numbers_that_the_network_cannot_give_are_refused(images, number, words):
    rows = [(number.format(i % 7),) for i in range(20)]
    with pytest.raises(DataError, match=words):
        load(table(images, ["angle"], rows), targets=("angle",))


def test_a_number_that_never_changes_may_be_any(images):
    data = load(
        table(images, ["angle", "stamp"], [(f"{i}", "1700000000") for i in range(20)]), targets=("angle", "stamp")
    )
    assert data.warnings == ("'stamp' is 1.7e+09 in every training image",)


def test_columns_are_known_whatever_their_case(images):
    rows = [("ab"[i % 2], f"drive{i // 4}", "Val" if i >= 16 else "TRAIN") for i in range(20)]
    file = table(images, ["Class", "Bag", "Split"], rows)
    file.write_text(file.read_text().replace("path", "PATH", 1))
    data = load(file)

    assert data.class_names == ("a", "b")
    assert [(s.group, s.part) for s in data.samples] == [(group, part.lower()) for _, group, part in rows]


def test_a_class_may_be_called_as_a_column_of_ours_in_another_case(images):
    data = load(table(images, ["Bag", "Shoe"], [("1", "0"), ("0", "1"), ("1", "1")] * 5), task="multilabel")
    assert data.class_names == ("Bag", "Shoe")


def test_a_part_that_is_none_is_refused_though_another_tool_named_its_column(images):
    rows = [("ab"[i % 2], "UNASSIGNED" if i == 7 else "VALIDATION" if i > 15 else "TRAIN") for i in range(20)]
    with pytest.raises(DataError, match="line 9, column 'split': 'UNASSIGNED' is none of train, val, test"):
        load(table(images, ["label", "set"], rows))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\3\4\x14\0", "is an archive or a workbook"),
        (b"PAR1abcd", "is a Parquet file"),
        (bytes(1000), "is a file of zeros"),
        (b"", "line 1: no column 'path' there"),
        (b"x" * 5000 + b"\n1\n", r"no column 'path' among \['x{197,198}; name"),
    ],
)
def test_what_is_no_table_is_refused_in_a_line_of_a_line_s_length(images, content, words):
    (images / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        load(images / "t.csv")
    assert len(str(caught.value)) < 500


def test_a_class_of_few_images_that_reads_as_several_is_refused_with_that(images):
    with pytest.raises(DataError, match=r"class 'a\|b' has 1 usable images.*'a\|b' reads as several names"):
        load(table(images, ["class"], [("a|b" if i == 3 else "ab"[i % 2],) for i in range(20)]))


WITH_LIST = {
    "numpy": [str(np.array(names)) for names in (["cat", "dog"], ["cat"], ["it's", "dog"], [])],
    "python": [str(names) for names in (["cat", "dog"], ["cat"], ["it's", "dog"], [])],
    "tuple": [str(names) for names in (("cat", "dog"), ("cat",), ("it's", "dog"), ())],
    "set": [str(names) for names in ({"cat", "dog"}, {"cat"}, {"it's", "dog"}, set())],
    "json": [json.dumps(names) for names in (["cat", "dog"], ["cat"], ["it's", "dog"], [])],
}


@pytest.mark.parametrize("written", WITH_LIST)
def test_what_programs_write_for_several_classes_is_read_as_these_classes(images, written):
    file = images / "labels.csv"
    with file.open("w", newline="") as text:
        csv.writer(text).writerows(
            [("path", "classes"), *((f"i/{i:02}.png", WITH_LIST[written][i % 4]) for i in range(20))]
        )

    data = load(file)

    assert data.class_names == ("cat", "dog", "it's")
    assert [s.values for s in data.samples[:4]] == [(1, 1, 0), (1, 0, 0), (0, 1, 1), (0, 0, 0)]


def test_a_long_array_of_numpy_that_goes_over_several_lines_is_read(images):
    names = [f"kind {number:03}" for number in range(60)]
    assert "\n" in str(np.array(names))
    file = images / "labels.csv"
    with file.open("w", newline="") as text:
        rows = ((f"i/{i:02}.png", str(np.array(names[i:]))) for i in range(20))
        csv.writer(text).writerows([("path", "classes"), *rows])

    assert load(file).class_names == tuple(names)


def test_characters_beyond_16_bits_are_read_from_json(images):
    cells = [json.dumps(["\U0001f600", "dog"]), json.dumps(["dog"])] * 10
    file = images / "labels.csv"
    with file.open("w", newline="") as text:
        csv.writer(text).writerows([("path", "classes"), *((f"i/{i:02}.png", cell) for i, cell in enumerate(cells))])

    assert load(file).class_names == ("dog", "\U0001f600")


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("['cat', 'dog' 'bird']", "no list that can be read"),
        ("['cat''dog']", "no list that can be read"),
        ("{'cat' 'dog'}", "no list that can be read"),
        ("('cat' 'dog')", "no list that can be read"),
        ("['cat', None]", "no list that can be read"),
        ("['cat', ['dog']]", "no list that can be read"),
        ("['cat', 'dog'", "no list that can be read"),
        ("{'cat': 1}", "no list that can be read"),
        ("[cat, dog]", "no list that can be read"),
        ("{cat,dog}", "no list that can be read"),
        ("array(['cat', 'dog'], dtype=object)", "no list that can be read"),
        ("[1, 0, 1]", "holds numbers in place of names"),
        ("[1 0 1]", "holds numbers in place of names"),
        ("[0. 1.]", "holds numbers in place of names"),
        ("1;0;1", "is a vector of 0 and 1"),
        ("['1', '0', '0']", "is a vector of 0 and 1"),
    ],
)
def test_a_list_of_which_nobody_knows_what_it_says_is_refused(images, cell, problem):
    file = images / "labels.csv"
    with file.open("w", newline="") as text:
        csv.writer(text).writerows([("path", "classes"), ("i/00.png", "cat"), ("i/01.png", cell)])

    with pytest.raises(DataError, match=rf"line 3, column 'classes': .*{problem}.* as.* a;b") as error:
        load(file)
    assert "\n" not in str(error.value)


def test_brackets_in_a_name_are_part_of_it(images):
    cells = ["(unknown)", "car (red);[x] bus", "bus {old}", "car (red)"] * 5

    data = load(table(images, ["classes"], [(cell,) for cell in cells]))

    assert data.class_names == ("(unknown)", "[x] bus", "bus {old}", "car (red)")


def parts(data):
    """The part of each image by its number; val is drawn where the table names none."""
    return {int(s.path.stem): s.part for s in data.samples}


HELD_OUT = (3, 7, 10, 12)
"""Rows that are flagged, two of each class of CLASSES."""


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "is_valid", "IsVal"])
@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("True", "False"), ("1.0", "0.0"), ("yes", "no")])
def test_a_column_of_flags_called_as_a_part_holds_its_images_out(images, name, yes, no):
    rows = [(*cells, yes if i in HELD_OUT else no) for i, cells in enumerate(CLASSES)]

    data = load(table(images, ["class", name], rows))

    assert parts(data) == {i: "val" if i in HELD_OUT else "train" for i in range(20)}
    assert f"the column {name!r} is taken for the images of val" in data.warnings


@pytest.mark.parametrize(
    ("names", "flagged", "expected"),
    [
        (("train",), ("1", "0", "0", "1"), ("train", "val", "val", "train")),
        (("train", "val"), ("10", "01", "00", "10"), ("train", "val", "test", "train")),
        (("train", "test"), ("10", "01", "00", "10"), ("train", "test", "val", "train")),
        (("train", "val", "test"), ("100", "010", "001", "100"), ("train", "val", "test", "train")),
        (("valid", "test"), ("00", "10", "01", "00"), ("train", "val", "test", "train")),
    ],
)
def test_an_image_that_no_column_flags_is_of_the_part_that_has_none(images, names, flagged, expected):
    rows = [(CLASSES[i][0], *flagged[i // 2 % 4]) for i in range(20)]

    data = load(table(images, ["class", *names], rows))

    assert parts(data) == {i: expected[i // 2 % 4] for i in range(20)}


def test_an_image_that_is_of_none_of_three_flagged_parts_is_refused(images):
    rows = [("a", "1", "0", "0"), ("b", "0", "0", "0")]

    with pytest.raises(DataError, match=r"line 3, column 'test': is not said, as none of train, val, test is"):
        load(table(images, ["class", "train", "val", "test"], rows))


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("set", "0120"), ("Subset", "1101"), ("test", "AABB"), ("valid", "0250"), ("fold", "0123"), ("K-Fold", "1234"),
        ("fold_id", "0011"),
    ],
)  # fmt: skip
def test_a_column_that_may_divide_the_images_and_is_not_used_is_said(images, name, cells):
    rows = [(CLASSES[i][0], cells[i % 4]) for i in range(20)]

    data = load(table(images, ["class", name], rows))

    said = f"the column {name!r} is not used; write train or val into a column 'part' to hold images out by it"
    assert said in data.warnings


@pytest.mark.parametrize("name", ["fold", "kfold", "set", "is_valid", "test", "Phase"])
@pytest.mark.parametrize("part", ["part", "split"])
def test_what_divides_the_images_is_no_class_beside_the_parts(images, name, part):
    rows = [(*flags, "val" if i % 5 == 0 else "train", str(i % 2)) for i, flags in enumerate(ONE_HOT)]

    data = load(table(images, ["wet", "dark", part, name], rows), task="multilabel")

    assert data.class_names == ("wet", "dark")
    assert parts(data) == {i: "val" if i % 5 == 0 else "train" for i in range(20)}
    assert f"the column {name!r} is not used; {part!r} says the parts" in data.warnings


ONE_HOT = [("1", "0"), ("0", "1"), ("1", "1"), ("0", "0")] * 5


@pytest.mark.parametrize("cells", ["0101", "0123"])
def test_a_fold_is_no_class_of_a_table_of_flags(images, cells):
    rows = [(*flags, cells[i % 4]) for i, flags in enumerate(ONE_HOT)]

    data = load(table(images, ["wet", "dark", "fold"], rows), task="multilabel")

    assert data.class_names == ("wet", "dark")
    assert [s.values for s in data.samples[:2]] == [(1, 0), (0, 1)]
    assert any(warning.startswith("the column 'fold' is not used") for warning in data.warnings)


def test_train_alone_among_classes_of_flags_is_one_of_them_and_test_is_not(images):
    rows = [(*flags, str(int(i in HELD_OUT))) for i, flags in enumerate(ONE_HOT)]

    vehicles = load(table(images, ["car", "bus", "train"], rows), task="multilabel")
    held_out = load(table(images, ["car", "bus", "test"], rows), task="multilabel")

    assert vehicles.class_names == ("car", "bus", "train")
    assert any("'train' is taken for a class; call it 'is_train'" in warning for warning in vehicles.warnings)
    assert held_out.class_names == ("car", "bus")
    assert [number for number, part in parts(held_out).items() if part == "test"] == list(HELD_OUT)


def test_flags_count_where_the_column_of_the_parts_is_empty(images):
    rows = [(*cells, "", str(int(i in HELD_OUT))) for i, cells in enumerate(CLASSES)]

    data = load(table(images, ["class", "part", "is_valid"], rows))

    assert [number for number, part in parts(data).items() if part == "val"] == list(HELD_OUT)


def accents(form):
    return unicodedata.normalize(form, "caf\u00e9")


@pytest.mark.parametrize(("written", "there"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_file_is_found_whose_accents_are_composed_otherwise(tmp_path, written, there):
    for name in ("a", "b"):
        write_folder(tmp_path / accents(there), {f"{name}{accents(written)}": 6}, first_seed=100 * ord(name))
    rows = [f"{accents(written)}/{name}{accents(there)}/{i:02}.png,{name}" for name in "ab" for i in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,class", *rows]), encoding="utf-8")

    data = load(tmp_path / "labels.csv")

    assert len(data.samples) == 12
    assert all(s.path.is_file() and s.path.parent.name[0] == data.class_names[s.label] for s in data.samples)


def test_of_two_files_that_differ_in_their_accents_alone_the_one_that_is_written_so_is_meant(images):
    for form, number in (("NFC", 0), ("NFD", 1)):
        (images / "i" / f"{number:02}.png").rename(images / "i" / f"{accents(form)}.png")
    lines = [
        f"i/{accents('NFC')}.png,a",
        f"i/{accents('NFD')}.png,b",
        *(f"i/{i:02}.png,{'ab'[i % 2]}" for i in range(2, 20)),
    ]
    (images / "labels.csv").write_text("\n".join(["path,class", *lines]), encoding="utf-8")

    names = [sample.path.name for sample in load(images / "labels.csv").samples]

    assert names.count(f"{accents('NFC')}.png") == names.count(f"{accents('NFD')}.png") == 1


def test_a_file_whose_name_differs_in_upper_and_lower_case_is_named(images):
    (images / "labels.csv").write_text("path,class\ni/00.PNG,a\n")

    with pytest.raises(DataError, match=r"line 2, column 'path': 'i/00.PNG' is no file, but 'i/00.png' is one"):
        load(images / "labels.csv")


def test_rows_that_a_group_joins_that_says_nothing_is_known_are_said(images):
    rows = [(*cells, "nan" if i < 4 else f"g{i}") for i, cells in enumerate(CLASSES)]

    (warning,) = [one for one in load(table(images, ["class", "group"], rows)).warnings if "group" in one]

    assert warning.startswith("4 rows are of the group 'nan', and stay in one part; leave such cells empty")

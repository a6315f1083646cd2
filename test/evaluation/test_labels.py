"""Label files and label topics as time intervals."""

from __future__ import annotations

import pytest
from tiny_model import as_multilabel, tiny_spec

from cnn_perception.errors import DataError
from cnn_perception.evaluation.labels import Interval, Labels, labels_from_changes, read_labels, read_measurements
from cnn_perception.label_text import NONE_OF_THESE, text_of

SECOND = 10**9


def written(tmp_path, text: str):
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_interval_includes_its_start_and_excludes_its_end(tmp_path):
    labels = read_labels(written(tmp_path, "start_s,end_s,class\n1.5,2.5,ant\n2.5,3,bee\n4,5,ant\n"))

    times = (1.5 * SECOND - 1, 1.5 * SECOND, 2.5 * SECOND - 1, 2.5 * SECOND, 3 * SECOND - 1, 3 * SECOND, 4 * SECOND)
    assert [labels.at(int(time)) for time in times] == [None, "ant", "ant", "bee", "bee", None, "ant"]


def test_lines_columns_and_spaces_may_come_in_any_order(tmp_path):
    text = "\ufeffclass, remark, end_s, start_s\nbée, x, 2, 1\n  ant ,, 1, -0.5\n"

    labels = read_labels(written(tmp_path, text))

    assert labels.intervals == (Interval(-SECOND // 2, SECOND, "ant"), Interval(SECOND, 2 * SECOND, "bée"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no column start_s, end_s, class"),
        ("start,end,class\n1,2,a\n", "has no column start_s, end_s"),
        ("start_s,end_s,class\n", "has no intervals"),
        ("start_s,end_s,class\n1,2,a\nx,3,a\n", "labels.csv, line 3, column 'start_s': 'x' is not a number"),
        ("start_s,end_s,class\n1,nan,a\n", "labels.csv, line 2, column 'end_s': 'nan' is not a number"),
        ("start_s,end_s,class\n1,inf,a\n", "labels.csv, line 2, column 'end_s': 'inf' is not a number"),
        ("start_s,end_s,class\n0,1_5,a\n", "labels.csv, line 2, column 'end_s': '1_5' is not a number"),
        ("start_s;end_s;class\n0;1,5;a\n", "column 'end_s': '1,5' is not a number; write it with a point, as 0.5"),
        ("start_s,end_s,class,class\n0,1,a,b\n", "labels.csv: has 'class' twice; rename one"),
        ("start_s,end_s,start_s,class\n0,1,2,b\n", "labels.csv: has 'start_s' twice; rename one"),
        ("start_s,end_s,class\n1700000000,1700000001,a\n", "too large; write seconds since the beginning"),
        ("start_s,end_s,class\n1\n", "labels.csv, line 2: 1 columns, the header has 3"),
        ("start_s,end_s,class\n2,2,a\n", r"ends at 2 s, not after its start at 2 s"),
        ("start_s,end_s,class\n1,2,\n", "labels.csv, line 2, column 'class': is empty"),
        ("start_s,end_s,class\n0,2,a\n4,5,a\n1.9,3,b\n", r"the lines 2 and 4 overlap"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line(tmp_path, text, complaint):
    with pytest.raises(DataError, match=complaint):
        read_labels(written(tmp_path, text))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_spreadsheets_unicode_is_read(tmp_path, encoding):
    (tmp_path / "labels.txt").write_text("start_s\tend_s\tclass\n0\t1\tbée\n", encoding)

    assert read_labels(tmp_path / "labels.txt").intervals == (Interval(0, SECOND, "bée"),)


def test_a_missing_or_binary_file_is_refused(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_labels(tmp_path / "binary.csv")


@pytest.mark.parametrize("column", ["bag", "Bag", "BAG", '" bag "'])
def test_rows_of_other_bags_are_left_out_however_the_column_is_written(tmp_path, column):
    path = written(tmp_path, f"{column},start_s,end_s,class\na,0,1,ant\nb,0,2,bee\n")

    assert read_labels(path, tmp_path / "a").intervals == (Interval(0, SECOND, "ant"),)
    numbers = tmp_path / "numbers.csv"
    numbers.write_text(f"time_s,speed,{column}\n0,1,a\n0,2,b\n")
    assert read_measurements(numbers, ("speed",), tmp_path / "b").values == ((2.0,),)


def test_a_row_that_names_no_bag_and_two_columns_of_bags_are_refused_with_the_line(tmp_path):
    blank = written(tmp_path, "Bag,start_s,end_s,class\na,0,1,ant\n ,1,2,bee\n")
    with pytest.raises(DataError, match=r"labels\.csv, line 3, column 'Bag': is empty; name the bag of the row"):
        read_labels(blank, tmp_path / "a")

    twice = written(tmp_path, "Bag,bag,start_s,end_s,class\na,b,0,1,ant\n")
    with pytest.raises(DataError, match=r"line 1: 'Bag' and 'bag' both name the bags; keep one"):
        read_labels(twice, tmp_path / "a")


def test_a_message_holds_until_the_next_one_and_the_last_for_ever():
    labels = labels_from_changes([(20, "bee"), (10, "ant"), (30, "")])

    assert [labels.at(time) for time in (9, 10, 19, 20, 29, 30, 10**18)] == [None, "ant", "ant", "bee", "bee", "", ""]
    assert labels.scored_as(tiny_spec(("ant", "bee")), "x").at(30) is None


def test_none_is_unlabelled_unless_the_model_has_such_a_class():
    labels = Labels((Interval(0, 1, "none"), Interval(1, 2, "ant")))

    assert labels.scored_as(tiny_spec(("ant", "bee")), "x").at(0) is None
    assert labels.scored_as(tiny_spec(("ant", "none")), "x").at(0) == "none"


def test_a_label_that_the_model_does_not_know_names_the_models_classes():
    labels = Labels((Interval(0, 1, "wasp"), Interval(1, 2, "ant")))

    with pytest.raises(DataError, match=r"truth\.csv: the model has no class 'wasp'; its classes are: ant, bee"):
        labels.scored_as(tiny_spec(("ant", "bee")), "truth.csv")


def test_labels_of_a_multilabel_model_are_sets_of_classes():
    spec = as_multilabel(tiny_spec(("ant", "bee")), 0.5, 0.5)
    texts = ["bee; ant", "ant", ";", "none", "ant;none"]
    labels = Labels(tuple(Interval(i, i + 1, text) for i, text in enumerate(texts)))

    scored = Labels(labels.intervals[:4]).scored_as(spec, "x")

    assert [scored.at(i) for i in range(4)] == [{"ant", "bee"}, {"ant"}, frozenset(), None]
    assert [text_of(scored.at(i)) for i in range(4)] == ["ant;bee", "ant", ";", ""]
    with pytest.raises(DataError, match="no class 'none'"):
        labels.scored_as(spec, "x")


def test_none_of_these_is_no_class_of_a_multilabel_model():
    spec = as_multilabel(tiny_spec(("ant", "bee")), 0.5, 0.5)

    scored = Labels((Interval(0, 1, NONE_OF_THESE),)).scored_as(spec, "x")

    assert scored.at(0) == frozenset()
    with pytest.raises(DataError, match="no class 'none of these'"):
        Labels((Interval(0, 1, "ant;none of these"),)).scored_as(spec, "x")

"""Owns: CSV files of labels as rows. Leaves to others: what the cells mean (test_labels, test_csv_table)."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnn_perception.errors import DataError
from cnn_perception.label_table import read_table


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_rows_know_their_line_whatever_a_cell_holds(tmp_path):
    text = '\ufeffpath , class\r\n"a,1.png", ant\r\n\r\n"two\nlines.png","b ""e"""\n c.png ,  bee \n'

    table = read_table(written(tmp_path, text), "mend it")

    assert table.header == ("path", "class")
    assert [(row.line, row.cells["path"], row.cells["class"]) for row in table.rows] == [
        (2, "a,1.png", "ant"),
        (4, "two\nlines.png", 'b "e"'),
        (6, "c.png", "bee"),
    ]
    assert str(table.rows[1].wrong("class", "is odd")).endswith("labels.csv, line 4, column 'class': is odd")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n1,2,3\n", r"labels.csv, line 3: 3 columns, the header has 2; mend it"),
        ("a,b\n1\n", r"labels.csv, line 2: 1 columns, the header has 2; mend it"),
        ("\na,b\n1,2\n", r"labels.csv, line 1: is blank; it must name the columns, separated by commas"),
        ('a,b\n"1,2\n', r"labels.csv, line 2: is not CSV \("),
        (b"a,b\n\xff,1\n", r"labels.csv: is not UTF-8 text; save it as CSV in UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_line(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        read_table(written(tmp_path, content), "mend it")


def test_a_file_that_cannot_be_opened_is_refused_with_the_cure(tmp_path):
    with pytest.raises(DataError, match=r"absent.csv: cannot be read \(No such file or directory\); name another"):
        read_table(tmp_path / "absent.csv", "name another")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_columns_are_parted_and_texts_encoded_as_spreadsheets_do(tmp_path, delimiter, encoding):
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    text = f'{mark}path{delimiter}classes\na.png{delimiter}"größe;x"\n'

    table = read_table(written(tmp_path, text.encode(encoding)), "mend it")

    assert table.header == ("path", "classes")
    assert [row.cells for row in table.rows] == [{"path": "a.png", "classes": "größe;x"}]


def test_half_a_character_is_no_text(tmp_path):
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_table(written(tmp_path, b"\xff\xfea\x00,"), "mend it")


@pytest.mark.parametrize(
    ("text", "flag"), [("0", False), ("0.0", False), ("False", False), ("1", True), ("1.0", True), ("TRUE", True)]
)
def test_flags_are_read_as_spreadsheets_write_them(tmp_path, text, flag):
    assert read_table(written(tmp_path, f"a\n{text}\n"), "mend it").rows[0].flag("a") is flag


@pytest.mark.parametrize("text", ["2", "yes", '""', "0.5", "nan"])
def test_what_is_no_flag_is_refused_with_its_line(tmp_path, text):
    with pytest.raises(DataError, match=r"line 2, column 'a': '.*' is neither 0 nor 1"):
        read_table(written(tmp_path, f"a,b\n{text},1\n"), "mend it").rows[0].flag("a")

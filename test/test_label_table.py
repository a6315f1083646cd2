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

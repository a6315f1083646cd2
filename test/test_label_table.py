"""Owns: CSV files of labels as rows. Leaves to others: what the cells mean (test_labels, test_csv_table)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cnn_perception.errors import DataError
from cnn_perception.label_table import ListedFiles, read_table


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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-16-le bare"])
def test_columns_are_parted_and_texts_encoded_as_spreadsheets_do(tmp_path, delimiter, encoding):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    encoding = encoding.removesuffix(" bare")
    text = f'{mark}path{delimiter}classes\na.png{delimiter}"größe;x"\n'

    table = read_table(written(tmp_path, text.encode(encoding)), "mend it")

    assert table.header == ("path", "classes")
    assert [row.cells for row in table.rows] == [{"path": "a.png", "classes": "größe;x"}]


def test_half_a_character_is_no_text(tmp_path):
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_table(written(tmp_path, b"\xff\xfea\x00,"), "mend it")


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        *((text, False) for text in ("0", "0.0", "False", "no", "N", "f")),
        *((text, True) for text in ("1", "1.0", "TRUE", "Yes", "y", "t")),
    ],
)
def test_flags_are_read_as_spreadsheets_write_them(tmp_path, text, flag):
    assert read_table(written(tmp_path, f"a\n{text}\n"), "mend it").rows[0].flag("a") is flag


@pytest.mark.parametrize("text", ["2", "-1", "maybe", "?", "0.5", "nan"])
def test_what_is_no_flag_is_refused_with_its_line(tmp_path, text):
    with pytest.raises(DataError, match=r"line 2, column 'a': '.*' is neither 0 nor 1"):
        read_table(written(tmp_path, f"a,b\n{text},1\n"), "mend it").rows[0].flag("a")


def rows_of(table):
    return [row.cells for row in table.rows]


def test_a_line_that_tells_excel_the_delimiter_is_none_of_the_table(tmp_path):
    table = read_table(written(tmp_path, "sep=;\r\npath;class\r\na,1.png;x\r\n"), "mend it")
    assert [(row.line, row.cells) for row in table.rows] == [(3, {"path": "a,1.png", "class": "x"})]


def test_a_delimiter_in_quotes_is_none(tmp_path):
    table = read_table(written(tmp_path, '"path";"class, or kind"\na.png;x\n'), "mend it")
    assert table.header == ("path", "class, or kind")


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_numbers_of_rows_in_the_first_column_are_left_out(tmp_path, name):
    table = read_table(written(tmp_path, f"{name},path,class\n0,a.png,x\n1,b.png,y\n"), "mend it")
    assert table.header == ("path", "class")
    assert rows_of(table) == [{"path": "a.png", "class": "x"}, {"path": "b.png", "class": "y"}]


def test_a_column_without_a_name_is_kept_where_it_says_something(tmp_path):
    assert read_table(written(tmp_path, ",path\nfirst,a.png\n"), "mend it").header == ("", "path")
    assert read_table(written(tmp_path, "path,class,\na.png,x,\n,,\n"), "mend it").header == ("path", "class")


@pytest.mark.parametrize("name", ["path", "filename", "File Name", "image_path", "img", "image_id", "id", "FILE"])
def test_the_column_of_the_path_is_known_by_other_tools_names(tmp_path, name):
    table = read_table(written(tmp_path, f"{name},label\na.png,x\n"), "mend it").naming("path").naming("class")
    assert rows_of(table) == [{"path": "a.png", "class": "x"}]


def test_a_plain_name_is_taken_before_a_vague_one_and_two_plain_ones_are_refused(tmp_path):
    table = read_table(written(tmp_path, "id,filename,label_id,label\n7,a.png,0,x\n"), "mend it")
    assert table.naming("path").naming("class").header == ("id", "path", "label_id", "class")
    table = read_table(written(tmp_path, "filename,label,category\na.png,x,y\n"), "mend it")
    with pytest.raises(DataError, match="'label' and 'category' may both be the column 'class'; rename the one"):
        table.naming("class")


def found(folder: Path, *paths: str) -> tuple[list[Path | None], ListedFiles]:
    table = read_table(written(folder, "\n".join(["path", *(f'"{path}"' for path in paths)])), "mend it")
    files = ListedFiles((folder,))
    return [files.find(row) for row in table.rows], files


@pytest.mark.parametrize(
    "start", ["/home/bob/data/", "C:\\Users\\bob\\data\\", "D:/data/", "\\\\nas\\share\\", "/"], ids=str
)
def test_paths_of_another_machine_are_found_by_their_longest_ending_here(tmp_path, start):
    for name in ("cats/1.png", "dogs/1.png", "1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    ends = ["cats/1.png", "dogs/1.png"]
    paths, files = found(tmp_path, *(start + (end.replace("/", "\\") if "\\" in start else end) for end in ends))
    assert paths == [tmp_path / end for end in ends]
    assert files.moved == {start.replace("\\", "/"): tmp_path}


def test_a_relative_path_that_is_nowhere_stays_missing_and_two_of_one_image_are_refused(tmp_path):
    (tmp_path / "1.png").touch()
    assert found(tmp_path, "gone/1.png", "/data/2.png")[0] == [None, None]
    with pytest.raises(DataError, match=r"line 3, column 'path': '/b/dogs/1.png' is the image of line 2 already"):
        found(tmp_path, "/a/cats/1.png", "/b/dogs/1.png")


@pytest.fixture
def usual_limit():
    """Python's own limit of a cell, which holds for the whole process."""
    before = csv.field_size_limit(131072)
    yield
    csv.field_size_limit(before)


@pytest.mark.usefixtures("usual_limit")
def test_a_cell_may_hold_a_mask(tmp_path):
    mask = "7 3 " * 500_000
    file = tmp_path / "labels.csv"
    file.write_text(f"path,mask\na.png,{mask}\n")

    (row,) = read_table(file, "mend it").rows

    assert row.cells == {"path": "a.png", "mask": mask.strip()}


@pytest.mark.usefixtures("usual_limit")
def test_a_cell_that_is_too_long_is_named_by_its_line_and_the_limit(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(f'path,class\na.png,x\nb.png,"{"y" * (2**24 + 1)}"\n')

    with pytest.raises(DataError, match=r"labels\.csv, line 3: a cell has more than 16777216 characters; .*leave out"):
        read_table(file, "mend it")


@pytest.mark.usefixtures("usual_limit")
def test_a_higher_limit_of_the_process_stays(tmp_path):
    csv.field_size_limit(2**25)
    file = tmp_path / "labels.csv"
    file.write_text("path,class\na.png,x\n")

    read_table(file, "mend it")

    assert csv.field_size_limit() == 2**25

"""Owns: what is read of an earlier evaluation, and how it is refused. Leaves to others: comparing (test_baseline)."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from evaluating import LABELS, colour_bag, run
from tiny_model import tiny_spec, with_unknown, write_tiny_model

from cnn_perception.comparison.compared_frame import Answer
from cnn_perception.comparison.recorded_answers import read_answers
from cnn_perception.errors import DataError, PerceptionError
from cnn_perception.model.spec import UNKNOWN


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    model = write_tiny_model(folder / "tiny.onnx")
    run(folder, model, "--bag", colour_bag(folder / "bag"), "--no-video")
    return folder / "out"


@pytest.fixture
def copy(evaluated, tmp_path) -> Path:
    for name in ("report.json", "predictions.csv"):
        (tmp_path / name).write_bytes((evaluated / name).read_bytes())
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_report_gives_the_model_and_every_answer(evaluated):
    found = read_answers(evaluated / "report.json")

    assert found.card.names == ("red", "green", "blue")
    assert (found.card.task, found.card.has_unknown_rule) == ("multiclass", False)
    assert found.topic == "/camera/image_raw"
    assert len(found.rows) == 10
    assert [row.answer.given for row in found.rows.values()] == ["red"] * 3 + ["green"] * 3 + ["blue"] * 4
    assert [row.truth for row in found.rows.values()][6:] == [("green",), ("blue",), ("blue",), ("",)]
    assert LABELS.count("blue") == 1


def test_frames_of_one_picture_have_one_content_and_of_another_another(evaluated):
    contents = [row.content for row in read_answers(evaluated / "report.json").rows.values()]

    assert [contents.index(one) for one in contents] == [0, 0, 0, 3, 3, 3, 6, 6, 6, 6]
    assert all(len(one) == 16 for one in contents)


def test_of_an_image_called_unknown_it_is_known_whether_the_best_class_was_right(tmp_path):
    model = write_tiny_model(tmp_path / "tiny.onnx", spec=with_unknown(tiny_spec(), 1e6))
    run(tmp_path, model, "--bag", colour_bag(tmp_path / "bag"), "--no-video")

    rows = list(read_answers(tmp_path / "out" / "report.json").rows.values())

    assert {row.answer.given for row in rows} == {UNKNOWN}
    assert [row.answer.best for row in rows[:7]] == ["red"] * 3 + ["green"] * 3 + [""]
    assert rows[9].answer == Answer(UNKNOWN, None)


@pytest.mark.parametrize("name", ["report.json", "predictions.csv"])
def test_a_file_that_is_not_there_is_named(copy, name):
    (copy / name).unlink()

    with pytest.raises(DataError, match=name):
        read_answers(copy / "report.json")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", '"text"', "\x00", '{"a": NaN}', "[" * 100_000, '{"task": "multiclass"}']
)
def test_what_is_no_report_is_refused_in_one_line(copy, text):
    (copy / "report.json").write_text(text)

    with pytest.raises(DataError, match="evaluate the baseline again") as caught:
        read_answers(copy / "report.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("field", ["task", "topic", "source", "labels", "model"])
def test_a_report_of_an_older_version_is_refused_by_the_field_that_it_lacks(copy, field):
    report = json.loads((copy / "report.json").read_text())
    del report[field]
    (copy / "report.json").write_text(json.dumps(report))

    with pytest.raises(
        DataError, match=f"does not say '{field}' as this version writes it; evaluate the baseline again"
    ):
        read_answers(copy / "report.json")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("task",), "segmentation"),
        (("task",), 3),
        (("model", "sha256"), None),
        (("model", "spec", "class_names"), ["red", 2]),
        (("model", "spec", "class_names"), "red"),
        (("model", "spec", "unknown"), "yes"),
    ],
)
def test_a_field_of_another_kind_is_refused_in_one_line(copy, path, value):
    report = json.loads((copy / "report.json").read_text())
    place = report
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (copy / "report.json").write_text(json.dumps(report))

    with pytest.raises(DataError, match="evaluate the baseline again"):
        read_answers(copy / "report.json")


@pytest.mark.parametrize("column", ["received_ns", "content", "stamp_ns", "predicted", "truth"])
def test_a_table_of_an_older_version_is_refused_by_the_column_that_it_lacks(copy, column):
    with (copy / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    columns = [name for name in rows[0] if name != column]
    with (copy / "predictions.csv").open("w") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)

    with pytest.raises(DataError, match=f"has no column '{column}', as of another version"):
        read_answers(copy / "report.json")


@pytest.mark.parametrize("stop", [0.2, 0.5, 0.9])
def test_a_table_that_was_cut_off_is_refused_or_whole_lines_are_read(copy, stop):
    path = copy / "predictions.csv"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * stop)])

    with pytest.raises(DataError, match=r"predictions\.csv"):
        read_answers(copy / "report.json")


def test_a_cell_that_is_no_number_is_refused_with_its_line(copy):
    change(copy / "predictions.csv", "3,,", "3,,x")

    with pytest.raises(DataError, match=r"predictions\.csv, line 5: .* is not a number"):
        read_answers(copy / "report.json")


@pytest.mark.parametrize("seed", range(40))
def test_any_damaged_byte_leaves_a_reading_or_an_error_in_one_line(copy, seed):
    path = copy / ("predictions.csv" if seed % 2 else "report.json")
    data = bytearray(path.read_bytes())
    data[(seed * 7919) % len(data)] = (seed * 101) % 256
    path.write_bytes(data)

    said = ""
    try:
        read_answers(copy / "report.json")
    except PerceptionError as error:
        said = str(error)
    assert "\n" not in said

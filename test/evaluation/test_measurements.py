"""Owns: numbers measured beside a recording, from files and topics. Leaves to others: reading bags (test_reader)."""

from __future__ import annotations

import math

import pytest

from cnn_perception.errors import DataError
from cnn_perception.evaluation.labels import Measurements, measurements_from_messages, read_measurements

SECOND = 10**9


def written(tmp_path, text: str):
    path = tmp_path / "numbers.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_nearest_measurement_counts_and_of_two_the_earlier():
    track = Measurements((0, 10, 40), ((1.0,), (2.0,), (3.0,)))

    assert [track.at(time) for time in (-5, 4, 5, 6, 24, 25, 26, 99)] == [
        (1.0,), (1.0,), (1.0,), (2.0,), (2.0,), (2.0,), (3.0,), (3.0,),
    ]  # fmt: skip


def test_beyond_half_a_second_nothing_is_known():
    track = Measurements((0,), ((1.0,),))

    assert [track.at(time) for time in (-SECOND // 2, SECOND // 2, SECOND // 2 + 1)] == [(1.0,), (1.0,), None]
    assert Measurements((), ()).at(0) is None


def test_a_measurement_that_is_no_number_makes_its_time_unlabelled():
    track = Measurements((0, 10), ((1.0, math.nan), (2.0, 3.0)))

    assert [track.at(0), track.at(9)] == [None, (2.0, 3.0)]


def test_columns_and_lines_may_come_in_any_order(tmp_path):
    path = written(tmp_path, "\ufeffspeed, note, time_s, steering\n5, b, 2.5, 0.2\n4, a, 1, -0.1\n")

    track = read_measurements(path, ("steering", "speed"))

    assert track == Measurements((SECOND, 5 * SECOND // 2), ((-0.1, 4.0), (0.2, 5.0)))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no 'time_s', 'speed'; it has no names, the model needs 'time_s', 'speed'"),
        ("time_s,sped\n1,2\n", "has no 'speed'; it has 'time_s', 'sped'"),
        ("time_s,speed\n", "has no line of numbers; write them as time_s,speed"),
        ("time_s,speed\n1,2\n2,fast\n", "numbers.csv, line 3, column 'speed': 'fast' is not a number"),
        ("time_s,speed\n1,nan\n", "numbers.csv, line 2, column 'speed': 'nan' is not a number"),
        ("time_s,speed\n1e300,1\n", "numbers.csv, line 2, column 'time_s': '1e300' is too large; write seconds since"),
        ("time_s,speed\n1,2\n3,4\n1.0,5\n", "numbers.csv: the lines 2 and 4 give different numbers at 1 s; remove one"),
        ("time_s,speed\n1\n", "numbers.csv, line 2: 1 columns, the header has 2"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line(tmp_path, text, complaint):
    with pytest.raises(DataError, match=complaint):
        read_measurements(written(tmp_path, text), ("speed",))


def test_the_same_said_twice_of_one_time_is_no_contradiction(tmp_path):
    assert read_measurements(written(tmp_path, "time_s,speed\n1,2\n1,2\n"), ("speed",)).at(SECOND) == (2.0,)


def test_times_beyond_half_a_second_from_every_frame_are_unused():
    track = Measurements((0, SECOND, 3 * SECOND), ((1.0,), (2.0,), (3.0,)))

    assert track.unused([SECOND * 3 // 2, SECOND // 2]) == (3 * SECOND,)
    assert track.unused([SECOND // 2 + 1]) == (0, 3 * SECOND)
    assert track.unused([]) == (0, SECOND, 3 * SECOND)


def test_a_missing_or_binary_file_is_refused(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(DataError, match="cannot be read"):
        read_measurements(tmp_path / "absent.csv", ("speed",))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_measurements(tmp_path / "binary.csv", ("speed",))


def test_messages_are_ordered_as_the_models_numbers():
    rows = [(20, {"b": 2.0, "a": 1.0, "c": 0.0}), (10, {"a": 3.0, "b": 4.0})]

    assert measurements_from_messages(rows, ("a", "b"), "x") == Measurements((10, 20), ((3.0, 4.0), (1.0, 2.0)))


def test_messages_of_other_numbers_alone_are_left_out():
    arm, gripper = {"a": 1.0, "b": 2.0}, {"gripper": 0.5}

    found = measurements_from_messages([(10, gripper), (20, arm), (30, {})], ("a", "b"), "x")
    assert found == Measurements((20,), ((1.0, 2.0),))
    with pytest.raises(DataError, match="x: has no 'b'; it has 'a', the model needs 'a', 'b'"):
        measurements_from_messages([(10, arm), (20, {"a": 1.0})], ("a", "b"), "x")
    with pytest.raises(DataError, match="x: has no 'a', 'b'; it has 'gripper', the model needs 'a', 'b'"):
        measurements_from_messages([(10, gripper)], ("a", "b"), "x")


def test_a_number_without_name_is_for_a_model_of_one_number_only():
    assert measurements_from_messages([(10, {"": 3.0})], ("a",), "x") == Measurements((10,), ((3.0,),))
    with pytest.raises(DataError, match="x: has no 'a', 'b'; it has no names, the model needs 'a', 'b'"):
        measurements_from_messages([(10, {"": 3.0})], ("a", "b"), "x")

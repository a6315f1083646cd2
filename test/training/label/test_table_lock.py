"""Owns: who may label a table beside whom: on this machine, on another one that shares its disk, after a kill.

Leaves to others: real processes of one machine (test_label_command).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cnn_perception.errors import DataError
from training.label.storage import table_lock
from training.label.storage.table_lock import locked


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch):
    """Makes this process one of another machine, to which the disk passes no locks on."""
    monkeypatch.setattr(table_lock.fcntl, "flock", lambda *_: None)
    monkeypatch.setattr(table_lock, "_BEAT_S", 0.02)
    monkeypatch.setattr(table_lock, "_SILENCE_S", 0.4)

    def move(name: str) -> None:
        monkeypatch.setattr(table_lock, "machine", lambda: name)

    return move


def sign(table: Path) -> Path:
    return table.with_name(".labels.csv.lock")


def test_a_table_is_labelled_by_one_at_a_time_and_by_the_next_after_that(table):
    with locked(table, "Ada"):
        with (
            pytest.raises(DataError, match="is being labelled by Ada; go on there, or end that first"),
            locked(table, "Bob"),
        ):
            raise AssertionError
        assert "Ada" in sign(table).read_text()

    assert sign(table).read_bytes() == b""
    with locked(table, "Bob"):
        assert "Bob" in sign(table).read_text()


def test_signs_of_life_from_another_machine_refuse_a_second_one_that_no_lock_keeps_out(table, elsewhere):
    elsewhere("one")
    with locked(table, "Ada"):
        elsewhere("other")
        with pytest.raises(DataError, match="labelled by Ada, on another machine"), locked(table, "Bob"):
            raise AssertionError
        assert "Ada" in sign(table).read_text()


@pytest.mark.parametrize("where", ["here", "on another machine"])
def test_what_a_killed_one_left_is_taken_over_wherever_it_ran(table, elsewhere, where):
    elsewhere(where)
    sign(table).write_text("000000000017 on-another-machine process 12 of Ada on port 8000\n")

    with locked(table, "Bob"):
        assert "Bob" in sign(table).read_text()


@pytest.mark.parametrize("content", [b"", b"process 12 of Ada on port 8000", b"\xff\xfe\x00", b"\n\n", b"x" * 9000])
def test_whatever_stands_in_the_file_of_a_lock_that_nobody_holds_is_no_obstacle(table, elsewhere, content):
    elsewhere("here")
    sign(table).write_bytes(content)

    with locked(table, "Bob"):
        assert "Bob" in sign(table).read_text()


def test_a_person_whose_name_is_no_text_can_label(table):
    with locked(table, "process 1 of \udcff\nEve"), pytest.raises(DataError) as refused, locked(table, "Bob"):
        raise AssertionError

    assert "\n" not in str(refused.value)


def test_one_that_ends_while_another_machine_waits_for_signs_makes_room_at_once(table, elsewhere, monkeypatch):
    elsewhere("other")
    monkeypatch.setattr(table_lock, "_SILENCE_S", 1e9)
    sign(table).write_text("000000000017 one process 12\n")
    monkeypatch.setattr(table_lock.time, "sleep", lambda _: sign(table).write_bytes(b""))

    with locked(table, "Bob"):
        assert "Bob" in sign(table).read_text()


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    with pytest.raises(DataError, match="cannot be written"), locked(tmp_path / "gone" / "labels.csv", "Ada"):
        raise AssertionError

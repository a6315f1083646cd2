"""Owns: what a decision does to the table and to nothing else: on the disk at once, taken back, beside other writers.

Leaves to others: the page (test_label_page), processes that are killed (test_label_command).
"""

from __future__ import annotations

import csv
import errno
import json
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from labelling import read_cells, rows_of, session_of, write_set, write_table
from recording import SHA256, Recording, picture, raw

from cnn_perception import files
from cnn_perception.errors import DataError
from training.label.answers import Numbers, SeveralClasses
from training.label.session import Decision, Session
from training.label.storage import stored_table
from training.label.storage.saving import NotSavedError

CLASSES = ("ant", "bee")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", rows_of(4), CLASSES)


def say(session: Session, number: int, *answer: str) -> dict:
    return session.decide(Decision((number,), answer, "labelled"), -1)


def on_disk(table: Path) -> list[tuple[str, str]]:
    classes, states = read_cells(table, "class"), read_cells(table, "state")
    return [(classes[path], states[path]) for path in classes]


def test_a_decision_is_in_the_file_when_it_is_answered_and_changes_its_row_alone(table):
    rows = rows_of(3)
    rows[1]["note of somebody"] = 'a, "quoted"\nnote'
    write_table(table, [{"note of somebody": "", **row} for row in rows])
    session = session_of(table)

    view = say(session, 1, "bee")

    assert on_disk(table) == [("", ""), ("bee", "labelled"), ("", "")]
    assert read_cells(table, "note of somebody")["images/001.png"] == 'a, "quoted"\nnote'
    assert view["rows"][1]["answer"] == ["bee"]


def test_nothing_is_written_before_the_first_decision(table):
    before = table.read_bytes()

    session_of(table).view()

    assert table.read_bytes() == before
    assert sorted(path.name for path in table.parent.iterdir()) == ["classes.txt", "images", "labels.csv"]


def test_none_of_these_and_skip_are_told_from_what_is_undecided(table):
    session = session_of(table)

    say(session, 0, "none of these")
    session.decide(Decision((1,), (), "skipped"), -1)

    assert on_disk(table)[:3] == [("none of these", "labelled"), ("", "skipped"), ("", "")]


def test_several_images_are_decided_at_once_and_taken_back_at_once(table):
    session = session_of(table)

    session.decide(Decision((0, 2, 3), ("ant",), "labelled"), -1)
    assert [name for name, _ in on_disk(table)] == ["ant", "", "ant", "ant"]

    session.undo(-1)
    assert on_disk(table) == [("", "")] * 4


def test_every_decision_is_taken_back_in_turn_also_after_a_restart(table):
    first = session_of(table)
    say(first, 0, "ant")
    say(first, 1, "bee")
    say(first, 0, "bee")

    again = session_of(table)
    states = [on_disk(table)[:2]]
    at = []
    for _ in range(3):
        at.append(again.undo(-1)["at"])
        states.append(on_disk(table)[:2])

    ant, bee, nothing = ("ant", "labelled"), ("bee", "labelled"), ("", "")
    assert states == [[bee, bee], [ant, bee], [ant, nothing], [nothing, nothing]]
    assert at == [0, 1, 0]
    with pytest.raises(DataError, match="no decision to take back"):
        again.undo(-1)


def test_what_was_taken_back_is_not_taken_back_again_after_a_restart(table):
    session = session_of(table)
    say(session, 0, "ant")
    say(session, 1, "ant")
    session.undo(-1)
    say(session, 2, "bee")
    assert len((table.parent / ".labels.csv.undo").read_text().splitlines()) == 2

    again = session_of(table)
    again.undo(-1)
    again.undo(-1)

    assert on_disk(table) == [("", "")] * 4
    assert again.view()["undo"] == 0


def test_a_decision_that_was_taken_back_stays_so_where_an_earlier_one_had_left_the_same(table):
    session = session_of(table)
    for name in ("ant", "bee", "ant"):
        say(session, 0, name)
    session.undo(-1)
    session.undo(-1)

    again = session_of(table)

    assert on_disk(table)[0] == ("ant", "labelled")
    assert again.view()["undo"] == 1
    again.undo(-1)
    assert on_disk(table)[0] == ("", "")


@pytest.mark.parametrize(
    "damage",
    [b'[{"path": "images/000.png", "bef', b"no JSON\n", b'[{"path": 1}]\n', b"[[]]\n", b"\xff\n", b"3\n"],
)
def test_a_damaged_end_of_what_can_be_taken_back_costs_nothing_before_it(table, damage):
    say(session_of(table), 0, "ant")
    with (table.parent / ".labels.csv.undo").open("ab") as file:
        file.write(damage)

    again = session_of(table)
    say(again, 1, "bee")
    again.undo(-1)
    again.undo(-1)

    assert on_disk(table) == [("", "")] * 4


def test_what_a_stranger_left_for_undo_changes_no_other_column(table):
    line = [{"path": "images/000.png", "before": {"path": "/etc/passwd"}, "after": {"path": "images/000.png"}}]
    (table.parent / ".labels.csv.undo").write_text(json.dumps(line) + "\n")

    assert session_of(table).view()["undo"] == 0


def test_a_full_disk_is_said_and_the_same_decision_is_kept_once_there_is_room(table, monkeypatch):
    session = session_of(table)
    say(session, 0, "ant")
    before = table.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        with pytest.raises(NotSavedError, match="disk full; free some space"):
            say(session, 1, "bee")
        assert table.read_bytes() == before
        assert session.view()["rows"][1]["state"] == ""

    say(session, 1, "bee")
    assert on_disk(table)[:2] == [("ant", "labelled"), ("bee", "labelled")]
    session.undo(-1)
    session.undo(-1)
    assert on_disk(table) == [("", "")] * 4


def test_a_decision_that_the_table_could_not_take_is_none_that_can_be_taken_back(table, monkeypatch):
    session = session_of(table)
    say(session, 0, "ant")

    def refused(*_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refused)
        with pytest.raises(NotSavedError, match=r"cannot be written \(Permission denied\); make its folder writable"):
            say(session, 1, "bee")

    assert session.view()["undo"] == 1
    session.undo(-1)
    assert on_disk(table) == [("", "")] * 4


def test_rows_that_another_program_adds_are_kept_and_shown(table):
    session = session_of(table)
    say(session, 0, "ant")
    with table.open("a", newline="") as file:
        csv.writer(file).writerow(["images/001.png".replace("001", "new"), "", "0.99", ""])
    (table.parent / "images" / "new.png").write_bytes((table.parent / "images" / "001.png").read_bytes())

    view = say(session, 1, "bee")

    assert on_disk(table) == [("ant", "labelled"), ("bee", "labelled"), ("", ""), ("", ""), ("", "")]
    assert view["order"] == [0, 4, 1, 2, 3]
    assert session.view(0)["news"] == "the table was changed by another program: 1 images are new"


def test_labels_and_columns_that_another_program_writes_are_taken(table):
    session = session_of(table)
    say(session, 0, "ant")
    rows = [{**row, "state": "labelled", "class": "bee", "weight": "2"} for row in rows_of(4)]
    write_table(table, rows)

    say(session, 3, "ant")

    assert [name for name, _ in on_disk(table)] == ["bee", "bee", "bee", "ant"]
    assert set(read_cells(table, "weight").values()) == {"2"}
    session.undo(-1)
    assert session.view()["undo"] == 0  # what the other program has decided is not ours to take back


def test_decisions_that_an_old_copy_of_the_file_has_lost_are_written_again(table):
    old = table.read_bytes()
    session = session_of(table)
    say(session, 0, "ant")
    table.write_bytes(old)  # a spreadsheet that was opened before

    news = session.view(0)["news"]

    assert on_disk(table)[0] == ("ant", "labelled")
    assert "1 had lost their label, which is kept" in news


@pytest.mark.parametrize(
    "content",
    [None, b"", b"path,class\nimages/000.png\n", b"other,columns\n1,2\n", b"path,class\na.png,\na.png,\n",
     b"path,class,state\nimages/000.png,,done\n", b"\xff\xfe\x00"],
)  # fmt: skip
def test_a_file_that_is_no_table_any_more_is_never_overwritten(table, content):
    session = session_of(table)
    before = table.read_bytes()
    table.unlink() if content is None else table.write_bytes(content)

    with pytest.raises(NotSavedError) as refused:
        say(session, 0, "ant")

    assert "\n" not in str(refused.value)
    assert (table.read_bytes() if table.exists() else None) == content
    table.write_bytes(before)
    say(session, 0, "ant")
    assert on_disk(table)[0] == ("ant", "labelled")


def test_another_set_in_the_place_of_the_first_gets_none_of_its_labels_and_the_first_goes_on(table):
    session = session_of(table)
    say(session, 0, "ant")
    table.parent.rename(table.parent.with_name("first"))
    with pytest.raises(NotSavedError, match=r"cannot be read \(No such file or directory\); put it back"):
        say(session, 1, "bee")
    write_set(table.parent, rows_of(4), ("x", "y"))
    before = table.read_bytes()

    for work in (session.view, lambda: say(session, 1, "bee"), lambda: session.undo(-1)):
        with pytest.raises(NotSavedError, match="lies in another folder now; put the first back"):
            work()
    assert table.read_bytes() == before

    table.parent.rename(table.parent.with_name("other"))
    table.parent.with_name("first").rename(table.parent)
    say(session, 1, "bee")
    assert [name for name, _ in on_disk(table)] == ["ant", "bee", "", ""]


def test_a_link_is_followed_to_the_table_it_means(table, tmp_path):
    link = table.parent / "work.csv"
    link.symlink_to(table)

    say(session_of(link), 0, "ant")

    assert link.is_symlink()
    assert on_disk(table)[0] == ("ant", "labelled")


def test_a_new_class_is_written_to_the_list_and_keeps_the_keys_of_the_others(table):
    session = session_of(table)

    view = session.add_class(" cat ", -1)
    say(session, 0, "cat")

    assert (table.parent / "classes.txt").read_text() == "ant\nbee\ncat\n"
    assert [(one["name"], one["key"]) for one in view["classes"]] == [("ant", "1"), ("bee", "2"), ("cat", "3")]


def test_classes_that_another_program_has_listed_meanwhile_are_kept(table):
    session = session_of(table)
    (table.parent / "classes.txt").write_text("ant\nbee\nwasp\n")

    session.add_class("cat", -1)

    assert (table.parent / "classes.txt").read_text() == "ant\nbee\nwasp\ncat\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [("Ant", "look alike"), ("b\u200bee", "cannot be seen"), ("", "shows nothing"), ("a;b", "stand between"),
     ("None-of-these", "reads as"), ("bee", "look alike"), ("x" * 99, "99 characters")],
)  # fmt: skip
def test_a_class_that_people_or_tables_would_mistake_is_refused_in_one_line(table, name, said):
    with pytest.raises(DataError, match=said) as refused:
        session_of(table).add_class(name, -1)

    assert "\n" not in str(refused.value)
    assert (table.parent / "classes.txt").read_text() == "ant\nbee\n"


@pytest.mark.parametrize("answer", [("cat",), (), ("ant", "bee"), ("",)])
def test_what_is_no_answer_is_refused_and_nothing_is_written(table, answer):
    before = table.read_bytes()

    with pytest.raises(DataError):
        say(session_of(table), 0, *answer)

    assert table.read_bytes() == before


def test_several_classes_are_written_in_the_order_of_the_list_and_none_as_an_empty_cell(tmp_path):
    rows = [{"path": f"images/{n}.png", "classes": "", "guess": "bee|ant"} for n in range(2)]
    table = write_set(tmp_path / "set", rows, CLASSES)
    session = session_of(table, SeveralClasses())

    assert session.view()["rows"][0]["guess"] == ["bee", "ant"]
    say(session, 0, "bee", "ant")
    say(session, 1)

    assert list(read_cells(table, "classes").values()) == ["ant;bee", ""]
    assert set(read_cells(table, "state").values()) == {"labelled"}


@pytest.mark.parametrize("name", ["ant;bee", "ant|bee"])
def test_classes_that_several_in_a_cell_would_be_taken_for_are_refused_before_anything_is_written(tmp_path, name):
    rows = [{"path": "images/0.png", "classes": ""}]
    table = write_set(tmp_path / "set", rows, ("ant", "bee", name))

    with pytest.raises(DataError, match=r"classes.txt: .* which stand between the classes of an image; rename it"):
        session_of(table, SeveralClasses())


def test_numbers_are_written_as_they_were_typed_and_junk_is_refused_by_name(tmp_path):
    rows = [{"path": f"images/{n}.png", "guess": "0.25;-1"} for n in range(2)]
    table = write_set(tmp_path / "set", rows)
    session = session_of(table, Numbers(("angle", "speed"), ("rad", "")))

    assert session.view()["rows"][0]["guess"] == ["0.25", "-1"]
    say(session, 0, "0.50", "-2e1")
    for junk in ("", "nan", "1e999", "0,5", "left", "5 m/s", "1_000", "\uff11"):
        with pytest.raises(DataError, match=r"speed: .* is no number; write it as 0\.5 or -2"):
            say(session, 1, "1", junk)

    assert list(read_cells(table, "angle").values()) == ["0.50", ""]
    assert list(read_cells(table, "speed").values()) == ["-2e1", ""]


def test_who_decided_stands_in_the_row_and_goes_with_the_decision(table):
    session = session_of(table, person="Ada")
    say(session, 0, "ant")
    say(session, 1, "ant")
    session.undo(-1)

    assert list(read_cells(table, "person").values()) == ["Ada", "", "", ""]


def test_only_what_has_changed_is_told_again(table):
    session = session_of(table)
    first = session.view()
    say(session, 2, "bee")

    view = session.view(first["revision"])

    assert [row["number"] for row in view["rows"]] == [2]
    assert "order" not in view
    assert session.view(view["revision"])["rows"] == []


def test_a_frame_that_a_recorder_writes_while_a_decision_is_written_is_not_lost(tmp_path, monkeypatch):
    recorder = Recording(tmp_path)
    recorder.offer(raw(picture(0)), camera="front", stamp_ns=1)
    file = tmp_path / SHA256[:12] / "frames.csv"
    session = session_of(file, person="Ada")  # a column more than the recorder knows
    camera = threading.Thread(target=lambda: recorder.offer(raw(picture(1)), camera="front", stamp_ns=2))
    original = stored_table.save

    def save(*words: object) -> None:
        camera.start()
        camera.join(0.5)  # as long as it takes to lose its row, where nothing keeps it waiting
        original(*words)

    monkeypatch.setattr(stored_table, "save", save)
    say(session, 0, "bees")
    camera.join()
    recorder.close()

    listed = [row for table in tmp_path.rglob("frames.csv") for row in csv.DictReader(table.open(newline=""))]
    assert sorted((row["stamp_ns"], row["class"], row["state"]) for row in listed) == [
        ("1", "bees", "labelled"),
        ("2", "", ""),
    ]


@pytest.mark.parametrize("write", range(10))
def test_kill_at_any_write_leaves_all_before_or_all_after_and_what_is_left_can_be_taken_back(
    tmp_path, write, monkeypatch
):
    table = write_set(tmp_path / "set", rows_of(2), CLASSES)
    session = session_of(table)
    say(session, 0, "ant")
    left = iter(range(write))
    original = os.fsync

    class Killed(BaseException):
        """What a kill does to a program: nothing of it goes on."""

    def fsync(descriptor: int) -> None:
        if next(left, None) is None:
            raise Killed
        original(descriptor)

    with monkeypatch.context() as patched, suppress(Killed):
        patched.setattr(files.os, "fsync", fsync)
        say(session, 0, "bee")
        session.undo(-1)

    assert on_disk(table) in ([("ant", "labelled"), ("", "")], [("bee", "labelled"), ("", "")])
    again = session_of(table)
    while again.view()["undo"]:
        again.undo(-1)
    assert on_disk(table) == [("", "")] * 2

"""Owns: which tables are opened for labelling, what they ask for, and in which order their images come.

Leaves to others: how CSV files are read (test_label_table), what is decided (test_label_session).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from labelling import rows_of, session_of, write_set, write_table

from cnn_perception.errors import ConfigError, DataError
from training.data_set.table import read
from training.label.answers import OneClass, SeveralClasses
from training.label.keys import CLASS_KEYS, COMMANDS
from training.label.session import Session
from training.label.worklist import Worklist, answers_asked_for, in_order


def test_the_columns_say_what_is_asked_for_or_the_user_does(tmp_path):
    one = write_table(tmp_path / "one.csv", [{"path": "a.png", "class": ""}])
    several = write_table(tmp_path / "several.csv", [{"path": "a.png", "classes": ""}])
    neither = write_table(tmp_path / "neither.csv", [{"path": "a.png", "stamp_ns": "1"}])

    assert answers_asked_for(one, "auto", ()) == answers_asked_for(neither, "multiclass", ()) == OneClass()
    assert answers_asked_for(several, "auto", ()) == answers_asked_for(neither, "multilabel", ()) == SeveralClasses()
    numbers = answers_asked_for(neither, "auto", ("angle:rad", "throttle"))
    assert (numbers.columns, numbers.units) == (("angle", "throttle"), ("rad", ""))
    for task in ("auto", "regression"):
        with pytest.raises(DataError, match="neither a column 'class' nor 'classes'; say what is to be labelled"):
            answers_asked_for(neither, task, ())
    with pytest.raises(ConfigError, match="--targets: names numbers, but --task is multilabel"):
        answers_asked_for(neither, "multilabel", ("angle",))


def test_numbers_are_asked_for_where_the_list_of_names_or_a_recorders_scores_are_columns(tmp_path):
    listed = write_table(tmp_path / "labels.csv", [{"path": "a.png", "angle": "", "speed": "", "stamp_ns": "1"}])
    recorded = write_table(
        tmp_path / "frames.csv", [{"path": "a.png", "angle": "", "answer": "0.5", "score angle": "1"}]
    )
    (tmp_path / "classes.txt").write_text("speed\nangle\n")

    assert answers_asked_for(listed, "auto", ()).columns == ("speed", "angle")
    (tmp_path / "classes.txt").unlink()
    assert answers_asked_for(recorded, "regression", ()).columns == ("angle",)


def test_a_model_that_answered_unknown_guesses_none_of_these_and_a_doubt_that_is_no_number_is_none(tmp_path):
    rows = [{"path": "images/a.png", "class": "", "answer": "unknown", "doubt": "nan"}]
    (shown,) = session_of(write_set(tmp_path / "set", rows)).view()["rows"]

    assert shown["guess"] == ["none of these"]
    assert shown["doubt"] is None


@pytest.mark.parametrize("targets", [("",), ("a", "a"), ("path",), ("state:m",)])
def test_numbers_that_cannot_be_columns_are_refused(tmp_path, targets):
    table = write_table(tmp_path / "t.csv", [{"path": "a.png", "class": ""}])

    with pytest.raises(ConfigError, match="empty, reserved or repeated name"):
        answers_asked_for(table, "auto", targets)


def test_a_recorders_table_gives_guesses_doubts_and_classes(tmp_path):
    """As the node's recorder writes it: `answer`, `margin`, and a column of scores for each class."""
    about = {"class": "", "stamp_ns": "5", "reason": "margin", "score bee": "0.2", "score ant": "0.8"}
    rows = [{"path": f"images/{n}.png", **about, "answer": "ant", "margin": f"0.{n + 1}"} for n in range(3)]
    table = write_set(tmp_path / "frames", rows)

    view = session_of(table).view()

    assert [row["guess"] for row in view["rows"]] == [["ant"]] * 3
    assert view["order"] == [0, 1, 2]  # the smallest margin first
    assert [one["name"] for one in view["classes"]] == ["ant", "bee"]


def test_other_tools_names_of_columns_are_understood(tmp_path):
    rows = [{"filename": "images/a.png", "label": "ant"}, {"filename": "images/b.png", "label": ""}]
    write_set(tmp_path / "set", [{"path": row["filename"]} for row in rows])
    table = write_table(tmp_path / "set" / "foreign.csv", rows)

    view = session_of(table).view()

    assert [(row["path"], row["state"]) for row in view["rows"]] == [("images/a.png", "labelled"), ("images/b.png", "")]


def test_a_worklist_of_doubtful_labels_asks_again_and_shows_what_the_table_says(tmp_path):
    row = {"path": "images/a.png", "class": "ant", "state": "", "was": "ant", "guess": "bee", "doubt": "0.9"}
    view = session_of(write_set(tmp_path / "set", [row])).view()

    (shown,) = view["rows"]
    assert (shown["state"], shown["answer"], shown["guess"]) == ("", ["ant"], ["bee"])
    assert [one["name"] for one in view["classes"]] == ["ant", "bee"]


def test_images_come_by_doubt_by_time_or_at_random_alike_each_time():
    rows = [
        {"path": "a", "doubt": "0.1", "bag": "y", "stamp_ns": "1"},
        {"path": "b", "doubt": "", "bag": "x", "stamp_ns": "10"},
        {"path": "c", "doubt": "0.9", "bag": "x", "stamp_ns": "9"},
    ]

    assert in_order(rows, "doubt") == [2, 0, 1]
    assert in_order(rows, "time") == [2, 1, 0]
    assert sorted(in_order(rows * 9, "random")) == list(range(27))
    assert in_order(rows * 9, "random") == in_order(rows * 9, "random") != list(range(27))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,class\n", "holds no rows"),
        ("path,class\na.png,\na.png,\n", r"is there twice; remove one"),
        ("path,class,class\na.png,,\n", "no name or occurs twice"),
        ("path,class,state\na.png,,done\n", "'done' is none of"),
        ("class\nant\n", "has no column 'path'"),
        ("path,class\n,ant\n", "is empty; name the image"),
    ],
)
def test_a_table_that_cannot_be_labelled_is_refused_in_one_line(tmp_path, content, said):
    (tmp_path / "t.csv").write_text(content)

    with pytest.raises(DataError, match=said) as refused:
        Session(Worklist(tmp_path / "t.csv", OneClass()))

    assert "\n" not in str(refused.value)


def test_a_class_that_is_called_none_of_these_is_refused(tmp_path):
    table = write_set(tmp_path / "set", rows_of(1), ("ant", "none of these"))

    with pytest.raises(DataError, match=r"classes\.txt: 'none of these' is what an image of no class is labelled"):
        session_of(table)


def test_what_is_written_is_what_training_reads(tmp_path):
    table = write_set(tmp_path / "set", rows_of(2), ("ant",))
    session = session_of(table)
    session.add_class("bee", -1)

    assert read(table.parent).header == ("path", "class", "doubt")
    assert Path(table.parent / "classes.txt").read_text().splitlines() == ["ant", "bee"]


def test_36_classes_have_a_key_of_their_own_that_no_command_has():
    taken = {key for command in COMMANDS for key in command.keys}

    assert len(set(CLASS_KEYS)) == 36
    assert not taken & set(CLASS_KEYS)

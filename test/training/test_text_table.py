"""Owns: tables in the terminal. Leaves to others: which figures stand in them (test_train, test_training_evaluate)."""

from __future__ import annotations

from training.text_table import text_table


def test_columns_never_run_together_and_stand_one_below_the_other():
    rows = [("", "images", "r2"), ("val", "120510", "-123456.487"), ("validation", "1", "0.500")]

    lines = text_table(rows)

    assert [tuple(line.split()) for line in lines] == [("images", "r2"), rows[1], rows[2]]
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "val         120510  -123456.487"


def test_what_moves_a_terminals_cursor_is_written_as_an_escape():
    (line,) = text_table([("run\x1b[2J\n/best.pt", "ü 1")])

    assert line == r"run\x1b[2J\n/best.pt  ü 1"

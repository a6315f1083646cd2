"""Owns: what a progress bar prints where there is a terminal, and where there is none. Time is told, not waited for."""

from __future__ import annotations

import io
import sys

import pytest

from cnn_perception.commands import ProgressBar


class Clock:
    """A clock that goes on by a second each time that an item is done."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch) -> Clock:
    one = Clock()
    monkeypatch.setattr("tqdm.std.time", one)
    monkeypatch.setattr(ProgressBar, "_next_line_s", 0.0)
    return one


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(clock: Clock, seconds: int) -> None:
    for _ in ProgressBar(range(seconds), "working", mininterval=0, miniters=1):
        clock.now_s += 1


def test_a_log_gets_nothing_of_short_work_and_a_line_in_ten_seconds_of_long_work(clock, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)

    work(clock, 9)
    assert log.getvalue() == ""
    work(clock, 50)
    lines = log.getvalue().splitlines()
    assert len(lines) == 5
    assert all(line.startswith("working") for line in lines)
    assert "\r" not in log.getvalue()


def test_bars_of_one_process_share_the_lines(clock, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)

    for _ in ProgressBar(range(4), "outer", mininterval=0, miniters=1):
        work(clock, 6)
    assert len(log.getvalue().splitlines()) == 2  # 24 seconds
    assert "\n\n" not in log.getvalue()


def test_what_is_said_meanwhile_is_a_line_of_its_own(clock, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with ProgressBar(total=3):
        ProgressBar.write("left out: a.png")
    assert capsys.readouterr().out == "left out: a.png\n"


def test_a_bar_that_is_disabled_does_nothing_whatever_it_is_asked(capsys):
    bar = ProgressBar(total=3, disable=True)
    bar.update()
    bar.refresh()
    bar.clear()
    bar.close()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_that_moves_in_its_line(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    work(clock, 3)
    assert "100%" in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 1

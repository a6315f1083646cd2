"""Owns: the exit codes of commands, the line that says why, and commands to be pasted.

Oracles: the codes that docs/ promises, and a real shell.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from cnn_perception.commands import exit_code, for_shell
from cnn_perception.doctor.finding import Finding
from cnn_perception.errors import BagError, ConfigError, FrameError, PerceptionError, one_line


def raising(error: BaseException):
    def work() -> None:
        raise error

    return work


def test_work_that_returns_nothing_ends_with_0_and_any_other_code_is_kept():
    assert [exit_code(lambda code=code: code) for code in (None, 0, 2, 3)] == [0, 0, 2, 3]


@pytest.mark.parametrize("error", [PerceptionError("no"), ConfigError("no"), BagError("no")])
def test_input_that_cannot_be_used_is_one_line_and_2(error, capsys):
    assert exit_code(raising(error), "interrupted") == 2
    assert capsys.readouterr() == ("", "error: no\n")


def test_what_no_output_can_encode_is_escaped(capsys):
    assert exit_code(raising(BagError("\udcff.mcap: is no bag"))) == 2
    assert capsys.readouterr().err.encode() == b"error: \\udcff.mcap: is no bag\n"
    assert str(FrameError("kind", "\ud800")).encode() == b"\\ud800"


def test_whatever_a_file_is_called_the_error_is_one_line_of_bounded_length():
    assert str(BagError("a\nb\r\x1b[31m\u2028\x85.mcap: is no bag, \u8702")) == (
        "a\\nb\\r\\x1b[31m\\u2028\\x85.mcap: is no bag, \u8702"
    )
    long = str(BagError("begin " + "x" * 10**6 + " end"))
    assert len(long) < 2100
    assert (long[:7], long[-5:]) == ("begin x", "x end")


def test_ctrl_c_is_130_and_says_what_the_command_wants(capsys):
    assert exit_code(raising(KeyboardInterrupt()), "interrupted: nothing is written") == 130
    assert capsys.readouterr() == ("", "interrupted: nothing is written\n")
    assert exit_code(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_a_defect_is_not_hidden():
    with pytest.raises(KeyError):
        exit_code(raising(KeyError("defect")))


@pytest.mark.parametrize("odd", ["\x1b[2J", "\n", "\r", "\x07", "\udcff", "\u202e", "\u2028", "\x9b"])
def test_what_steers_a_terminal_or_forges_a_line_is_escaped(odd, capsys):
    assert exit_code(raising(BagError(f"a{odd}b.mcap: grün"))) == 2
    line = capsys.readouterr().err
    assert line == f"error: a{odd.encode('unicode_escape').decode()}b.mcap: grün\n"
    assert one_line(ValueError(f"a{odd}b")).isprintable()
    assert str(Finding("warn", f"a{odd}b", odd, odd)).isprintable()


NASTY = [
    "plain/a.pt", "two words", "it's", 'say "hi"', "$HOME", "`id`", "a#b", "# a", "!!", "a\\b", "*", "a;b&c|d>e", "~",
    "", "{a,b}", "größe 蜂", "line\nbreak", "tab\there", "\x1b[31m", "caf\udce9", "-x", "--data", "a=b", "(1)", "%s",
]  # fmt: skip


@pytest.mark.parametrize("word", NASTY)
def test_a_shell_makes_the_same_words_of_a_command(word):
    line = for_shell("printf", "%s\\0", word, 3, "--output", word)

    done = subprocess.run(["bash", "-c", f"printf -- {line.removeprefix('printf ')}"], check=True, capture_output=True)
    word_bytes = word.encode(errors="surrogateescape")
    assert done.stdout == b"\0".join([word_bytes, b"3", b"--output", word_bytes, b""])
    assert line.isprintable()
    if word.isprintable():
        assert shlex.split(line) == ["printf", "%s\\0", word, "3", "--output", word]


@pytest.mark.parametrize("name", ["-rf", "--resume"])
def test_a_path_that_looks_like_an_option_is_none(name):
    assert for_shell("ls", Path(name), Path("a", name), name) == f"ls ./{name} a/{name} {name}"

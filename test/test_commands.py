"""Owns: the exit codes of commands, the line that says why, what --json says, and commands to be pasted.

Oracles: the codes that docs/ promises, and a real shell.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

from cnn_perception import entry_points, errors
from cnn_perception.commands import Done, exit_code, for_shell, program, there
from cnn_perception.doctor.finding import Finding
from cnn_perception.errors import EXIT_CODES, BagError, ConfigError, FrameError, PerceptionError, one_line


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


def test_sigterm_interrupts_an_evaluation_as_ctrl_c_does(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    asked = lambda _: exit_code(lambda: signal.raise_signal(signal.SIGTERM))  # noqa: E731
    monkeypatch.setattr("cnn_perception.evaluation.cli.main", asked)
    assert entry_points.evaluate_bag([]) == 130
    assert signal.getsignal(signal.SIGTERM) is before


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


def commanded(argv: list[str] | None = None) -> int:
    """A command that prints, as a child of its own does, and does what its word says."""
    (word,) = argv or [""]
    print("for people")
    subprocess.run(["sh", "-c", "echo of a child"], check=True)
    if word == "usage":
        raise SystemExit(2)
    if word == "defect":
        raise KeyError("gone")
    if word == "early":
        raise KeyboardInterrupt
    figures = {"mean": float("nan"), "count": np.int64(3), "share": np.float32(0.5), "path": Path("a")}
    ends = {"done": Done(result=figures, written=[Path("out")]), "plain": 3}
    return exit_code(raising(BagError("a.mcap: is no bag")) if word == "bad" else lambda: ends[word])


def answered(word: str, capfd) -> dict:
    try:
        program("tool")(commanded)([word, "--json"])
    except (KeyError, KeyboardInterrupt):
        assert word in ("defect", "early")
    out, err = capfd.readouterr()
    assert "for people" in err
    assert "of a child" in err
    (line,) = out.splitlines()
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_json_is_one_line_with_figures_that_json_has_and_paths_and_all_else_is_on_stderr(capfd):
    assert answered("done", capfd) == {
        "command": "tool",
        "exit_code": 0,
        "meaning": "done",
        "error": None,
        "result": {"mean": None, "count": 3, "share": 0.5, "path": "a"},
        "written": ["out"],
    }


@pytest.mark.parametrize(
    ("word", "code", "error"),
    [
        ("bad", 2, "a.mcap: is no bag"),
        ("usage", 2, "the command line is wrong, see standard error"),
        ("plain", 3, None),
        ("defect", 1, "KeyError: 'gone'"),
        ("early", 130, "interrupted"),
    ],
)
def test_json_says_how_a_command_failed(word, code, error, capfd):
    answer = answered(word, capfd)

    assert (answer["exit_code"], answer["error"]) == (code, error)
    assert answer["meaning"] == EXIT_CODES[code]


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_process_that_is_ended_at_once_says_so_in_json_where_that_was_asked_for(words):
    code = """if True:
        import sys, threading
        from cnn_perception.commands import end_at_once, program

        def main(argv=None):
            print("for people")
            threading.Thread(target=end_at_once, args=(130, "interrupted")).start()
            threading.Event().wait()

        program("tool")(main)()
    """
    done = subprocess.run([sys.executable, "-u", "-c", code, *words], capture_output=True, text=True, cwd=ROOT)

    assert done.returncode == 130
    if not words:
        assert done.stdout == "for people\n"
        return
    answer = json.loads(done.stdout)
    assert (answer["command"], answer["exit_code"], answer["error"]) == ("tool", 130, "interrupted")


PRINTING = """
from cnn_perception.commands import program
@program("printing")
def main(argv=None):
    print("gr\\xfcn", "x")
    return 3
import sys
sys.exit(main())
"""


@pytest.mark.parametrize("words", [[], ["--json"], ["--help"]])
def test_a_full_disk_under_standard_output_is_one_line(words):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", PRINTING, *words], stdout=full, stderr=subprocess.PIPE, text=True)
    said = [line for line in done.stderr.splitlines() if not line.startswith("grün")]
    assert (done.returncode, said) == (
        2,
        ["error: standard output cannot be written (No space left on device); free the disk"],
    )


@pytest.mark.parametrize("is_full", [True, False], ids=["full disk", "reader gone"])
def test_a_command_outlives_its_standard_error(is_full: bool):
    if is_full:
        error = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, error = os.pipe()
        os.close(reader)
    try:
        program = [sys.executable, "-m", "cnn_perception.evaluation", "--images", "gone", "--model", "gone.onnx"]
        command = [*program, "--output", "o", "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=error, timeout=60, check=False)
    finally:
        os.close(error)
    said = json.loads(done.stdout)
    assert (done.returncode, said["exit_code"]) == (2, 2)
    assert "gone" in said["error"]


def test_whoever_reads_standard_output_may_go_and_it_may_be_closed():
    reads, writes = os.pipe()
    os.close(reads)
    closed = [{"preexec_fn": functools.partial(os.closerange, first, last)} for first, last in ((1, 2), (0, 2))]
    for change in ({"stdout": writes}, *closed):
        done = subprocess.run([sys.executable, "-c", PRINTING], stderr=subprocess.PIPE, text=True, **change)
        assert (done.returncode, done.stderr) == (3, "")
    os.close(writes)
    silent = subprocess.run([sys.executable, "-c", PRINTING], stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2))
    assert (silent.returncode, silent.stdout.decode()) == (3, "gr\xfcn x\n")


def test_a_command_in_a_folder_that_is_gone_says_so_in_one_line(tmp_path):
    (tmp_path / "gone").mkdir()
    script = f"cd gone && rmdir ../gone && {for_shell(sys.executable, '-c', PRINTING, '--json')}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the folder this was called in is gone")
    assert line == f"error: {json.loads(done.stdout)['error']}"


def test_what_the_locale_cannot_print_is_escaped():
    done = subprocess.run(
        [sys.executable, "-c", PRINTING], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stdout[:7]) == (3, rb"gr\xfcn")


def test_without_json_a_command_prints_and_ends_as_ever(capfd):
    assert program("tool")(commanded)(["done"]) == 0
    assert capfd.readouterr() == ("for people\nof a child\n", "")


def test_a_record_that_was_written_is_the_result(tmp_path, capfd):
    (tmp_path / "report.json").write_text('{"top1": 0.5, "loss": NaN}')

    def command(argv=None) -> int:
        return Done(record=tmp_path / "report.json", written=there(tmp_path, "report.json", "never.html"))

    assert program("tool")(command)(["--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["result"] == {"top1": 0.5, "loss": None}
    assert answer["written"] == [str(tmp_path), str(tmp_path / "report.json")]


# Every command, a call that it refuses at once, and what is said; programs of the robot are tested as installed.
REFUSED = {
    "training.adopt": ["--model", "/nowhere.onnx", "--output", "/dev/null/model.onnx"],
    "training.auto": ["--data", "/nowhere", "--output", "/dev/null/run"],
    "training.baselines": [],
    "training.check": ["--data", "/nowhere"],
    "training.collect": ["--images", "/nowhere", "--output", "/dev/null/set"],
    "training.evaluate": ["--checkpoint", "/nowhere.pt", "--data", "/nowhere"],
    "training.export": ["--checkpoint", "/nowhere.pt", "--output", "/dev/null/model.onnx"],
    "training.gradients": ["--depths", "3", "--output", "/dev/null/figures"],
    "training.inspect": ["--model", "/nowhere.onnx"],
    "training.label": ["/nowhere.csv"],
    "training.networks": ["/nowhere.pt"],
    "training.look": ["--checkpoint", "/nowhere.pt"],
    "training.train": ["--data", "/nowhere", "--output", "/dev/null/run"],
}


def mains() -> dict[str, str]:
    """The module that has the `main` of every `python -m training.X` and of every program that is installed."""
    scripts = re.findall(r"= (\w+|\{NAME\})\.([\w.]+):(\w+)", (ROOT / "setup.py").read_text())
    found = {f"cnn_perception.{module}:{function}": function for _, module, function in scripts}
    for path in sorted((ROOT / "training").rglob("*.py")):
        if "def main(" in path.read_text():
            found[".".join(path.relative_to(ROOT).with_suffix("").parts) + ":main"] = "main"
    return found


@pytest.mark.parametrize("place", mains())
def test_every_command_is_a_program(place):
    module, _, function = place.partition(":")
    tree = ast.parse((ROOT / Path(*module.split(".")).with_suffix(".py")).read_text())
    (found,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]

    assert [ast.unparse(mark).partition("(")[0] for mark in found.decorator_list] == ["program"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_command_refuses_is_json_too(name, capfd):
    if name.startswith("training."):
        pytest.importorskip("torch", reason="needs what training needs")
    module = importlib.import_module(name)
    if not hasattr(module, "main"):
        has_command = importlib.util.find_spec(f"{name}.command") is not None
        module = importlib.import_module(f"{name}.command" if has_command else f"{name}.__main__")

    code = module.main([*REFUSED[name], "--json"])
    out, err = capfd.readouterr()
    answer = json.loads(out)

    assert (code, answer["exit_code"]) == (2, 2)
    assert f"error: {answer['error']}\n" in err


def test_the_table_of_exit_codes_is_that_of_the_code():
    rows = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]

    assert "\n".join(rows) in (ROOT / "CONTRIBUTING.md").read_text()
    constants = {name: value for name, value in vars(errors).items() if re.fullmatch(r"EXIT_[A-Z_]+", name)}
    assert {value for value in constants.values() if isinstance(value, int)} == EXIT_CODES.keys()

"""Owns: the flags that an error about a data set advises: the command's own, or of one that it names.

Leaves to others: what is refused (test_check, test_conflicts).
"""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import foreign_graphs
import onnx
import pytest
from tiny_images import write_folder
from tiny_run import tiny_run

from cnn_perception.errors import EXIT_BAD_INPUT
from training.loop import trainer

NAMES = ("go", "stop", "turn")
FLAG = re.compile(r"--[a-z][a-z-]+")
OF_ANOTHER = re.compile(r"training\.(\w+)(?: as)? (--[a-z][a-z-]+)")


def two_labels(root: Path) -> None:
    write_folder(root, dict.fromkeys(NAMES, 12))
    shutil.copy(root / "go" / "00.png", root / "stop" / "copy.png")


def missing_from_a_part(root: Path) -> None:
    write_folder(root / "train", dict.fromkeys(NAMES, 12))
    write_folder(root / "val", {"go": 4, "stop": 4}, first_seed=100)


def unreadable(root: Path) -> None:
    write_folder(root, dict.fromkeys(NAMES, 12))
    for path in (root / "go").iterdir():
        path.write_bytes(b"\x89PNG\r\n\x1a\n")


def called_none(root: Path) -> None:
    write_folder(root, dict.fromkeys((*NAMES, "none of these"), 12))


def same_folders(root: Path) -> None:
    for name in NAMES:
        write_folder(root / name, {"a": 6, "b": 6}, first_seed=100 * len(name))


def other_classes(root: Path) -> None:
    write_folder(root, {"go": 12, "halt": 12, "turn": 12})


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Of each command what it needs beside the data."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "names.txt").write_text("\n".join(NAMES))
    photos = write_folder(folder / "photos", dict.fromkeys(NAMES, 12))
    trainer.fit(tiny_run(photos, folder / "run", epochs=1, classes=str(folder / "names.txt")), None)
    best = str(folder / "run" / "best.pt")
    onnx.save(foreign_graphs.as_nodes(foreign_graphs.network(classes=len(NAMES))), folder / "foreign.onnx")
    adopted = ["--model", str(folder / "foreign.onnx"), "--classes", str(folder / "names.txt")]
    return {
        "adopt": [*adopted, *foreign_graphs.NORMALISED, "--output", str(folder / "ours.onnx")],
        "evaluate": ["--checkpoint", best],
        "look": ["--checkpoint", best, "--output", str(folder / "look")],
        "export": ["--checkpoint", best, "--output", str(folder / "exported.onnx")],
        "baselines": ["--output", str(folder / "baselines")],
        "check": [],
    }


def main_of(name: str) -> Callable[[list[str]], int]:
    module = importlib.import_module(f"training.{name}")
    found: Callable[[list[str]], int] = (
        getattr(module, "main", None) or importlib.import_module(f"training.{name}.command").main
    )
    return found


def flags_of(name: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        main_of(name)(["--help"])
    return set(FLAG.findall(capsys.readouterr().out))


WRONG_FOR_ALL = (two_labels, missing_from_a_part, unreadable, called_none, same_folders)
OF_A_MODEL = ("adopt", "evaluate", "look", "export")
CASES = [
    *((command, damage) for command in (*OF_A_MODEL, "baselines", "check") for damage in WRONG_FOR_ALL),
    *((command, other_classes) for command in OF_A_MODEL),
]


@pytest.mark.parametrize(("command", "damage"), CASES)
def test_an_error_about_data_advises_no_flag_that_its_command_lacks(command, damage, given, tmp_path, capsys):
    damage(tmp_path / "data")

    code = main_of(command)(["--data", str(tmp_path / "data"), *given[command]])

    assert code == EXIT_BAD_INPUT
    (line,) = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    others = OF_ANOTHER.findall(line)
    own = set(FLAG.findall(OF_ANOTHER.sub("", line)))
    assert own <= flags_of(command, capsys), line
    for name, flag in others:
        assert flag in flags_of(name, capsys), line

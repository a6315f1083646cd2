"""Owns: that no program and no process of one imports from the working directory. Oracle: files that tell if run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from tiny_model import write_tiny_model

from cnn_perception.import_path import python_command

STANDARD = ("__future__", "argparse", "dataclasses", "inspect", "json", "selectors", "signal", "struct", "typing")
"""Modules that every program needs, and none of them before this package's first line."""


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder with files that are called like modules; whichever is run leaves a mark."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in STANDARD:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / name)!r} + '_ran', 'w').close()\nraise SystemExit(9)\n"
        )
    return folder


def run_in_it(trapped: Path) -> list[str]:
    """Which of the files were run."""
    return sorted(path.name for path in trapped.parent.glob("*_ran"))


def ended(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return subprocess.run(command, cwd=folder, env=environment | variables, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("program", ["cnn_perception.evaluation", "cnn_perception.doctor", "training.check"])
def test_a_program_runs_nothing_of_the_working_directory_and_keeps_pythonpath(trapped: Path, program: str):
    done = ended([sys.executable, "-m", program, "--help"], trapped, PYTHONPATH=str(ROOT))
    assert (done.returncode, run_in_it(trapped)) == (0, []), done.stderr
    assert "usage" in done.stdout


def test_a_checkout_is_run_from_itself_but_not_what_is_called_like_the_standard_library(trapped: Path):
    for package in ("cnn_perception", "training"):
        (trapped / package).symlink_to(ROOT / package)
    done = ended([sys.executable, "-m", "training.check", "--help"], trapped)
    assert (done.returncode, run_in_it(trapped)) == (0, []), done.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no PYTHONSAFEPATH: a known limit")
def test_processes_of_multiprocessing_run_nothing_of_it_either(trapped: Path):
    package = trapped.parent / "path" / "program"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import cnn_perception\n")
    (package / "__main__.py").write_text(
        "import multiprocessing as m\n"
        "if __name__ == '__main__':\n"
        "    worker = m.get_context('forkserver').Process(target=print, args=('worked',))\n"
        "    worker.start()\n    worker.join()\n"
    )
    path = f"{package.parent}{os.pathsep}{ROOT}"
    done = ended([sys.executable, "-m", "program"], trapped, PYTHONPATH=path)
    assert (done.stdout, run_in_it(trapped)) == ("worked\n", []), done.stderr


def test_child_imports_from_where_its_parent_does(trapped: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", ["", *sys.path, "/with ' and \\ and \udcff"])
    done = ended(python_command("import json; print(ascii(sys.path), sys.argv[1:])", "a b"), trapped)
    assert done.stdout == f"{sys.path[1:]!a} ['a b']\n", done.stderr
    assert run_in_it(trapped) == []


def test_model_is_loaded_in_another_process_without_the_working_directory(
    trapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("rclpy")
    from cnn_perception.model.isolated_load import IsolatedLoad
    from cnn_perception.model.onnx_model import SessionOptions

    model = write_tiny_model(tmp_path / "tiny.onnx")
    monkeypatch.chdir(trapped)
    IsolatedLoad().load(model, SessionOptions())
    assert run_in_it(trapped) == []


def test_package_that_is_only_imported_leaves_the_path_alone(tmp_path: Path):
    code = "import sys; before = list(sys.path); import cnn_perception; print(sys.path == before)"
    assert ended([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(ROOT)).stdout == "True\n"

"""Owns: that no program and no process of one imports from the working directory. Oracle: files that tell if run.

What Python imports before a program's first line cannot be kept by the program; it is measured, and excepted.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from paths import ROOT
from tiny_images import write_folder
from tiny_model import write_tiny_model

from cnn_perception import import_path
from cnn_perception.import_path import drop_working_directory, python_command

MODULES = [
    *(f"cnn_perception.{name}" for name in ("camera_node", "doctor", "evaluation", "follow_node", "perception_node")),
    *(f"training.{name}" for name in ("check", "evaluate", "export", "inspect", "train")),
    *(f"demo.{name}" for name in ("draw", "record", "run")),
    *(f"benchmark.{name}" for name in ("evaluation", "node_rate", "probe", "support.bare_loop")),
]
"""Some of what is run as `python -m`."""
SCRIPTS = ["camera_node", "doctor", "evaluate_bag", "follow_node", "perception_node"]
NODES = ("camera_node", "follow_node", "perception_node", "bare_loop")
"""They know no --help."""
PRINTS_IMPORTED = "import sys; print(*(name.partition('.')[0] for name in sys.modules))\n"
OURS = {"benchmark", "cnn_perception", "demo", "training"}


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return kept | variables


def ended(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def python_alone(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules that Python imports before the first line of a module, a script or a `-c`."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "alone.py").write_text(PRINTS_IMPORTED)
    ways = (["-m", "alone"], ["alone.py"], ["-c", PRINTS_IMPORTED])
    return {"__main__", *"".join(ended([sys.executable, *way], folder).stdout for way in ways).split()}


@pytest.fixture(scope="module")
def importable(python_alone: set[str]) -> list[str]:
    """Whatever a program can import by its first line or later; what is there for other systems alone is left out."""
    known = {*sys.stdlib_module_names, *(module.name for module in pkgutil.iter_modules())}
    found = [name for name in known - python_alone - OURS if name.isidentifier() and importlib.util.find_spec(name)]
    assert {"argparse", "json", "numpy", "cv2"} <= set(found)
    return found


@pytest.fixture
def trapped(tmp_path: Path, importable: list[str]) -> Path:
    """A folder with files that are called as whatever can be imported; whichever is run leaves a mark and ends."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in importable:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / name)!r} + '_ran', 'w').close()\nraise SystemExit(9)\n"
        )
    return folder


def run_in_it(trapped: Path) -> list[str]:
    """Which of the files were run."""
    return sorted(path.name for path in trapped.parent.glob("*_ran"))


def arguments_of(program: str) -> list[str]:
    """Arguments by which a program ends as soon as it has imported everything."""
    if program.endswith("bare_loop"):
        return ["missing.onnx", "1", "1", "CPUExecutionProvider"]
    parameters = {"camera_node": ["-p", "source:=missing"], "perception_node": ["-p", "model:=missing.onnx"]}
    name = program.rpartition(".")[2]
    return ["--ros-args", *parameters.get(name, ["-p", "follow:=1"])] if name in NODES else ["--help"]


@pytest.mark.parametrize("program", MODULES)
def test_a_module_runs_nothing_of_the_working_directory_and_keeps_pythonpath(trapped: Path, program: str):
    pytest.importorskip("rclpy")
    if not program.startswith("cnn_perception."):
        pytest.importorskip("torch", reason="needs what training needs")
    command = [sys.executable, "-m", program, *arguments_of(program)]
    done = ended(command, trapped, PYTHONPATH=str(ROOT), ROS_LOG_DIR=str(trapped.parent))
    assert run_in_it(trapped) == []
    assert "ModuleNotFoundError" not in done.stderr
    assert ("usage" in done.stdout) == ("--help" in command), done.stderr


@pytest.mark.parametrize("program", SCRIPTS)
@pytest.mark.parametrize("pythonpath", [f"{os.pathsep}{ROOT}", f"{ROOT}{os.pathsep}"])
def test_a_script_runs_nothing_of_it_where_pythonpath_has_an_empty_entry(
    trapped: Path, program: str, pythonpath: str, python_alone: set[str]
):
    pytest.importorskip("rclpy")
    script = Path(sysconfig.get_path("scripts")) / program
    if not script.exists():
        pytest.skip("the package is not installed")
    for name in ("re", "enum", "sre_compile", "sre_parse", "sre_constants", "functools", "copyreg"):  # pip's script
        (trapped / f"{name}.py").unlink(missing_ok=True)
    command = [str(script), *arguments_of(program)]
    done = ended(command, trapped, PYTHONPATH=pythonpath, ROS_LOG_DIR=str(trapped.parent))
    assert run_in_it(trapped) == []
    assert ("usage" in done.stdout) == ("--help" in command), done.stderr


def test_a_checkout_is_run_from_itself_but_not_what_is_called_like_the_standard_library(trapped: Path):
    pytest.importorskip("torch", reason="needs what training needs")
    for file in trapped.iterdir():
        if importlib.util.find_spec(file.stem).origin is None:  # a namespace package, which any module comes before
            file.unlink()
    for package in ("cnn_perception", "training"):
        (trapped / package).symlink_to(ROOT / package)
    done = ended([sys.executable, "-m", "training.check", "--help"], trapped)
    assert (done.returncode, run_in_it(trapped)) == (0, []), done.stderr


def test_processes_of_multiprocessing_run_nothing_of_it_either(trapped: Path):
    package = trapped.parent / "path" / "program"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import cnn_perception\n")
    (package / "work.py").write_text(
        "import os\ndef work():\n    import csv, sqlite3\n    print('worked in', os.getcwd(), flush=True)\n"
    )
    (package / "__main__.py").write_text(
        "import multiprocessing as m\n"
        "from cnn_perception.import_path import start_forkserver\n"
        "from program.work import work\n"
        "if __name__ == '__main__':\n"
        "    start_forkserver(['json', 'decimal'])\n"
        "    worker = m.get_context('forkserver').Process(target=work)\n"
        "    worker.start()\n    worker.join()\n"
    )
    path = f"{package.parent}{os.pathsep}{ROOT}"
    done = ended([sys.executable, "-m", "program"], trapped, PYTHONPATH=path)
    assert (done.stdout, run_in_it(trapped)) == (f"worked in {trapped}\n", []), done.stderr


def test_a_training_with_workers_runs_nothing_of_it(trapped: Path, tmp_path: Path):
    pytest.importorskip("torch", reason="needs what training needs")
    from tiny_run import command_line, write_photos

    arguments = command_line(write_photos(tmp_path / "data"), tmp_path / "run", workers=2, epochs=1)
    command = [sys.executable, "-m", "training.train", *arguments]
    done = ended(command, trapped, PYTHONPATH=f"{os.pathsep}{ROOT}", OMP_NUM_THREADS="1")
    assert (done.returncode, run_in_it(trapped)) == (0, []), done.stderr
    assert json.loads((tmp_path / "run" / "report.json").read_text())


def test_evaluation_starts_no_process_of_multiprocessing(tmp_path: Path):
    folder = write_folder(tmp_path / "images", {"red": 1, "green": 1, "blue": 1})
    arguments = ["--images", folder, "--model", write_tiny_model(tmp_path / "tiny.onnx"), "--output", tmp_path / "out"]
    code = (
        "import multiprocessing, sys; multiprocessing.set_start_method('forkserver')\n"  # as from Python 3.14 on
        "from multiprocessing import resource_tracker\n"
        "from cnn_perception.evaluation.cli import main\n"
        "print(main(sys.argv[1:]), resource_tracker._resource_tracker._pid)\n"
    )
    done = ended([sys.executable, "-c", code, *map(str, arguments)], tmp_path, PYTHONPATH=str(ROOT))
    assert done.stdout.splitlines()[-1] == "0 None", done.stderr


def test_drawings_by_several_processes_run_nothing_of_it(trapped: Path):
    command = [sys.executable, "-m", "demo.draw", "--output", "drawn", "--train", "2", "--val", "2", "--seconds", "3"]
    done = ended(command, trapped, PYTHONPATH=str(ROOT))
    assert (done.returncode, run_in_it(trapped)) == (0, []), done.stderr


def test_child_imports_from_where_its_parent_does(trapped: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", ["", *sys.path, "/with ' and \\ and \udcff"])
    done = ended(python_command("import json; print(ascii(sys.path), sys.argv[1:])", "a b"), trapped)
    assert done.stdout == f"{sys.path[1:]!a} ['a b']\n", done.stderr
    assert run_in_it(trapped) == []


def test_demo_started_in_a_checkout_finds_the_modules_that_it_starts(tmp_path: Path):
    pytest.importorskip("torch", reason="needs what training needs")
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__init__.py").write_text("import demo\n")
    (tmp_path / "program" / "__main__.py").write_text(
        "import subprocess\nfrom demo.processes import child_environment, module_command\n"
        "subprocess.run(module_command('training.check', '--help'), env=child_environment(), check=True)\n"
    )
    for package in OURS:
        (tmp_path / package).symlink_to(ROOT / package)
    done = ended([sys.executable, "-m", "program"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout


def test_model_is_loaded_in_another_process_without_the_working_directory(
    trapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("rclpy")
    from cnn_perception.model.onnx_model import SessionOptions
    from cnn_perception.pipeline.isolated_load import IsolatedLoad

    model = write_tiny_model(tmp_path / "tiny.onnx")
    monkeypatch.chdir(trapped)
    IsolatedLoad().load(model, SessionOptions(), 600.0)
    assert run_in_it(trapped) == []


def test_package_that_is_only_imported_leaves_the_path_alone(tmp_path: Path):
    code = "import sys; before = list(sys.path); import cnn_perception; print(sys.path == before)"
    assert ended([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(ROOT)).stdout == "True\n"


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        ("{empty}:/ros", "/ros"),
        ("/ros:", "/ros"),
        ("/a::/b", "/a:/b"),
        (":", ""),
        ("", ""),
        ("/a:{here}:", "/a:{here}"),
        (".:", "."),
    ],
)
def test_empty_entry_of_pythonpath_is_dropped_and_one_that_names_the_folder_is_kept(
    tmp_path: Path, entries: str, kept: str
):
    entries = entries.format(empty="", here=tmp_path)
    code = (
        "import os, sys; import cnn_perception; "
        "print(os.environ['PYTHONPATH'], os.getcwd() in [os.path.abspath(f) for f in sys.path if f], sep='|')"
    )
    done = ended([sys.executable, "-c", code.replace("import cnn", f"sys.path.append({str(ROOT)!r}); import cnn")],
                 tmp_path, PYTHONPATH=entries)  # fmt: skip
    expected = kept.format(here=tmp_path)
    assert done.stdout == f"{expected}|{expected.endswith(('.', str(tmp_path)))}\n", done.stderr


def test_folder_that_was_removed_takes_nothing_else_off_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "argv", ["-m"])
    monkeypatch.setattr(sys, "path", ["/ros", str(ROOT)])
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    drop_working_directory(import_path.__file__)
    assert sys.path == ["/ros", str(ROOT)]

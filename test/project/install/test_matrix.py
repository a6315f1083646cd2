"""Owns: `make matrix`: which cells there are, what each runs, and what is said of it. Oracle: arithmetic, pytest.

Nothing is installed here; make is a stand-in that does what the test says.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

sys.path.insert(0, str(ROOT / "requirements"))
import matrix
import resolve
from matrix import Cell, Record, Result

sys.path.remove(str(ROOT / "requirements"))

CORNER, OTHER = Cell("3.14", "kilted"), Cell("3.12", "jazzy")


def test_every_promised_python_meets_every_distribution_that_has_wheels():
    promised = re.search(r"3\.10 to (3\.\d+)", (ROOT / "requirements" / "check.py").read_text())[1]
    distributions = {path.stem.removeprefix("ros-") for path in (ROOT / "requirements").glob("ros-*.txt")}

    assert {cell.distribution for cell in matrix.CELLS} == distributions
    assert {"3.10", promised} < {cell.python for cell in matrix.CELLS}
    assert len({cell.name for cell in matrix.CELLS}) == len(matrix.PYTHONS) * len(distributions)
    assert {cell.name for cell in matrix.CELLS if cell.is_corner} == {"3.14-kilted", "3.10-jazzy"}


def pinned(name: str) -> dict[str, str]:
    """The lines of a file of wheels of ROS 2, by the name of the package."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return {re.match(r"[\w-]+", line)[0]: line for line in lines if line.startswith("ros-")}


def test_a_node_gets_the_same_packages_of_every_distribution_and_each_is_pinned():
    of_nodes = [pinned(f"ros-{one}") for one in matrix.DISTRIBUTIONS]
    of_messages = [pinned(f"interfaces-{one}") for one in matrix.DISTRIBUTIONS]

    assert len({frozenset(one) for one in of_nodes}) == 1
    assert all("==" in line for one in of_nodes + of_messages for line in one.values())
    assert len({one["ros-rclpy"] for one in of_nodes}) == len(matrix.DISTRIBUTIONS)


def test_portions_are_all_tests_once_and_cells_between_the_corners_leave_out_what_needs_torch():
    run = [path for portion in CORNER.portions[1:] for path in matrix.paths_of(portion)]
    files = [
        file for path in run for file in ([ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("test_*.py"))
    ]

    assert sorted(files) == sorted((ROOT / "test").rglob("test_*.py"))
    assert set(CORNER.portions) - set(OTHER.portions) == {
        one for one in CORNER.portions if one.startswith(("test/training", "ruff"))
    }
    assert "training" in CORNER.parts
    assert not {"training", "dev"} & set(OTHER.parts)


def test_a_cell_without_torch_is_asked_for_nothing_that_brings_it():
    wanted = {re.match(r"[\w-]+", line)[0] for name in OTHER.parts for line in resolve.listed(name, "3.12", "x86_64")}

    assert not {"torch", "torchvision", "timm", "grad-cam", "onnxscript"} & wanted


def test_a_report_of_pytest_is_counted_with_the_names_and_reasons(tmp_path: Path):
    (tmp_path / "test_made.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 0\n"
        "@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_later(n): pytest.skip('needs a  camera')\n"
    )
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", "test_made.py"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}  # of colcon
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)

    found = matrix.read_report(report, "abc", 1.5)
    assert found == Result("abc", 1, ("test_made::test_bad",), {"needs a camera": 2}, 1.5)


def test_the_table_says_what_was_run_what_was_not_and_what_failed():
    complete = {name: Result("abc", 10, (), {"needs ROS 2": 1}) for name in CORNER.portions}
    some = {"test/bag": Result("abc", 3, ("test_x::test_y",)), "test/image": Result("def", 4)}
    records = [
        Record(CORNER, "", {"Python": "3.14.8", "numpy": "2.5"}, complete),
        Record(OTHER, "", {}, some),
        Record(Cell("3.10", "kilted"), "no such Python here; resolves only: 99 wheels"),
    ]
    head, _, corner, other, absent, *details = matrix.table(records)
    count = len(CORNER.portions)

    assert head.count("|") == corner.count("|") == other.count("|") == absent.count("|")
    assert f"| Kilted | 3.14.8 | all of `make test` | {10 * count} | 0 | {count} | numpy 2.5 |" == corner
    assert f"what needs no torch, 2 of {len(OTHER.portions)} parts | 7 | 1 | 0 |" in other
    assert "no such Python here; resolves only: 99 wheels |  |  |" in absent
    said = "\n".join(details)
    assert "- 3.12-jazzy failed: test_x::test_y" in said
    assert "- 3.12-jazzy is of abc, def" in said
    assert "- 3.14-kilted is of abc\n" in said
    assert f"- 3.14-kilted skipped {count}: needs ROS 2" in said
    assert "3.12-jazzy not run: " in said
    assert "3.14-kilted not run" not in said


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A matrix without make: every portion passes, and `ran` says which were run."""
    ran: list[tuple[str, str]] = []

    def run_portion(cell: Cell, portion: str, state: str) -> Result:
        ran.append((cell.name, portion))
        return Result(state, 1)

    def prepare(record: Record, pythons: object) -> None:
        record.outcome = ""

    monkeypatch.setattr(matrix, "BUILD", tmp_path)
    monkeypatch.setattr(matrix, "prepare", prepare)
    monkeypatch.setattr(matrix, "run_portion", run_portion)
    monkeypatch.setattr(matrix, "state_of_sources", lambda: "abc")
    return ran


def test_a_cell_that_cannot_be_run_fails_but_for_a_python_that_is_not_here_and_was_not_named(bench, monkeypatch):
    def prepare(record: Record, pythons: object) -> None:
        record.outcome = outcome if record.cell.name == "3.12-jazzy" else ""

    monkeypatch.setattr(matrix, "prepare", prepare)
    outcome = "not installed; resolves only: 99 wheels"
    assert matrix.main(["--tests", "test/bag"]) == matrix.main(["3.12-jazzy"]) == 2
    outcome = "no such Python here; resolves only: 99 wheels"
    assert matrix.main(["3.12-jazzy"]) == 2
    assert matrix.main(["--tests", "test/bag"]) == 0


def test_a_matrix_that_was_interrupted_goes_on_and_begins_anew_with_other_sources(bench, monkeypatch):
    assert matrix.main(["3.12-jazzy", "--tests", "test/bag", "test/image"]) == 0
    assert matrix.main(["3.12-jazzy", "--tests", "test/bag", "test/ros"]) == 0
    assert bench == [("3.12-jazzy", f"test/{name}") for name in ("bag", "image", "ros")]
    monkeypatch.setattr(matrix, "state_of_sources", lambda: "def")
    matrix.main(["3.12-jazzy", "--tests", "test/bag"])
    assert len(bench) == 4
    kept = json.loads((matrix.BUILD / "matrix.json").read_text())
    (cell,) = [one for one in kept if one["cell"] == {"python": "3.12", "distribution": "jazzy"}]
    assert {name: one["state"] for name, one in cell["results"].items()} == {
        "test/bag": "def",
        "test/image": "abc",
        "test/ros": "abc",
    }


def test_nothing_is_begun_when_the_time_is_up(bench):
    assert matrix.main(["3.12-jazzy", "--minutes", "-1"]) == 0
    assert bench == []


def test_a_cell_that_is_only_resolved_is_not_run_and_forgets_no_result(bench, monkeypatch, capsys):
    monkeypatch.setattr(matrix, "interpreter", lambda *_: "/bin/python")
    monkeypatch.setattr(matrix, "_resolved_here", lambda *_: "resolves only: 99 packages")
    matrix.main(["3.12-jazzy", "--tests", "test/bag"])
    matrix.main(["3.12-jazzy", "3.10-kilted", "--resolve"])
    said = capsys.readouterr().out.splitlines()[-30:]
    assert bench == [("3.12-jazzy", "test/bag")]
    assert any(line.startswith("| Kilted | 3.10 | not run; resolves only: 99 packages |") for line in said)
    assert any(line.startswith("| Jazzy | 3.12 | what needs no torch, 1 of ") for line in said)


def test_a_failure_is_told_by_the_exit_code(bench, monkeypatch, capsys):
    monkeypatch.setattr(matrix, "run_portion", lambda *_: Result("abc", 0, ("test_x::test_y",)))
    assert matrix.main(["3.12-jazzy", "--tests", "test/bag"]) == 2
    assert "- 3.12-jazzy failed: test_x::test_y" in capsys.readouterr().out


def test_a_cell_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        matrix.main(["3.9-foxy"])
    assert "3.9-foxy: no such cell; there are 3.10-kilted" in capsys.readouterr().err


def test_a_python_is_found_by_what_it_is_not_by_what_it_is_called():
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"

    assert matrix.interpreter(own, ["/bin/false", sys.executable]) == sys.executable
    assert matrix.interpreter("2.6", [sys.executable]) == ""


def test_make_is_told_the_cell_and_nothing_of_an_outer_make(monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", "-n")
    monkeypatch.setenv("MAKELEVEL", "1")
    command = matrix._make(OTHER, "venv", "PYTHON=python3.12")
    words = subprocess.run(
        [command[0], "-nB", *command[1:]],
        cwd=ROOT,
        env=matrix._environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "python3.12 -m venv --clear  build/matrix/3.12-jazzy" in words
    assert "-r requirements/ros-jazzy.txt -r requirements/interfaces-jazzy.txt" in words
    assert "requirements/training.txt" not in words
    assert "kilted" not in words.replace("interfaces-kilted", "")

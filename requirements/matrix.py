"""Runs the tests with each Python and each ROS 2 in environments of their own, and makes the table of what was run.

    python requirements/matrix.py [CELL ...] [--pythons PATH ...] [--tests FOLDER ...] [--minutes N] [--resolve]

A cell is a Python and a distribution, such as `3.14-kilted`; its environment lies in build/matrix. The two corners run
all that `make test` runs, the other cells every test that needs no torch. Tests are run a folder at a time, and what
came of each is kept with the state of the sources: a matrix that was interrupted goes on with what has not passed yet.
For a Python that is not on this machine it is only resolved what pip would install.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "matrix"
TESTS = ROOT / "test"
PYTHONS = ("3.10", "3.12", "3.14")
DISTRIBUTIONS = ("kilted", "jazzy")
CORNERS = (("3.14", "kilted"), ("3.10", "jazzy"))
"""The newest of both and the oldest of both: what breaks on a cell between them seldom works on these two."""
_LINT = "ruff, mypy"
_TYPED = "kilted"
"""The rclpy of the others has no types that mypy could check."""
_NO_PYTHON = "no such Python here"
_LARGEST_PORTION = 25
"""Files of tests that are run together; the folders of more are run one by one."""
_NO_TESTS = 5
"""Source: pytest documentation, exit codes."""
_VERSIONS = {
    "rclpy": ("ros-rclpy",),
    "Fast DDS": ("ros-fastdds", "ros-fastrtps"),
    "numpy": ("numpy",),
    "OpenCV": ("opencv-python-headless",),
    "ONNX Runtime": ("onnxruntime-gpu",),
    "torch": ("torch",),
}
_ASK_VERSIONS = """
import importlib.metadata, json, platform
found = {one.metadata["Name"].lower().replace("_", "-"): one.version for one in importlib.metadata.distributions()}
print(json.dumps(found | {"python": platform.python_version()}))
"""


@dataclass(frozen=True)
class Cell:
    """A Python with the wheels of a distribution of ROS 2.

    Attributes:
        python: Such as `3.14`.
        distribution: Such as `kilted`.
    """

    python: str
    distribution: str

    @property
    def name(self) -> str:
        """The name in the command line and of the folder."""
        return f"{self.python}-{self.distribution}"

    @property
    def is_corner(self) -> bool:
        """Whether all is run, with torch."""
        return (self.python, self.distribution) in CORNERS

    @property
    def parts(self) -> tuple[str, ...]:
        """The files of requirements beside those of ROS 2."""
        return ("runtime", "training", "dev", "docs") if self.is_corner else ("runtime", "page", "no_torch")

    @property
    def portions(self) -> tuple[str, ...]:
        """What is run one after the other: folders and files of tests, and in a corner what reads the sources."""
        tests = portions_of(TESTS)
        if self.is_corner:
            return (_LINT, *tests) if self.distribution == _TYPED else tests
        return tuple(name for name in tests if not name.startswith("test/training"))


CELLS = tuple(Cell(python, distribution) for distribution in DISTRIBUTIONS for python in PYTHONS)


def portions_of(folder: Path) -> tuple[str, ...]:
    """Returns the folders of tests in which no more than some files lie, relative to the sources.

    The files of a folder that is divided are one portion, which has the folder's name with `/*` behind it.
    """
    found = []
    if any(folder.glob("test_*.py")):
        found.append(f"{folder.relative_to(ROOT).as_posix()}/*")
    for below in sorted(path for path in folder.iterdir() if path.is_dir()):
        count = len([*below.rglob("test_*.py")])
        if count > _LARGEST_PORTION:
            found += portions_of(below)
        elif count:
            found.append(below.relative_to(ROOT).as_posix())
    return tuple(found)


def paths_of(portion: str) -> list[str]:
    """Returns what pytest is told to run for a portion."""
    if not portion.endswith("/*"):
        return [portion]
    folder = ROOT / portion.removesuffix("/*")
    return sorted(path.relative_to(ROOT).as_posix() for path in folder.glob("test_*.py"))


@dataclass(frozen=True)
class Result:
    """What came of a portion.

    Attributes:
        state: Of the sources that were tested.
        passed: How many tests.
        failed: Names of the tests, or what went wrong otherwise.
        skipped: How many tests by the reason that they give.
        duration_s: How long it took, in seconds.
    """

    state: str
    passed: int
    failed: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    duration_s: float = 0.0


@dataclass
class Record:
    """What is known of a cell.

    Attributes:
        cell: Which one.
        outcome: What became of its environment; empty where tests can be run in it.
        versions: Of what was installed.
        results: By portion.
    """

    cell: Cell
    outcome: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)

    def write(self) -> None:
        """Keeps it in build/matrix."""
        BUILD.mkdir(parents=True, exist_ok=True)
        _path(self.cell).write_text(json.dumps(asdict(self), indent=1))

    @property
    def passed(self) -> int:
        """How many tests passed."""
        return sum(result.passed for result in self.results.values())

    @property
    def failed(self) -> list[str]:
        """Names of what failed."""
        return [name for result in self.results.values() for name in result.failed]

    @property
    def skipped(self) -> Counter[str]:
        """How many tests were skipped, by reason."""
        found: Counter[str] = Counter()
        for result in self.results.values():
            found.update(result.skipped)
        return found

    @property
    def not_run(self) -> list[str]:
        """The portions that were not run."""
        return [name for name in self.cell.portions if name not in self.results]


def _path(cell: Cell) -> Path:
    return BUILD / f"{cell.name}.json"


def read_record(cell: Cell) -> Record:
    """Returns what earlier runs have kept of a cell, without portions that there are no more."""
    if not _path(cell).is_file():
        return Record(cell, "not run")
    kept = json.loads(_path(cell).read_text())
    results = {name: Result(**one | {"failed": tuple(one["failed"])}) for name, one in kept["results"].items()}
    present = {name: result for name, result in results.items() if name in cell.portions}
    return Record(cell, kept["outcome"], kept["versions"], present)


def state_of_sources() -> str:
    """Returns the commit, and a digest of what was changed since."""
    commit = _said("git", "rev-parse", "--short", "HEAD")
    changes = _said("git", "diff", "HEAD")
    return f"{commit}+{hashlib.sha256(changes.encode()).hexdigest()[:6]}" if changes else commit


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def interpreter(python: str, given: Sequence[str]) -> str:
    """Returns the program of a Python, of those that are given or else on PATH; empty where there is none."""
    for path in (*given, shutil.which(f"python{python}") or ""):
        ask = [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if path and subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip() == python:
            return path
    return ""


def prepare(record: Record, pythons: Sequence[str]) -> None:
    """Makes the environment of a cell, or says in its record why there is none."""
    cell = record.cell
    program = interpreter(cell.python, pythons)
    if not program:
        record.outcome = f"{_NO_PYTHON}; {_resolved(cell)}"
    elif subprocess.run(_make(cell, "venv", f"PYTHON={program}"), cwd=ROOT, env=_environment(), check=False).returncode:
        record.outcome = f"not installed; {_resolved(cell)}"
    else:
        record.outcome = ""
        record.versions = _versions(cell)
    record.write()


def note_resolved(record: Record, pythons: Sequence[str]) -> None:
    """Says in the record of a cell that was never run whether pip finds all that it needs."""
    if record.results:
        return
    program = interpreter(record.cell.python, pythons)
    known = _resolved_here(record.cell, program) if program else f"{_NO_PYTHON}; {_resolved(record.cell)}"
    record.outcome = f"not run; {known}"
    record.write()


def _resolved_here(cell: Cell, program: str) -> str:
    """Says whether pip finds all that a cell needs, by the pip of its Python."""
    names = (*cell.parts, f"ros-{cell.distribution}", f"interfaces-{cell.distribution}")
    files = [word for name in names for word in ("-r", str(ROOT / "requirements" / f"{name}.txt"))]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        pip = [program, "-m", "pip", "install", "--dry-run", "--quiet", "--target", folder, "--report", str(report)]
        if subprocess.run([*pip, *files], env=_environment(), check=False).returncode:
            return "does not resolve"
        return f"resolves only: {len(json.loads(report.read_text())['install'])} packages"


def _make(cell: Cell, target: str, *variables: str) -> list[str]:
    environment = (BUILD / cell.name).relative_to(ROOT)
    given = (f"VENV={environment}", "ROS=wheels", f"WHEELS={cell.distribution}", f"PARTS={' '.join(cell.parts)}")
    return ["make", "--no-print-directory", *given, *variables, target]


def _environment(**variables: str) -> dict[str, str]:
    """The variables of this process without those of an outer `make`, whose words would be another environment's."""
    return {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))} | variables


def _versions(cell: Cell) -> dict[str, str]:
    python = BUILD / cell.name / "bin" / "python"
    done = subprocess.run([python, "-c", _ASK_VERSIONS], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    known = {title: found[name] for title, names in _VERSIONS.items() for name in names if name in found}
    return {"Python": found["python"], **known}


def _resolved(cell: Cell) -> str:
    """Says whether pip finds wheels of all that a cell needs."""
    pinned = (f"ros-{cell.distribution}", f"interfaces-{cell.distribution}")
    try:
        # What the wheels of ROS 2 require in turn has a package without a wheel, which needs no compiler: empy.
        chosen = [*_wheels(cell, cell.parts), *_wheels(cell, pinned, "--no-deps")]
    except subprocess.SubprocessError:
        return "does not resolve either"
    return f"resolves only: {len(chosen)} wheels"


def _wheels(cell: Cell, names: Sequence[str], *options: str) -> list[str]:
    import resolve  # needs the library packaging, which not every Python has

    requirements = [line for name in names for line in resolve.listed(name, cell.python, "x86_64")]
    return resolve.resolve(requirements, cell.python, "x86_64", options)


def run_portion(cell: Cell, portion: str, state: str) -> Result:
    """Runs a portion in the environment of its cell, which is there."""
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = _make(cell, "lint")
        if portion != _LINT:
            command = _make(cell, "pytest", f"TESTS={' '.join(paths_of(portion))}")
        options = f"{os.environ.get('PYTEST_ADDOPTS', '')} -q --junit-xml={report}"
        ended = subprocess.run(command, cwd=ROOT, env=_environment(PYTEST_ADDOPTS=options), check=False)
        duration_s = round(time.monotonic() - started_s, 1)
        if report.is_file():
            return read_report(report, state, duration_s)
        problem = () if ended.returncode in (0, _NO_TESTS) else (f"{portion}: exit code {ended.returncode}",)
        return Result(state, 0 if problem else 1, problem, {}, duration_s)


def read_report(path: Path, state: str, duration_s: float) -> Result:
    """Returns what pytest has written of a run in the format of JUnit."""
    failed = []
    skipped: Counter[str] = Counter()
    passed = 0
    for case in ET.parse(path).iter("testcase"):
        reason = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname', '')}::{case.get('name')}".removeprefix("::"))
        elif reason is not None:
            skipped[_one_line(reason.get("message", ""))] += 1
        else:
            passed += 1
    return Result(state, passed, tuple(dict.fromkeys(failed)), dict(skipped), duration_s)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def table(records: Sequence[Record]) -> Iterator[str]:
    """Yields the lines of the table, in Markdown, and what the cells missed."""
    yield "| ROS 2 | Python | run | passed | failed | skipped | versions |"
    yield "|---|---|---|---|---|---|---|"
    for record in records:
        cell = record.cell
        count = len(cell.portions) - len(record.not_run)
        extent = "all of `make test`" if cell.is_corner else "what needs no torch"
        run = record.outcome or f"{extent}{f', {count} of {len(cell.portions)} parts' if record.not_run else ''}"
        numbers = [record.passed, len(record.failed), record.skipped.total()] if record.results else ["", "", ""]
        versions = ", ".join(f"{name} {version}" for name, version in record.versions.items() if name != "Python")
        shown = [cell.distribution.capitalize(), record.versions.get("Python", cell.python), run, *numbers, versions]
        yield f"| {' | '.join(map(str, shown))} |"
    yield ""
    for record in records:
        yield from _details(record)


def _details(record: Record) -> Iterator[str]:
    name = record.cell.name
    for failed in record.failed:
        yield f"- {name} failed: {failed}"
    for reason, count in sorted(record.skipped.items()):
        yield f"- {name} skipped {count}: {reason}"
    if record.results and record.not_run:
        yield f"- {name} not run: {', '.join(record.not_run)}"
    if states := sorted({result.state for result in record.results.values()}):
        yield f"- {name} is of {', '.join(states)}"


def run_cell(record: Record, options: argparse.Namespace, deadline_s: float) -> None:
    """Runs of a cell what has not passed yet with the sources as they are."""
    state = state_of_sources()
    for portion in options.tests or record.cell.portions:
        kept = record.results.get(portion)
        is_done = kept is not None and kept.state == state and not kept.failed
        if is_done or portion not in record.cell.portions:
            continue
        if time.monotonic() > deadline_s:
            return
        print(f"== {record.cell.name}: {portion}", flush=True)
        record.results[portion] = run_portion(record.cell, portion, state)
        record.write()


def is_amiss(record: Record, options: argparse.Namespace) -> bool:
    """Whether a cell that was to be run could not be; a Python that is not here may miss where no cell was named."""
    is_asked = record.cell.name in options.cells
    may_miss = record.outcome.startswith(_NO_PYTHON) and not is_asked
    return bool(record.outcome) and (is_asked or not options.cells) and not options.resolve and not may_miss


def main(words: Sequence[str]) -> int:
    """Runs the chosen cells and prints the table of all; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make matrix", description="The tests with each Python and each ROS 2.")
    names = [cell.name for cell in CELLS]
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"default: {' '.join(names)}; `table` for none")
    parser.add_argument("--pythons", nargs="+", default=[], metavar="PATH", help="Pythons that are not on PATH")
    parser.add_argument("--tests", nargs="+", default=[], metavar="FOLDER", help="portions to run; default: all")
    parser.add_argument("--resolve", action="store_true", help="ask pip alone what it would install; run nothing")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no portion later than that")
    options = parser.parse_args(words)
    chosen = options.cells or names
    if unknown := set(chosen) - {*names, "table"}:
        parser.error(f"{', '.join(sorted(unknown))}: no such cell; there are {', '.join(names)}")
    deadline_s = time.monotonic() + 60 * options.minutes
    records = [read_record(cell) for cell in CELLS]
    for record in records:
        if record.cell.name in chosen and options.resolve:
            note_resolved(record, options.pythons)
        elif record.cell.name in chosen:
            prepare(record, options.pythons)
            if not record.outcome:
                run_cell(record, options, deadline_s)
    lines = list(table(records))
    print("\n".join(lines))
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "matrix.md").write_text("\n".join(lines) + "\n")
    (BUILD / "matrix.json").write_text(json.dumps([asdict(record) for record in records], indent=1))
    return 2 if any(record.failed or is_amiss(record, options) for record in records) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

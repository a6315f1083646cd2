"""What pip would install on an Arm robot, from the index that pip is set up for; nothing is installed.

    python requirements/resolve.py [NAME ...]

The requirements of the robot are resolved for Linux on aarch64 with the Python of each Ubuntu that matters, wheels
only: what has no wheel would need a compiler there, and is an error. Pip reads the markers of a requirement for the
machine that it runs on, so those of ours are decided here; of what these require in turn, an older version may be
shown.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).resolve().parent
MACHINE = "aarch64"
PYTHONS = {"3.10": "Ubuntu 22.04, JetPack 6", "3.12": "Ubuntu 24.04, JetPack 7", "3.14": "Ubuntu 26.04"}
TAGS = ("manylinux_2_17", "manylinux2014", "manylinux_2_27", "manylinux_2_28", "manylinux_2_31", "manylinux_2_34")
"""glibc 2.35 of Ubuntu 22.04 runs all of these."""
TIMEOUT_S = 300.0
"""Pip tries versions one after the other, which has no end where none fits."""
ROBOT = ("runtime", "page")


def listed(name: str, python: str, machine: str = MACHINE) -> list[str]:
    """Returns the requirements of a file, and of those that it names, that hold for a Python on a kind of machine."""
    found: list[str] = []
    for line in (HERE / f"{name}.txt").read_text().splitlines():
        if line.startswith("-r "):
            found += listed(line.removeprefix("-r ").removesuffix(".txt"), python, machine)
        elif line and not line.startswith("#"):
            found += _plain(Requirement(line), python, machine)
    return found


def _plain(one: Requirement, python: str, machine: str) -> list[str]:
    robot = {"platform_machine": machine, "python_version": python, "python_full_version": f"{python}.0"}
    if one.marker is not None and not one.marker.evaluate(robot):
        return []
    return [f"{one.name}{one.specifier}"]


def resolve(requirements: list[str], python: str, machine: str = MACHINE, options: Sequence[str] = ()) -> list[str]:
    """Returns the wheels that pip chooses, by name and version.

    Args:
        requirements: As pip takes them.
        python: Such as `3.10`.
        machine: Such as `aarch64`.
        options: More for pip.

    Raises:
        subprocess.SubprocessError: If there is none of something; pip has said of what, or has found no end.
    """
    tags = [word for tag in TAGS for word in ("--platform", f"{tag}_{machine}")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check"]
        pip += ["--ignore-installed", "--target", folder, "--only-binary=:all:", "--report", str(report)]
        subprocess.run(
            [*pip, "--implementation", "cp", "--python-version", python, *tags, *options, *requirements], check=True
        )
        items = json.loads(report.read_text())["install"]
    return sorted(f"{one['metadata']['name']} {one['metadata']['version']}" for one in items)


def main(names: list[str]) -> int:
    """Prints what is chosen for each Python; returns the exit code."""
    failed = 0
    for python, where in PYTHONS.items():
        requirements = [line for name in names or ROBOT for line in listed(name, python)]
        try:
            print(f"Python {python} on {MACHINE} ({where}): {', '.join(resolve(requirements, python))}")
        except subprocess.SubprocessError:
            print(f"Python {python} on {MACHINE} ({where}): needs a compiler, or does not exist; see above")
            failed += 1
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

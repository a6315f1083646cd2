"""Builds the packages of messages beside this file into the virtual environment that runs it, where there is no apt.

Nothing happens to a package of which the environment already holds this very definition. The build itself is temporary;
what stays is what `cmake --install` puts under the environment, which is laid out like a ROS 2 installation.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PACKAGES = sorted(path.parent for path in HERE.glob("*/package.xml"))
PREFIX = Path(sys.prefix)
PINS = sorted(path for name in ("ros", "interfaces") for path in HERE.parent.glob(f"requirements/{name}-*.txt"))


def main() -> int:
    """Builds and installs the packages that are not up to date, and returns the exit code."""
    if sys.prefix == sys.base_prefix:
        print("error: interfaces/build.py installs into a virtual environment; run .venv/bin/python", file=sys.stderr)
        return 2
    for package in PACKAGES:
        problem = build(package)
        if problem:
            print(f"error: {package.name} was not built: {problem}; try `make clean venv`", file=sys.stderr)
            return 2
    return 0


def build(package: Path) -> str:
    """Builds and installs a package unless it is up to date, and returns why it failed, or nothing."""
    stamp = PREFIX / "share" / package.name / "built_from.sha256"
    digest = definition_digest(package)
    if stamp.is_file() and stamp.read_text() == digest:
        print(f"      {package.name} is up to date")
        return ""
    point_wheels_at_this_python()
    with tempfile.TemporaryDirectory(prefix=f"{package.name}-") as folder:
        for command in commands(package, folder):
            problem = run(package, command)
            if problem:
                return problem
    stamp.write_text(digest)
    return ""


def definition_digest(package: Path) -> str:
    """Returns the SHA-256 of what the build depends on: the package's files, the ROS wheels and the Python."""
    digest = hashlib.sha256(sys.version.encode())
    for path in PINS + sorted(path for path in package.rglob("*") if path.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def point_wheels_at_this_python() -> None:
    """Replaces the include folders of the machine that built the ROS wheels by those of this environment."""
    for path in PREFIX.glob("share/*/cmake/*_pyExport.cmake"):
        text = path.read_text()
        mended = re.sub(r'/opt/python/[^";]*/numpy/(_core|core)/include', np.get_include(), text)
        mended = re.sub(r'/opt/python/[^";]*/include/python[^";/]*', sysconfig.get_path("include"), mended)
        if mended != text:
            path.write_text(mended)


def commands(package: Path, folder: str) -> list[list[str]]:
    """Returns what configures, compiles and installs a package by way of a folder."""
    configure = ["cmake", "-S", str(package), "-B", folder, "-G", "Ninja", "-DBUILD_TESTING=OFF", "-Wno-dev"]
    configure += [f"-DCMAKE_INSTALL_PREFIX={PREFIX}", f"-DPython3_EXECUTABLE={sys.executable}"]
    return [configure, ["cmake", "--build", folder], ["cmake", "--install", folder]]


def run(package: Path, command: list[str]) -> str:
    """Runs one command, shows each quarter of ninja's `[20/80]`, and returns why it failed, or nothing."""
    environment = os.environ | {"AMENT_PREFIX_PATH": str(PREFIX), "CMAKE_PREFIX_PATH": str(PREFIX)}
    environment["PATH"] = os.pathsep.join([str(PREFIX / "bin"), os.environ.get("PATH", os.defpath)])
    lines: list[str] = []
    quarters = 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job:
        for line in job.stdout or ():
            lines.append(line.strip())
            step = re.match(r"\[(\d+)/(\d+)\]", line)
            if step and 4 * int(step[1]) // int(step[2]) > quarters:
                quarters = 4 * int(step[1]) // int(step[2])
                print(f"      {package.name}: {25 * quarters} % compiled", flush=True)
    if job.returncode == 0:
        return ""
    first = next((i for i, line in enumerate(lines) if "error" in line.lower()), len(lines) - 1)
    return " ".join(line for line in lines[first : first + 4] if line) or f"{command[0]} exited with {job.returncode}"


if __name__ == "__main__":
    sys.exit(main())

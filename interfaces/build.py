"""Builds vision_msgs into the virtual environment that runs this file, for machines without apt.

Nothing happens when the environment already holds this very definition. The build itself is temporary; what stays
is what `cmake --install` puts under the environment, which is laid out like a ROS 2 installation.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "vision_msgs"
PREFIX = Path(sys.prefix)
STAMP = PREFIX / "share" / PACKAGE.name / "built_from.sha256"


def main() -> int:
    """Builds and installs the package unless it is up to date, and returns the exit code."""
    if sys.prefix == sys.base_prefix:
        return fail("interfaces/build.py installs into a virtual environment; run it with .venv/bin/python")
    missing = [tool for tool in ("cmake", "gcc", "g++") if shutil.which(tool) is None]
    if missing:
        return fail(f"{', '.join(missing)} not found; install a C++ compiler and cmake (apt install build-essential cmake)")
    digest = definition_digest()
    if STAMP.is_file() and STAMP.read_text() == digest:
        print(f"{PACKAGE.name}: up to date")
        return 0
    point_wheels_at_this_python()
    with tempfile.TemporaryDirectory(prefix=f"{PACKAGE.name}-") as build:
        for arguments in cmake_steps(build):
            problem = run(arguments)
            if problem:
                return fail(f"{PACKAGE.name} did not build: {problem}; run `make clean venv`, or see interfaces/build.py")
    STAMP.write_text(digest)
    print(f"{PACKAGE.name}: installed in {PREFIX}")
    return 0


def fail(message: str) -> int:
    """Says what is wrong on one line and returns the exit code for it."""
    print(f"error: {message}", file=sys.stderr)
    return 2


def definition_digest() -> str:
    """Returns the SHA-256 of everything the build depends on: the package's files and the Python it is for."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(path for path in PACKAGE.rglob("*") if path.is_file()):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def point_wheels_at_this_python() -> None:
    """Replaces the include folders of the machine that built the ROS wheels by those of this environment."""
    import numpy as np  # noqa: PLC0415 - only a build needs it, so that the errors above come first

    for path in PREFIX.glob("share/*/cmake/*_pyExport.cmake"):
        text = path.read_text()
        mended = re.sub(r'[^";]*/numpy/(_core|core)/include', np.get_include(), text)
        mended = re.sub(r'/opt/python/[^";]*/include/python[^";/]*', sysconfig.get_path("include"), mended)
        if mended != text:
            path.write_text(mended)


def cmake_steps(build: str) -> list[list[str]]:
    """Returns the commands that configure, compile and install the package."""
    configure = ["cmake", "-S", str(PACKAGE), "-B", build, "-G", "Ninja", "-DBUILD_TESTING=OFF", "-Wno-dev"]
    configure += [f"-DCMAKE_INSTALL_PREFIX={PREFIX}", f"-DPython3_EXECUTABLE={sys.executable}"]
    return [configure, ["cmake", "--build", build], ["cmake", "--install", build]]


def run(arguments: list[str]) -> str:
    """Runs one command, shows ninja's `[3/80]` as progress, and returns the first line that says error, if it failed."""
    environment = os.environ | {"AMENT_PREFIX_PATH": str(PREFIX), "CMAKE_PREFIX_PATH": str(PREFIX)}
    environment["PATH"] = os.pathsep.join([str(PREFIX / "bin"), os.environ.get("PATH", os.defpath)])
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    shown = 0
    for line in process.stdout:
        lines.append(line.strip())
        progress = re.match(r"\[(\d+)/(\d+)\]", line)
        if progress and (done := 10 * int(progress[1]) // int(progress[2])) > shown:
            shown = done
            print(f"{PACKAGE.name}: compiling {10 * done} %", flush=True)
    if process.wait() == 0:
        return ""
    return next((line for line in lines if "error" in line.lower()), f"{arguments[0]} stopped with {process.returncode}")


if __name__ == "__main__":
    sys.exit(main())

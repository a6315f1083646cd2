"""Says on one line why this machine cannot hold the virtual environment, before anything is downloaded.

Runs on whatever Python the user has, so it keeps to syntax that old ones read.
"""

import importlib.util
import platform
import shutil
import sys
import sysconfig
from pathlib import Path


def problem(ros: str) -> str:
    """Returns what is missing and what to do, or nothing.

    Args:
        ros: `wheels`, or the name of the sourced ROS 2 distribution.
    """
    if not (3, 10) <= sys.version_info[:2] <= (3, 14):
        return f"{sys.executable} is Python {platform.python_version()}, 3.10 to 3.14 works; try PYTHON=python3.12"
    if importlib.util.find_spec("ensurepip") is None:
        return f"{sys.executable} has no venv module; apt install python3-venv"
    if ros != "wheels":
        if importlib.util.find_spec("vision_msgs") is None:
            return f"the sourced ROS 2 has no vision_msgs; apt install ros-{ros}-vision-msgs"
        return ""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "ROS 2 wheels exist for x86-64 Linux only; install ROS 2 with apt and source it"
    missing = [tool for tool in ("gcc", "g++", "cmake") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found, vision_msgs cannot be built; apt install build-essential cmake"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return f"{sys.executable} has no Python.h, vision_msgs cannot be built; apt install python3-dev"
    return ""


if __name__ == "__main__":
    found = problem(sys.argv[1])
    if found:
        sys.exit(f"error: {found}")

"""Keeps the working directory off the places that Python imports from: what lies there is data, and not run.

`python -m` and `python -c` put it before the standard library, so that a `json.py` in it would be run. `-P` and
PYTHONSAFEPATH prevent that from Python 3.11 on; `-I` would hide PYTHONPATH, in which ROS lies. Only what every Python
has imported at its start is imported here, since the working directory may still be in the way: no `__future__`.
"""

import os
import sys


def drop_working_directory(package_file: str) -> None:
    """Takes the working directory off `sys.path` where `python -m` put it; called before any other import.

    Where it is the folder that the package lies in, as in a checkout, that folder goes to the end, behind the standard
    library and what is installed. A program that only imports the package keeps its `sys.path`.

    Args:
        package_file: `__file__` of the package that is being run.
    """
    if sys.argv[:1] != ["-m"]:  # so it is only while `python -m` looks for the module
        return
    os.environ["PYTHONSAFEPATH"] = "1"  # for the processes that multiprocessing starts, which Python 3.10 ignores
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    root = os.path.dirname(os.path.dirname(os.path.abspath(package_file)))  # noqa: PTH100 PTH120 pathlib imports more
    if root not in sys.path:
        sys.path.append(root)


def python_command(code: str, *arguments: str) -> list[str]:
    """Returns the command of a Python process that imports from where this one does, the working directory excepted.

    Args:
        code: What it runs.
        arguments: Its `sys.argv[1:]`.
    """
    folders = [folder for folder in sys.path if folder]  # an empty one is the working directory
    return [sys.executable, "-c", f"import sys; sys.path[:] = {folders!r}\n{code}", *arguments]

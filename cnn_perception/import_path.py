"""Keeps the working directory off the places that Python imports from: what lies there is data, and not run.

`python -m` and `python -c` put it before the standard library, and so does an empty entry of PYTHONPATH; a `json.py`
in it would be run. `-P` and PYTHONSAFEPATH prevent the former from Python 3.11 on; `-I` would hide PYTHONPATH, in which
ROS lies. What Python itself imports before a program's first line, such as `runpy`, only they can keep.

Only what every Python has imported at its start is imported here, since the working directory may still be in the way:
no `__future__`.
"""

import os
import sys


def drop_working_directory(package_file: str) -> None:
    """Takes the working directory off `sys.path`; called before any other import.

    What `python -m` put there goes. Where it is the folder that the package lies in, as in a checkout, that folder goes
    to the end, behind the standard library and what is installed. What an empty entry of PYTHONPATH put there goes too,
    and the entry with it; every other entry stays. Apart from that, a program that only imports the package keeps its
    `sys.path`.

    Args:
        package_file: `__file__` of the package that is being run.
    """
    _drop_empty_entries()
    if sys.argv[:1] != ["-m"]:  # so it is only while `python -m` looks for the module
        return
    if not getattr(sys.flags, "safe_path", False) and sys.path[:1] == [_working_directory()]:
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"  # for processes that libraries start
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
    # from 3.13 on, Python imports modules of its own before it runs `code`
    options = ["-P"] if sys.version_info >= (3, 11) else []
    return [sys.executable, *options, "-c", f"import sys; sys.path[:] = {folders!r}\n{code}", *arguments]


def start_forkserver(preload: list[str]) -> None:
    """Starts the process that multiprocessing's `forkserver` forks; none of them imports from the working directory.

    It is started by `python -c`, on Python 3.10 without a way to say `-P`; it is started in the folder of the standard
    library, therefore. Processes that it forks begin in the working directory, with this process's `sys.path`.

    Ctrl-C reaches the whole group of processes and is left to this one: a blocked signal stays so in what is started.

    Args:
        preload: Modules that it imports once for all of them, where it finds them.
    """
    import signal
    from multiprocessing import forkserver, resource_tracker

    forkserver.set_forkserver_preload(preload)
    here = os.open(".", os.O_PATH)
    try:
        os.chdir(os.path.dirname(os.__file__))  # noqa: PTH120
        resource_tracker.ensure_running()  # which would unblock it
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        os.fchdir(here)
        os.close(here)


def _drop_empty_entries() -> None:
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = [entry for entry in entries if entry]
    if len(entries) == max(1, len(named)):
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(named)
    here = _working_directory()
    if here not in [os.path.abspath(entry) for entry in named]:  # noqa: PTH100
        sys.path[:] = [folder for folder in sys.path if folder != here]


def _working_directory() -> str:
    """Returns the working directory; empty where it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return ""

"""Work as tests of jobs have it done in processes; each is found by its name, therefore it lies here."""

from __future__ import annotations

import atexit
import os
import signal
import time
from pathlib import Path

from cnn_perception.errors import DataError, ModelError


def square(number: int) -> int:
    print("what a library prints", flush=True)
    return number * number


def obey(order: tuple[str, str]) -> str:
    """Does what the first word says, in a folder."""
    word, folder = order
    with (Path(folder) / word).open("a") as file:
        file.write(f"{os.getpid()}\n")
    if word == "refuse":
        raise DataError("this cannot be used")
    if word == "no memory":
        raise ModelError("this finds no memory")
    if word == "fail":
        raise KeyError("what")
    if word == "die" or (word == "die once" and (Path(folder) / word).read_text().count("\n") == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return word


def wait_for_interruption(folder: str) -> str:
    """Says that it is there, and returns once it is interrupted."""
    (Path(folder) / str(os.getpid())).touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        return "as far as I came"
    return "not interrupted"


def crash_at_exit(number: int) -> int:
    """Returns, and has the process end badly afterwards, as the threads of native libraries can."""
    atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
    return number


def wait_for_file(path: str) -> str:
    ends_s = time.monotonic() + 60
    while not Path(path).exists() and time.monotonic() < ends_s:
        time.sleep(0.01)
    return "it came" if Path(path).exists() else "it did not come"


def count_others(folder: str) -> int:
    """Returns how many are at work when this begins, itself included, and stays until another has begun or ended."""
    mine = Path(folder) / str(os.getpid())
    mine.touch()
    there = len(list(Path(folder).iterdir()))
    ends_s = time.monotonic() + 0.3
    while time.monotonic() < ends_s and len(list(Path(folder).iterdir())) == there:
        time.sleep(0.01)
    mine.unlink()
    return there

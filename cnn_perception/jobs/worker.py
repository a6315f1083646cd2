"""The process that does the work on one item, and the process that has it done: what they say to each other.

The item comes as a pickle by standard input, the result goes back as one by a pipe of its own, since libraries may
print. Both ends are this package on this machine, started by the same user.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, ConfigError, DataError, PerceptionError

_PR_SET_PDEATHSIG = 1
"""Source: Linux, include/uapi/linux/prctl.h."""


@dataclass(frozen=True)
class Refused:
    """Why the work cannot be done, in one line: what a `PerceptionError` says.

    Attributes:
        reason: The line.
        is_final: Whether it would be refused again: a wrong setting or bad data stay so, while a model that found no
            memory, or a process that was killed, may find it alone.
    """

    reason: str
    is_final: bool = False


def attempt(work: Callable[[Any], Any], item: object) -> object:
    """Returns what the work makes of an item, or that it is `Refused`."""
    try:
        return work(item)
    except PerceptionError as error:
        return Refused(str(error), is_final=isinstance(error, ConfigError | DataError))


def _interrupt_once(_number: int, _frame: object) -> None:
    """Interrupts the work: a terminal sends Ctrl-C to this process, too, and who waits for it sends it once more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(result_pipe: int) -> int:
    """Does the work that standard input describes; returns the exit code.

    Args:
        result_pipe: File descriptor that the result is written to.
    """
    # Whatever becomes of who waits for it: work that nobody waits for must not go on for hours.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):  # where the memory is full, this process is ended first
        Path("/proc/self/oom_score_adj").write_text("1000")
    os.set_inheritable(result_pipe, False)
    signal.signal(signal.SIGINT, _interrupt_once)  # also where the parent's shell has it ignored
    try:
        work, item = pickle.load(sys.stdin.buffer)
        result = attempt(work, item)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is done is handed over
        with os.fdopen(result_pipe, "wb") as pipe:
            pickle.dump(result, pipe, pickle.HIGHEST_PROTOCOL)
    except KeyboardInterrupt:
        return EXIT_BAD_INPUT
    return EXIT_OK

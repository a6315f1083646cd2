"""Which cores the thread that runs a model keeps off: those to which ONNX Runtime has bound the threads of its pool.

With a thread a core ONNX Runtime binds each thread of the pool to a core of its own and leaves one to the thread that
calls it, which it does not bind. Where that one lands on a bound core the two wait for each other in turns of the
scheduler, which moves neither while anything else, however unimportant, runs on the free core: an inference of 18 ms
took 60.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Set
from pathlib import Path


def avoid_bound_cores() -> None:
    """Keeps the calling thread off the cores to which others of its process are bound.

    Nothing changes where no core would be left, or elsewhere than on Linux.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # a container may forbid it, or hide /proc
        ours = os.sched_getaffinity(0)
        if free := ours - _bound_cores(ours):
            os.sched_setaffinity(0, free)


def _bound_cores(ours: Set[int]) -> set[int]:
    """Returns to which of our cores a thread of this process is bound that may not use all of them."""
    bound: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            its = os.sched_getaffinity(int(thread.name))
            bound |= its if its < ours else set()
    return bound

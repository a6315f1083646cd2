"""The memory of this process: how much more it may take for a while, and what it keeps for what comes next."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

_MOST_OF_FREE = 0.75
"""Share of the available memory; the rest is left to everybody else."""

KEPT = {
    "MALLOC_MMAP_THRESHOLD_": 1 << 30,
    "MALLOC_TRIM_THRESHOLD_": 1 << 30,
    "MALLOC_TOP_PAD_": 32 << 20,
    "MALLOC_ARENA_MAX": 1,
}
"""By which glibc's malloc, once a process begins, keeps memory of the size of images for the next."""
_MALLOPT_NUMBERS = {
    "MALLOC_TRIM_THRESHOLD_": -1,
    "MALLOC_TOP_PAD_": -2,
    "MALLOC_MMAP_THRESHOLD_": -3,
    "MALLOC_ARENA_MAX": -8,
}
"""Source: glibc, malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX."""


def keep_freed() -> None:
    """Has this process and those that it starts keep the memory of an image for the next, less what the user has set.

    glibc would return it to the system and map it anew, page by page, for each. What is kept in a thread's arena is of
    no use to the others: the memory of a node that reloads its model rose by 100 MB. With one for all it is level.
    """
    libc = ctypes.CDLL(None)
    for name, value in KEPT.items():
        # The variables were read long ago: the running process is told directly. musl has no mallopt.
        if name not in os.environ and hasattr(libc, "mallopt"):
            libc.mallopt(_MALLOPT_NUMBERS[name], value)
            os.environ[name] = str(value)


def affordable(byte_count: int) -> int:
    """Returns so many bytes, or fewer where the machine has not much more than that left."""
    return min(byte_count, int(_MOST_OF_FREE * _bytes("/proc/meminfo", "MemAvailable")))


class _Limits:
    """The blocks under way in the threads of this process, which have one limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the next and the limit itself, but is not held during a block
        self._blocks = 0
        self._before = resource.RLIM_INFINITY

    def enter(self, byte_count: int) -> None:
        with self._lock:
            in_force, most = resource.getrlimit(resource.RLIMIT_DATA)
            if self._blocks == 0:
                self._before = in_force
                in_force = _bytes("/proc/self/status", "VmData")
            self._blocks += 1
            self._set(in_force + byte_count, most)

    def leave(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                self._set(self._before, resource.getrlimit(resource.RLIMIT_DATA)[1])

    def _set(self, wanted: int, most: int) -> None:
        bounds = [bound for bound in (wanted, self._before, most) if bound != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min(bounds, default=resource.RLIM_INFINITY), most))


_limits = _Limits()


def return_memory() -> None:
    """Gives memory back that malloc keeps; to be called when something large was freed, such as a model.

    After `keep_freed` malloc would keep all of it.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # musl has none
        libc.malloc_trim(0)


@contextlib.contextmanager
def limited(byte_count: int) -> Iterator[None]:
    """Has this process get no more than so many bytes beside what it has; blocks of several threads share their sum.

    What would exceed that fails at once, before it is touched: a MemoryError, or the error of a library. The limit is
    on private memory that can be written to (RLIMIT_DATA), so that addresses which are reserved only do not count.

    Args:
        byte_count: Also of what other threads take meanwhile.
    """
    _limits.enter(byte_count)
    try:
        yield
    finally:
        _limits.leave()


def _bytes(file: str, key: str) -> int:
    """Returns a size that the kernel tells in KiB, in bytes."""
    lines = Path(file).read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))

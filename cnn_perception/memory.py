"""How much more memory this process may take for a while: a small file of a stranger can ask for any amount."""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

_MOST_OF_FREE = 0.75
"""Share of the available memory; the rest is left to everybody else."""


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

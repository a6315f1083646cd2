"""What every benchmark reports: the machine, the median ratio of the pairs of measurements, and its target."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """The required value of a ratio: at most `limit`, or at least `limit` where `is_lower_bound` is set."""

    limit: float
    is_lower_bound: bool = False

    def verdict(self, ratio: float) -> str:
        """Returns the target in words, and whether a ratio reaches it."""
        reached = ratio >= self.limit if self.is_lower_bound else ratio <= self.limit
        return f"target {'>=' if self.is_lower_bound else '<='} {self.limit:g}: {'reached' if reached else 'MISSED'}"


def machine() -> str:
    """Returns the line that every benchmark begins with."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def summary(ratios: Sequence[float], target: Target | None = None) -> str:
    """Returns the median of some ratios, the smallest and the largest, and whether the target is reached."""
    middle = statistics.median(ratios)
    text = f"{middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    return f"{text}, {target.verdict(middle)}" if target else text


def processor_ms(work: Callable[[], object], repeats: int) -> float:
    """Returns the mean time on the processor; what others compute meanwhile is not in it."""
    started = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - started) * 1e3 / repeats

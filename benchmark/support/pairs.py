"""What every benchmark reports: the machine, the median ratio of the pairs of measurements, and its target."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RECORD = "CNN_PERCEPTION_BENCHMARK_RECORD"
"""Environment variable: the file to which each ratio is added, a line of JSON, for the table at the end."""


@dataclass(frozen=True)
class Target:
    """The required value of a ratio: at most `limit`, or at least `limit` where `is_lower_bound` is set."""

    limit: float
    is_lower_bound: bool = False

    def __str__(self) -> str:
        """Returns it in words."""
        return f"{'>=' if self.is_lower_bound else '<='} {self.limit:g}"

    def verdict(self, ratio: float) -> str:
        """Returns the target in words, and whether a ratio reaches it."""
        return f"target {self}: {'reached' if self.reached(ratio) else 'MISSED'}"

    def reached(self, ratio: float) -> bool:
        """Returns whether a ratio is within the target."""
        return ratio >= self.limit if self.is_lower_bound else ratio <= self.limit


@dataclass(frozen=True)
class Figure:
    """A ratio as a benchmark has measured it.

    Attributes:
        name: What was measured over what, and under which circumstances.
        median: Of all pairs of measurements, or the only one.
        least: The smallest of them.
        most: The largest of them.
        target: In words; empty where nothing is required.
        is_reached: Whether it is; True where nothing is required.
    """

    name: str
    median: float
    least: float
    most: float
    target: str
    is_reached: bool


def machine() -> str:
    """Returns the line that every benchmark begins with."""
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _processor() -> str:
    """Returns what Linux calls the processor; elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def report(circumstances: str, name: str, ratios: Sequence[float], target: Target | None = None) -> None:
    """Prints the median of some ratios, the smallest and the largest, and whether the target is reached.

    Args:
        circumstances: What tells this measurement from others of this name, such as a size; said before it already.
        name: What was measured over what.
        ratios: At least one.
        target: What is required of the median.
    """
    print(f"  {name}: {summary(ratios, target)}", flush=True)
    record(f"{circumstances}: {name}", ratios, target)


def record(name: str, ratios: Sequence[float], target: Target | None = None) -> None:
    """Leaves a figure for the table of `python -m benchmark`, where this runs for it."""
    file = os.environ.get(RECORD)
    if file:
        middle = statistics.median(ratios)
        is_reached = target is None or target.reached(middle)
        figure = Figure(name, middle, min(ratios), max(ratios), str(target or ""), is_reached)
        with Path(file).open("a") as stream:
            stream.write(json.dumps(asdict(figure)) + "\n")


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

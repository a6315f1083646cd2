"""Memory, threads and open files of a process, sampled over time, and by how much they grow."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MOST_SAMPLES = 400


@dataclass(frozen=True)
class Sample:
    """What a process holds at one moment.

    Attributes:
        time_s: Since the start of the measurement.
        rss_mb: Resident memory, MB (10^6 bytes), shared pages in full.
        pss_mb: The same with each shared page divided by those who share it.
        threads: How many.
        handles: Open files, sockets and pipes.
    """

    time_s: float
    rss_mb: float
    pss_mb: float
    threads: int
    handles: int


LIMITS = {"rss_mb": 12.0, "pss_mb": 12.0, "threads": 1.5, "handles": 3.0}
"""By how much each may rise over the second half of a run.

A frame of 640x480 that is kept once a second is 0.9 MB a second, 1 KB a frame at 30 Hz 108 MB an hour; what malloc
keeps for later, and what a model swap takes for a moment, comes and goes by some MB.
"""


def sample_process(pid: int, started_s: float, now_s: float) -> Sample:
    """Returns what a process holds, read from /proc.

    Raises:
        FileNotFoundError, ProcessLookupError: If the process has ended.
    """
    place = Path(f"/proc/{pid}")
    memory = dict(line.split(":", 1) for line in (place / "smaps_rollup").read_text().splitlines()[1:])
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    rss_mb, pss_mb = (int(memory[name].split()[0]) * 1024 / 1e6 for name in ("Rss", "Pss"))
    handles = sum(1 for _ in (place / "fd").iterdir())
    return Sample(now_s - started_s, rss_mb, pss_mb, int(status["Threads"]), handles)


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Returns the median of the slopes between all pairs: what comes and goes does not move it, what stays does.

    Source: Sen 1968, Estimates of the regression coefficient based on Kendall's tau.
    """
    step = -(-len(times) // _MOST_SAMPLES) or 1
    points = list(zip(times, values, strict=True))[::step]
    slopes = []
    for (time_1, value_1), (time_2, value_2) in itertools.combinations(points, 2):
        if time_2 > time_1:
            slopes.append((value_2 - value_1) / (time_2 - time_1))
    return statistics.median(slopes) if slopes else 0.0


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """Returns by how much each quantity of `LIMITS` rises over the second half of the time."""
    end_s = samples[-1].time_s
    late = [dataclasses.asdict(sample) for sample in samples if sample.time_s >= end_s / 2]
    times = [sample["time_s"] for sample in late]
    rises = {}
    for name in LIMITS:
        rises[name] = slope(times, [sample[name] for sample in late]) * (times[-1] - times[0])
    return rises

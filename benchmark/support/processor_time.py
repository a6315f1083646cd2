"""Who keeps the cores busy while something is measured: the time that processes have run, from Linux's counters."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12
"""Fields of /proc/PID/stat behind the command's name, which may hold spaces. Source: man 5 proc_pid_stat, 14 and 15."""


def processor_s(pid: int) -> float:
    """Returns the seconds that all threads of a process have run so far, its ended threads' included.

    Raises:
        FileNotFoundError: If the process has ended.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) * _TICK_S


def machine_s() -> float:
    """Returns the seconds that all cores have run anything so far, waiting for disks not included."""
    user, nice, system, _idle, _waiting, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) * _TICK_S


@dataclass(frozen=True)
class Ledger:
    """What was running in some time.

    Attributes:
        cores: How many cores each process kept busy, by its name.
        others: The same of all else on the machine, the kernel's own work for no process among it.
    """

    cores: dict[str, float]
    others: float


class Watch:
    """Begins a ledger when it is made."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        """Args: processes: their names and numbers."""
        self._processes = dict(processes)
        self._before = self._now()
        self._started_s = time.perf_counter()

    def _now(self) -> dict[str, float]:
        return {name: processor_s(pid) for name, pid in self._processes.items()} | {"": machine_s()}

    def ledger(self) -> Ledger:
        """Returns what was running since then.

        Raises:
            FileNotFoundError: If one of the processes has ended.
        """
        seconds = time.perf_counter() - self._started_s
        now = self._now()
        cores = {name: (now[name] - before) / seconds for name, before in self._before.items()}
        everything = cores.pop("")
        return Ledger(cores, max(0.0, everything - sum(cores.values())))

"""Owns: who keeps the cores busy while something is measured. Leaves to others: what is measured then."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

import pytest

from benchmark.support.processor_time import Watch, machine_s, processor_s

BURNT_S = 0.3
TICKS = 2 / os.sysconf("SC_CLK_TCK")


def own_s():
    """By another call of the system than /proc."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def work(seconds):
    until = own_s() + seconds
    while own_s() < until:
        pass


def test_a_process_has_run_as_long_as_the_system_says():
    before = own_s()

    found = processor_s(os.getpid())

    assert before - TICKS <= found <= own_s() + TICKS


def test_who_works_has_cores_and_who_waits_has_none():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
        watch = Watch({"working": os.getpid(), "waiting": waiting.pid})
        work(0.3)
        ledger = watch.ledger()
        waiting.communicate(b"\n")

    assert set(ledger.cores) == {"working", "waiting"}
    assert ledger.cores["waiting"] < ledger.cores["working"]


def test_what_is_not_watched_is_all_else_and_idle_cores_are_nobodys():
    began_s = time.perf_counter()
    watch = Watch({})
    before_s = machine_s()
    burning = f"import time\nwhile time.process_time() < {BURNT_S}: pass"
    subprocess.run([sys.executable, "-c", burning], check=True)
    seconds = time.perf_counter() - began_s
    ledger = watch.ledger()

    assert ledger.others * seconds * 1.05 >= BURNT_S - 2 * TICKS
    assert machine_s() - before_s <= (os.cpu_count() or 1) * (time.perf_counter() - began_s) * 1.1 + TICKS


def test_a_process_that_has_ended_is_told():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        watch = Watch({"short": process.pid})

    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        watch.ledger()

"""Owns: the background thread: never waited for, fair, ended in time, its defects seen."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref

import pytest

from cnn_perception.background.worker import BackgroundWorker

TIMEOUT_S = 60.0


class Bench:
    """Work that waits at its first item until it is released, and remembers what it did."""

    def __init__(self):
        self.done, self.failures, self.finished = [], [], 0
        self.begun, self.released = threading.Event(), threading.Event()
        self.worker = BackgroundWorker("bench", self.work, self.failures.append, self.finish)

    def work(self, item):
        self.begun.set()
        assert self.released.wait(TIMEOUT_S)
        self.done.append(item)
        if item == "defect":
            raise ZeroDivisionError("as planned")

    def finish(self):
        self.finished += 1

    def occupy(self):
        assert self.worker.offer("x", "first")
        assert self.begun.wait(TIMEOUT_S)


def test_an_offer_does_not_wait_for_the_work():
    bench = Bench()
    bench.occupy()

    assert bench.worker.offer("x", "second")  # the work is stuck, this line is reached
    assert bench.done == []

    bench.released.set()
    assert bench.worker.close(TIMEOUT_S)
    assert bench.done == ["first", "second"]


def test_what_comes_before_the_first_item_is_done_in_the_thread_and_its_defect_is_told():
    done, failures = [], []

    def begin():
        done.append(threading.current_thread().name)

    worker = BackgroundWorker("bench", done.append, failures.append, begin=begin)
    worker.offer("x", 1)
    assert worker.close(TIMEOUT_S)
    assert (done, failures) == (["bench", 1], [])

    worker = BackgroundWorker("bench", done.append, failures.append, begin=lambda: [][0])
    assert worker.close(TIMEOUT_S)
    assert [type(failure) for failure in failures] == [IndexError]
    assert not worker.offer("x", 2)


def test_a_thread_that_hangs_before_the_first_item_or_at_one_is_told_from_each_other(monkeypatch):
    monkeypatch.setattr("cnn_perception.background.worker._OVERDUE_S", 0.0)
    begun, let_begin, working, let_work = (threading.Event() for _ in range(4))

    def begin():
        begun.set()
        assert let_begin.wait(TIMEOUT_S)

    def work(_item):
        working.set()
        assert let_work.wait(TIMEOUT_S)

    worker = BackgroundWorker("bench", work, [].append, begin=begin)
    assert begun.wait(TIMEOUT_S)
    assert worker.overdue() == "starting for 0 s"
    worker.offer("x", 1)
    let_begin.set()
    assert working.wait(TIMEOUT_S)
    assert worker.overdue() == "at one frame for 0 s"
    let_work.set()
    assert worker.close(TIMEOUT_S)
    assert worker.overdue() == ""


def test_the_newest_of_each_camera_wins_and_the_cameras_take_turns():
    bench = Bench()
    bench.occupy()
    accepted = [bench.worker.offer(item[0], item) for item in ("a1", "b1", "a2", "c1", "a3")]

    bench.released.set()
    assert bench.worker.close(TIMEOUT_S)

    assert accepted == [True, True, False, True, False]
    assert bench.done == ["first", "a3", "b1", "c1"]
    assert bench.worker.overtaken == 2


def test_while_the_thread_rests_newer_items_overtake_and_closing_ends_the_rest():
    took, rests = [], threading.Event()

    def rest_s(seconds: float, on_core_s: float) -> float:
        took.append((seconds, on_core_s))
        rests.set()
        return 3600.0

    done: list[str] = []
    worker = BackgroundWorker("bench", done.append, pytest.fail, rest_s=rest_s)
    assert worker.offer("x", "first")
    assert rests.wait(TIMEOUT_S)
    assert worker.offer("x", "second")
    assert not worker.offer("x", "third")
    assert done == ["first"]
    assert worker.close(TIMEOUT_S)
    assert (done, worker.overtaken) == (["first", "third"], 1)
    assert all(0 <= seconds < TIMEOUT_S and 0 <= on_core_s < TIMEOUT_S for seconds, on_core_s in took)


def test_closing_finishes_what_was_offered_and_refuses_the_rest():
    bench = Bench()
    bench.released.set()
    assert bench.worker.offer("x", 1)

    assert bench.worker.close(TIMEOUT_S)
    assert (bench.done, bench.finished) == ([1], 1)
    assert not bench.worker.offer("x", 2)
    assert bench.worker.close(TIMEOUT_S)
    assert (bench.done, bench.finished) == ([1], 1)


def test_closing_does_not_wait_longer_than_told_and_abandons_what_was_not_begun():
    bench = Bench()
    bench.occupy()
    bench.worker.offer("x", "second")

    assert not bench.worker.close(0.05)

    bench.released.set()
    assert bench.worker.close(TIMEOUT_S)
    assert (bench.done, bench.finished) == (["first"], 1)


def test_a_defect_ends_the_thread_and_is_kept_and_told():
    bench = Bench()
    bench.occupy()
    bench.worker.offer("x", "defect")
    bench.worker.offer("y", "behind it")
    bench.released.set()

    assert bench.worker.close(TIMEOUT_S)

    assert bench.done == ["first", "defect"]
    assert [str(error) for error in bench.failures] == ["as planned"]
    assert bench.worker.failure is bench.failures[0]
    assert not bench.worker.offer("x", "later")
    assert bench.finished == 0


def test_an_item_is_gone_when_its_work_is_done():
    class Item:
        pass

    done = threading.Event()
    worker = BackgroundWorker("bench", lambda item: weakref.finalize(item, done.set), pytest.fail)
    worker.offer("x", Item())
    assert done.wait(TIMEOUT_S)  # the thread waits for the next one meanwhile
    assert worker.close(TIMEOUT_S)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_only_the_thread_beside_the_line_has_a_low_priority():
    ours, its = os.getpriority(os.PRIO_PROCESS, 0), []
    worker = BackgroundWorker("bench", lambda _: its.append(os.getpriority(os.PRIO_PROCESS, 0)), lambda _: None)
    worker.offer("x", 1)
    assert worker.close(TIMEOUT_S)

    assert its == [min(ours + 10, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == ours


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has threads that run when nobody else wants the core")
def test_only_the_thread_that_may_be_kept_waiting_runs_when_a_core_is_idle_alone():
    its = []
    worker = BackgroundWorker(
        "bench", lambda _: its.append(os.sched_getscheduler(0)), lambda _: None, only_when_idle=True
    )
    worker.offer("x", 1)
    assert worker.close(TIMEOUT_S)

    assert its == [os.SCHED_IDLE]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_process_ends_although_the_work_hangs():
    code = (
        "import threading, time\n"
        "from cnn_perception.background.worker import BackgroundWorker\n"
        "begun = threading.Event()\n"
        "worker = BackgroundWorker('bench', lambda _: (begun.set(), time.sleep(600)), lambda error: None)\n"
        "worker.offer('x', 1); begun.wait()\n"
        "print(worker.close(0.1))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)

    assert (done.stdout, done.stderr) == ("False\n", "")

"""Owns: off which cores the thread that runs a model keeps. Oracle: what the operating system says."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import onnxruntime
import pytest
from tiny_model import write_tiny_model

from cnn_perception.model.cores import avoid_bound_cores

TIMEOUT_S = 60.0
CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="needs Linux and two cores")


def thread_ids() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


@contextmanager
def thread_bound_to(cores: set[int]) -> Iterator[None]:
    """A thread of this process that is bound to these cores for the length of a block."""
    is_bound, is_over = threading.Event(), threading.Event()

    def wait() -> None:
        os.sched_setaffinity(0, cores)
        is_bound.set()
        is_over.wait(TIMEOUT_S)

    thread = threading.Thread(target=wait)
    thread.start()
    assert is_bound.wait(TIMEOUT_S)
    yield
    is_over.set()
    thread.join(TIMEOUT_S)


def cores_after(call: Callable[[], None]) -> set[int]:
    """Where a thread may run that has made a call."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call).result(TIMEOUT_S)
        return pool.submit(os.sched_getaffinity, 0).result(TIMEOUT_S)


def test_thread_keeps_off_the_cores_of_bound_threads_and_leaves_all_others_where_they_are():
    before = os.sched_getaffinity(0)
    with thread_bound_to({CORES[-1]}):
        assert cores_after(avoid_bound_cores) == set(CORES[:-1])
    assert os.sched_getaffinity(0) == before


def test_thread_may_run_anywhere_where_nobody_is_bound_or_everybody():
    assert cores_after(avoid_bound_cores) == set(CORES)
    with thread_bound_to({CORES[0]}), thread_bound_to(set(CORES[1:])):
        assert cores_after(avoid_bound_cores) == set(CORES)


def test_thread_that_runs_a_model_with_a_thread_a_core_shares_none_with_the_pool(tmp_path: Path):
    write_tiny_model(tmp_path / "model.onnx")
    threads = thread_ids()
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    pool = {core for one in thread_ids() - threads for core in os.sched_getaffinity(one)}
    if not pool or pool == set(CORES):
        pytest.skip("this ONNX Runtime binds no thread here")
    assert not cores_after(avoid_bound_cores) & pool
    del session

"""Owns: off which cores the thread that runs a model keeps. Oracle: what the operating system says.

Each test has a process of its own: what other tests have loaded binds threads, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

TIMEOUT_S = 60.0
CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="needs Linux and two cores")

BEGINNING = """
import json, os, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from cnn_perception.model.cores import avoid_bound_cores

over = threading.Event()

def bind(cores):
    bound = threading.Event()
    def wait():
        os.sched_setaffinity(0, cores)
        bound.set()
        over.wait()
    threading.Thread(target=wait, daemon=True).start()
    bound.wait()

def cores_of_other_threads():
    ours = threading.get_native_id()
    others = [int(path.name) for path in Path("/proc/self/task").iterdir() if int(path.name) != ours]
    return [os.sched_getaffinity(one) for one in others]

def tell(others=()):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(avoid_bound_cores).result()
        free = pool.submit(os.sched_getaffinity, 0).result()
    print(json.dumps([sorted(free), sorted(os.sched_getaffinity(0)), sorted(set().union(*others))]))
"""


def told(code: str) -> list[list[int]]:
    """Cores of the thread that keeps off, of the first thread, and of `others`, as a new process tells them."""
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + code], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    found: list[list[int]] = json.loads(done.stdout)
    return found


def test_thread_keeps_off_the_cores_of_bound_threads_and_leaves_all_others_where_they_are():
    free, first, _ = told(f"bind({{{CORES[-1]}}}); tell()")
    assert (free, first) == (CORES[:-1], CORES)


@pytest.mark.parametrize("code", ["tell()", f"bind({set(CORES[:1])}); bind({set(CORES[1:])}); tell()"])
def test_thread_may_run_anywhere_where_nobody_is_bound_or_no_core_would_be_left(code: str):
    free, _, _ = told(code)
    assert free == CORES


def test_thread_that_runs_a_model_with_a_thread_a_core_shares_none_with_the_pool(tmp_path: Path):
    write_tiny_model(tmp_path / "model.onnx")
    free, _, pool = told(
        "import onnxruntime\n"
        f"file = {str(tmp_path / 'model.onnx')!r}\n"
        "session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])\n"
        "tell([cores for cores in cores_of_other_threads() if cores < os.sched_getaffinity(0)])"
    )
    if not pool:
        pytest.skip("this ONNX Runtime binds no thread here")
    assert not set(free) & set(pool)

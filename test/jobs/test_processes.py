"""Owns: that work on many items is done in processes, and that one that fails or dies costs its item only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from job_works import count_others, crash_at_exit, obey, square, wait_for_file
from paths import ROOT

from cnn_perception.jobs.processes import Processes


def pids_of(folder: Path, word: str) -> list[str]:
    return (folder / word).read_text().split()


def test_every_item_is_done_once_each_in_a_process_of_its_own(tmp_path):
    assert {one.index: one.result for one in Processes(square, range(5), 2).outcomes()} == dict(
        enumerate((0, 1, 4, 9, 16))
    )

    list(Processes(obey, [("note", str(tmp_path))] * 3, 1).outcomes())

    assert len({*pids_of(tmp_path, "note"), str(os.getpid())}) == 4


def test_what_finds_no_memory_fails_or_dies_costs_itself_and_is_tried_once_more_at_the_end(tmp_path):
    said: list[tuple[int, str]] = []
    words = ("no memory", "fail", "die", "die once", "fine")
    processes = Processes(obey, [(word, str(tmp_path)) for word in words], 2, lambda *line: said.append(line))

    found = {words[one.index]: one for one in processes.outcomes()}

    assert {word: one.result for word, one in found.items() if one.result} == {"die once": "die once", "fine": "fine"}
    assert {word: one.attempts for word, one in found.items()} == dict.fromkeys(words, 2) | {"fine": 1}
    assert {word: len(pids_of(tmp_path, word)) for word in words} == dict.fromkeys(words, 2) | {"fine": 1}
    assert found["no memory"].failure == "this finds no memory"
    assert found["fail"].failure == "its process ended with exit code 1: KeyError: 'what'"
    assert "was killed (SIGKILL)" in found["die"].failure
    begun = [index for index, text in said if text == "begins"]
    again = [index for index, text in said if text == "is tried once more"]
    assert (begun, sorted(again)) == ([0, 1, 2, 3, 4], [0, 1, 2, 3])
    assert said.index((4, "begins")) < min(said.index((index, "is tried once more")) for index in again)


def test_bad_input_is_not_tried_again(tmp_path):
    (one,) = Processes(obey, [("refuse", str(tmp_path))], 1).outcomes()

    assert (one.failure, one.attempts, len(pids_of(tmp_path, "refuse"))) == ("this cannot be used", 1, 1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_so_many_are_under_way_at_once(tmp_path, jobs):
    there = [one.result for one in Processes(count_others, [str(tmp_path)] * 4, jobs).outcomes()]

    assert max(there) == jobs


def test_of_work_that_takes_long_it_is_said_that_it_goes_on(tmp_path):
    def tell(_index: int, text: str) -> None:
        if text.startswith("at work for"):
            (tmp_path / "told").touch()

    (one,) = Processes(wait_for_file, [str(tmp_path / "told")], 1, tell, pulse_s=0.01).outcomes()

    assert one.result == "it came"


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from job_works import wait_for_interruption
from cnn_perception.jobs.processes import Processes
processes = Processes(wait_for_interruption, [sys.argv[1]] * 3, 2)
for one in processes.outcomes():
    print(one.index, one.result, one.failure, sep=",", flush=True)
print(processes.interrupted)
"""


def waiting_program(folder: Path) -> subprocess.Popen[str]:
    """A program with three items, of which two are at work when it is returned."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)}
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(folder)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(list(folder.iterdir())) < 2:
        assert program.poll() is None
        time.sleep(0.02)
    return program


def test_ctrl_c_ends_all_and_takes_what_was_done(tmp_path):
    with waiting_program(tmp_path) as program:
        os.killpg(program.pid, signal.SIGINT)
        said, _ = program.communicate(timeout=60)

    lines = said.splitlines()
    assert sorted(lines[:2]) == ["0,as far as I came,", "1,as far as I came,"]
    assert lines[2:] == ["2,None,interrupted before it was done", "True"]


def test_processes_end_with_the_one_that_waits_for_them(tmp_path):
    with waiting_program(tmp_path) as program:
        program.kill()

    pids = [int(path.name) for path in tmp_path.iterdir()]
    ends_s = time.monotonic() + 30
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_result_counts_whatever_becomes_of_its_process_afterwards():
    (one,) = Processes(crash_at_exit, [7], 1).outcomes()

    assert (one.result, one.attempts) == (7, 1)


def test_a_large_result_comes_back_whole():
    (one,) = Processes(bytes, [3_000_000], 1).outcomes()

    assert Counter(one.result or b"") == {0: 3_000_000}

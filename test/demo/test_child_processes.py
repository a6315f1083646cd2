"""Owns: programs that the demo starts and waits for: what becomes of one that says nothing, ends, or does not end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnn_perception.errors import ConfigError
from demo import processes, scripted_person, served_dashboard
from demo.processes import announcing, end
from demo.scripted_person import serving
from demo.served_dashboard import serving_dashboard

ADDRESS = "http://127.0.0.1:7/?token"
SILENT = "import signal; signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
"""Ctrl-C does not end it."""


def command(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def wait_for(happened: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + 60.0
    while not happened():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[Any]]:
    """The processes that the test has started."""
    found: list[subprocess.Popen[Any]] = []

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            found.append(self)

    monkeypatch.setattr(processes.subprocess, "Popen", Noted)
    return found


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("code", [SILENT, STUBBORN + SILENT])
def test_a_program_that_says_no_address_is_ended_and_told_after_the_time_it_may_take(
    started: list[subprocess.Popen[Any]], monkeypatch: pytest.MonkeyPatch, stream: Any, code: str
):
    monkeypatch.setattr(processes, "_END_S", 0.5)
    told = "a_program has said no address within 0.2 s; .* start it by itself"
    with (
        pytest.raises(ConfigError, match=told),
        announcing("a_program", command(code), os.environ, stream, "(http.*)", 0.2),
    ):
        pytest.fail("there is no address")
    assert [process.returncode is None for process in started] == [False]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_program_that_ends_before_it_says_an_address_is_told_at_once(stream: Any):
    code = f"import sys; print('no address', file=sys.{stream})"
    with (
        pytest.raises(ConfigError, match="a_program has ended before it said an address"),
        announcing("a_program", command(code), os.environ, stream, "(http.*)", 600.0),
    ):
        pytest.fail("there is no address")


@pytest.mark.usefixtures("listens_to_ctrl_c")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_program_that_says_more_than_a_pipe_holds_is_not_held_up_and_ended_by_ctrl_c(
    started: list[subprocess.Popen[Any]], tmp_path: Path, stream: Any
):
    code = (
        f"import pathlib, sys\nprint('serving {ADDRESS}', file=sys.{stream}, flush=True)\n"
        f"for _ in range(20_000): print('x' * 100, file=sys.{stream})\n"
        f"sys.{stream}.flush(); pathlib.Path(sys.argv[1]).touch()\n{SILENT}"
    )
    arguments = command(code, str(tmp_path / "done"))
    with announcing("a_program", arguments, os.environ, stream, r"serving (\S+)") as address:
        assert address == ADDRESS
        wait_for((tmp_path / "done").exists)
    assert [process.returncode for process in started] == [-signal.SIGINT]


def test_a_dashboard_that_hangs_and_a_page_of_labels_that_does_are_told(
    started: list[subprocess.Popen[Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    pytest.importorskip("rclpy", reason="needs ROS 2")
    monkeypatch.setattr(served_dashboard, "node_command", lambda *_: [*command(SILENT), "--log-level", "warn"])
    monkeypatch.setattr(scripted_person, "module_command", lambda *_: command(SILENT))
    with pytest.raises(ConfigError, match=r"^dashboard_node has said no address within 0\.1 s"), serving_dashboard(0.1):
        pytest.fail("there is no address")
    with pytest.raises(ConfigError, match=r"training\.label .*labels\.csv has said no address within 0\.1 s"):
        serving(tmp_path / "labels.csv", start_s=0.1).__enter__()
    assert [process.returncode is None for process in started] == [False, False]


def test_a_program_that_does_not_end_by_ctrl_c_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "_END_S", 0.2)
    code = STUBBORN + "print('ready', flush=True)\n" + SILENT
    with subprocess.Popen(command(code), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        end(process)
        assert process.returncode == -signal.SIGKILL

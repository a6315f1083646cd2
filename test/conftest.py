"""What the tests of a running perception_node share: a domain and a participant for each module.

A module with a fixture `node` gets by `ros` somebody to talk to it, who has forgotten the test before.
"""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ros import Participant, Process


# On a robot the tests of its side run, and what is left out is said: here, and file by file where others need training.
collect_ignore = [] if importlib.util.find_spec("torch") else ["training"]
os.environ["CNN_PERCEPTION_CACHE"] = ""  # no test finds what another one has left on this machine
os.environ["HF_HUB_CACHE"] = os.devnull  # nor weights that timm has downloaded


def pytest_report_header() -> str:
    return "test/training is left out: torch is not installed" if collect_ignore else ""


class FailuresAtOnce:
    """Names a failed test when it fails: who waits for the end of the run, or stops it, has seen which."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_line(f"\n{report.when} failed: {report.nodeid}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if terminal := config.pluginmanager.get_plugin("terminalreporter"):
        config.pluginmanager.register(FailuresAtOnce(terminal))


@pytest.fixture(scope="module")
def domain() -> int:
    from ros import new_domain  # not there without ROS, whose tests are then skipped

    return new_domain()


@pytest.fixture(scope="module")
def talker(domain: int) -> Iterator[Participant]:
    from ros import participant

    with participant(domain) as one:
        yield one


@pytest.fixture
def ros(talker: Participant, node: Process) -> Iterator[Participant]:
    if node.module == "perception_node":  # which answers before it is active
        from perception import wait_until

        wait_until(talker, "active")
    yield talker
    talker.forget()


@pytest.fixture
def listens_to_ctrl_c():
    """What a shell starts in the background inherits that Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

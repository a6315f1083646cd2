"""Owns: work that ends when its time is up. Leaves to others: what is left of it (test_auto_command)."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from training.auto.budget import Budget, TimeUp, at_most
from training.loop.interrupt import Interrupt, Interrupted

pytestmark = pytest.mark.usefixtures("listens_to_ctrl_c")


def wait_for_ever():
    threading.Event().wait()


def test_work_is_ended_when_its_time_is_up_and_the_signals_are_as_before():
    before = signal.getsignal(signal.SIGALRM)

    with pytest.raises(TimeUp), at_most(0.05):
        wait_for_ever()

    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_work_is_ended_where_a_shell_has_ctrl_c_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    with pytest.raises(TimeUp), at_most(0.05):
        wait_for_ever()


def test_training_is_asked_to_end_between_two_steps_as_by_ctrl_c():
    steps = []

    def train():
        while True:
            time.sleep(0.005)
            steps.append("whole")
            try:
                interrupt.check()
            except Interrupted:
                raise KeyboardInterrupt from None

    with pytest.raises(TimeUp), at_most(0.05), Interrupt() as interrupt:
        train()

    assert steps


def test_a_real_ctrl_c_stays_one():
    with pytest.raises(KeyboardInterrupt), at_most(60.0):
        signal.raise_signal(signal.SIGINT)


def test_work_that_is_done_in_time_is_left_alone():
    with at_most(60.0):
        done = True

    assert done


@pytest.mark.parametrize("seconds", [0.0, -3.0])
def test_without_time_nothing_is_begun(seconds):
    with pytest.raises(TimeUp), at_most(seconds):
        raise AssertionError


def test_what_is_left_is_what_is_not_used():
    budget = Budget(60.0, time.monotonic() - 20.0)

    assert budget.used_s == pytest.approx(20.0, abs=1.0)
    assert budget.left_s == pytest.approx(40.0, abs=1.0)

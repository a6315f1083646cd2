"""Owns: when a silence is too long. Time is what the test says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cnn_perception.ros.heartbeat import Heartbeat


def test_silence_is_too_long_above_the_limit_and_begins_anew_with_every_beat():
    heartbeat = Heartbeat("no news", 1.0)
    beat = heartbeat.after(lambda: None)
    assert [heartbeat.watch(0.4) for _ in range(3)] == [False, False, True]
    beat()
    assert [heartbeat.watch(0.4) for _ in range(4)] == [False, False, False, True]


def test_pause_of_the_whole_process_is_no_silence():
    heartbeat = Heartbeat("no news", 1.0)
    assert not heartbeat.watch(3600.0)


def test_beat_is_expected_only_within_the_work_where_it_says_so():
    heartbeat = Heartbeat("no news", 1.0)
    found: list[bool] = []
    work = heartbeat.only_within(lambda: found.extend(heartbeat.watch(0.4) for _ in range(4)))
    assert not any(heartbeat.watch(0.4) for _ in range(9))
    work()
    assert found == [False, False, True, True]
    assert not any(heartbeat.watch(0.4) for _ in range(9))


@pytest.mark.parametrize("kind", [Heartbeat.after, Heartbeat.only_within])
def test_work_that_raises_does_not_beat(kind: Callable[[Heartbeat, Callable[[], None]], Callable[[], None]]):
    heartbeat = Heartbeat("no news", 1.0)

    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        kind(heartbeat, broken)()
    assert [heartbeat.watch(0.5) for _ in range(3)] == [False, False, True]

"""Owns: the three stages of a running node: order, overlap, newest first. No clock decides a test."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest

from cnn_perception.perception_node import staged_executor
from cnn_perception.perception_node.staged_executor import StagedExecutor

TIMEOUT_S = 60.0


class Feed:
    """A source of numbers whose newest wins."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: int | None = None
        self._closed = False

    def put(self, item: int) -> None:
        with self._changed:
            self._item = item
            self._changed.notify()

    def wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            return not self._closed

    def take(self) -> int | None:
        with self._changed:
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()


def unexpected(error: BaseException) -> None:
    raise error  # in its thread, which pytest sees


def test_every_frame_goes_through_all_stages_in_order():
    feed = Feed()
    delivered: list[int] = []
    arrived = threading.Semaphore(0)

    def deliver(value: int) -> None:
        delivered.append(value)
        arrived.release()

    executor = StagedExecutor(feed, lambda v: v * 10, lambda v: v + 1, deliver, unexpected)
    for value in range(50):
        feed.put(value)
        assert arrived.acquire(timeout=TIMEOUT_S)
    feed.close()
    executor.join()
    assert delivered == [v * 10 + 1 for v in range(50)]


def test_next_frame_is_prepared_and_the_last_delivered_during_an_inference():
    """Three frames in three stages at once: the barrier of three breaks unless all stages overlap."""
    feed = Feed()
    inferring, prepared_second, delivered = threading.Event(), threading.Event(), threading.Event()

    def prepare(value: int) -> int:
        if value == 2:
            prepared_second.set()
        return value

    def infer(value: int) -> int:
        if value == 1:
            inferring.set()
            assert prepared_second.wait(TIMEOUT_S), "the second frame was not prepared during the first's inference"
        return value

    executor = StagedExecutor(feed, prepare, infer, lambda value: delivered.set() if value == 2 else None, unexpected)
    feed.put(1)
    assert inferring.wait(TIMEOUT_S)
    feed.put(2)
    assert delivered.wait(TIMEOUT_S)
    feed.close()
    executor.join()


def test_one_frame_at_a_time_is_inferred_and_slow_delivery_keeps_the_order():
    feed = Feed()
    under_way, most = [0], [0]
    delivered: list[int] = []
    second_inferred, both = threading.Event(), threading.Event()

    def infer(value: int) -> int:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        under_way[0] -= 1
        if value == 2:
            second_inferred.set()
        return value

    def deliver(value: int) -> None:
        if value == 1:
            feed.put(2)
            assert second_inferred.wait(TIMEOUT_S), "a slow delivery held up the next inference"
        delivered.append(value)
        if len(delivered) == 2:
            both.set()

    executor = StagedExecutor(feed, lambda v: v, infer, deliver, unexpected)
    feed.put(1)
    assert both.wait(TIMEOUT_S)
    feed.close()
    executor.join()
    assert delivered == [1, 2]
    assert most == [1]


def test_dropped_frames_do_not_stop_the_threads():
    feed = Feed()
    seen, arrived = threading.Semaphore(0), threading.Event()

    def prepare(value: int) -> int | None:
        seen.release()
        return None if value == 1 else value

    def infer(value: int) -> int | None:
        return None if value == 2 else value

    executor = StagedExecutor(feed, prepare, infer, lambda value: arrived.set(), unexpected)
    for value in (1, 2, 3):
        feed.put(value)
        assert seen.acquire(timeout=TIMEOUT_S)
    assert arrived.wait(TIMEOUT_S)
    feed.close()
    executor.join()


def test_closing_the_feed_ends_idle_threads():
    feed = Feed()
    executor = StagedExecutor(feed, lambda v: v, lambda v: v, lambda v: None, unexpected)
    feed.close()
    executor.join()


class BrokenFeed(Feed):
    """A source that fails at what is named."""

    def __init__(self, broken: str) -> None:
        super().__init__()
        self._broken = broken

    def wait(self) -> bool:
        if self._broken == "wait":
            raise RuntimeError("wait")
        return super().wait()

    def take(self) -> int | None:
        if self._broken == "take":
            raise RuntimeError("take")
        return super().take()


@pytest.mark.parametrize("broken", ["wait", "take", "prepare", "infer", "deliver"])
def test_defect_is_told_once_and_ends_the_threads_when_the_source_is_closed(broken: str):
    def stage(name: str):
        def work(value: int) -> int:
            if name == broken:
                raise RuntimeError(name)
            feed.put(value + 1)
            return value

        return work

    told: list[str] = []
    has_told = threading.Event()

    def on_failure(error: BaseException) -> None:
        told.append(str(error))
        has_told.set()

    feed = BrokenFeed(broken)
    executor = StagedExecutor(feed, stage("prepare"), stage("infer"), stage("deliver"), on_failure)
    feed.put(1)
    assert has_told.wait(TIMEOUT_S)
    feed.close()
    ended = threading.Thread(target=executor.join, daemon=True)
    ended.start()
    ended.join(TIMEOUT_S)
    assert not ended.is_alive()
    assert told == [broken]


@pytest.mark.parametrize(
    ("broken", "said"),
    [("take", "preparation"), ("prepare", "preparation"), ("infer", "inference"), ("deliver", "delivery")],
)
def test_stage_that_hangs_is_named_with_its_time(broken: str, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(staged_executor, "_STALL_S", 0.0)
    reached, released = threading.Event(), threading.Event()

    def hang(value: int) -> int:
        reached.set()
        assert released.wait(TIMEOUT_S)
        return value

    def stage(name: str) -> Callable[[int], int]:
        return hang if name == broken else lambda value: value

    feed = Feed()
    if broken == "take":
        feed.take = lambda: hang(1)  # type: ignore[method-assign]
    executor = StagedExecutor(feed, stage("prepare"), stage("infer"), stage("deliver"), unexpected)
    feed.put(1)
    assert reached.wait(TIMEOUT_S)
    text = executor.stalled()
    assert re.fullmatch(rf"{said} of a frame for \d+\.\d s", text)
    feed.close()
    released.set()
    executor.join()
    assert executor.stalled() == ""


def test_slow_stage_is_allowed_some_times_its_usual_duration(monkeypatch: pytest.MonkeyPatch):
    now_s = [0.0]
    monkeypatch.setattr(staged_executor.time, "perf_counter", lambda: now_s[0])
    stopwatch = staged_executor._Stopwatch()
    for _ in range(100):  # until the mean is 3 s
        stopwatch.start()
        now_s[0] += 3.0
        stopwatch.stop(counts=True)
    stopwatch.start()
    now_s[0] += 15.5
    assert stopwatch.stalled_s() == 0.0
    now_s[0] += 1.0
    assert stopwatch.stalled_s() == pytest.approx(16.5)

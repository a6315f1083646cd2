"""Owns: what viewers get: the newest frames, in their own time, and nothing after a change of the node. No ROS.

Leaves to others: what is made of a frame (test_publishers), the thread (test_worker), real nodes (test_node_viewers).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from cnn_perception.background.viewers import Viewers
from cnn_perception.background.worker import BackgroundWorker
from cnn_perception.errors import FrameError, PerceptionError

TIMEOUT_S = 60.0
KINDS = ("overlay", "score map")


class StubViews:
    """Makes frames of the kinds in `blocked` only once they are released; remembers what came of them."""

    kinds = (*KINDS, "neighbours")
    heavy_kinds = ("score map",)
    unlimited_kinds = ("neighbours",)

    def __init__(self) -> None:
        self.begun = {kind: threading.Event() for kind in self.kinds}
        self.released = {kind: threading.Event() for kind in self.kinds}
        self.blocked: set[str] = set()
        self.made: list[tuple[str, str]] = []
        self.published: list[str] = []
        self.refused: list[tuple[str, str, str]] = []
        self.old: set[str] = set()
        self.unusable: dict[str, BaseException] = {}
        self.has_published = threading.Event()
        self.meanwhile: Any = None
        self.scheduled: dict[str, Any] = {}  # policy and niceness of the thread that makes a kind

    def make(self, kind: str, frame: str) -> str:
        if sys.platform == "linux":
            self.scheduled[kind] = (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))
        self.begun[kind].set()
        if kind in self.blocked:
            assert self.released[kind].wait(TIMEOUT_S)
        self.made.append((kind, frame))
        if frame in self.unusable:
            raise self.unusable[frame]
        return f"{kind} of {frame}"

    def is_too_old(self, frame: str) -> bool:
        return frame in self.old

    def publish(self, frame: str, made: str) -> None:
        if self.meanwhile is not None:
            self.meanwhile()
        self.published.append(made)
        self.has_published.set()

    def refuse(self, kind: str, frame: str, error: PerceptionError) -> None:
        self.refused.append((kind, frame, str(error)))


class Bench:
    def __init__(self) -> None:
        self.views = StubViews()
        self.failures: list[BaseException] = []
        self.has_failed = threading.Event()
        self.viewers: Viewers[str, str] = Viewers(self.views, self._fail)

    def _fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self.has_failed.set()

    def offer(self, *frames: str, kinds: Any = KINDS, camera: str = "front") -> None:
        for frame in frames:
            self.viewers.offer(kinds, camera, frame)

    def block(self, kind: str, frame: str) -> None:
        """Has a kind at work on a frame until it is released."""
        self.views.blocked.add(kind)
        self.offer(frame, kinds=[kind])
        assert self.views.begun[kind].wait(TIMEOUT_S)

    def release(self, kind: str) -> None:
        self.views.released[kind].set()

    def drain(self) -> None:
        """Waits until all that was offered is done with, published or not."""
        for worker in self.viewers._workers.values():
            assert worker.close(TIMEOUT_S)

    def counts(self, kind: str) -> dict[str, int]:
        return dict(self.viewers.report().counts[kind])


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for kind in KINDS:
        bench.release(kind)
    bench.viewers.close()


def test_everything_that_is_wanted_is_made_and_published_and_nothing_else(bench: Bench):
    bench.offer("a")
    bench.offer("b", kinds=[])
    bench.offer("c", kinds=["overlay"], camera="rear")
    bench.drain()
    assert sorted(bench.views.published) == ["overlay of a", "overlay of c", "score map of a"]
    assert bench.counts("overlay") == {"published": 2, "overtaken": 0, "too old": 0, "refused": 0}


@dataclass
class Clock:
    """Stands in for the steady clock of `Viewers.offer`; `looked_at` has the frames that it passed on."""

    now_s: float = 100.0
    looked_at: list[str] = field(default_factory=list)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now_s)
    monkeypatch.setattr(BackgroundWorker, "offer", lambda _self, _camera, one: clock.looked_at.append(one.frame))
    return clock


def test_of_a_faster_camera_only_so_many_frames_in_a_second_are_looked_at_evenly(bench: Bench, clock: Clock):
    for number in range(300):  # ten seconds of 30 Hz, with the jitter of a camera
        clock.now_s = 100 + number / 30 + (0.002 if number % 3 else -0.002)
        bench.viewers.offer(["overlay"], "front", str(number), 12.0)
    looked_at = [int(frame) for frame in clock.looked_at]
    assert len(looked_at) in (119, 120, 121)
    assert set(np.diff(looked_at)) <= {2, 3}  # 30 / 12 is 2.5


def test_limit_counts_for_each_camera_and_nothing_is_made_up_for(bench: Bench, clock: Clock):
    for clock.now_s, camera, frame in (
        (100.0, "front", "first"),
        (100.0, "rear", "of the other"),
        (100.05, "front", "too early"),
        (160.0, "front", "after a pause"),
        (160.05, "front", "too early again"),
        (160.11, "front", "due"),
    ):
        bench.viewers.offer(["overlay"], camera, frame, 10.0)
    bench.viewers.offer(["overlay"], "front", "without a limit", 0.0)
    assert clock.looked_at == ["first", "of the other", "after a pause", "due", "without a limit"]


def test_limit_that_is_raised_takes_effect_at_once(bench: Bench, clock: Clock):
    bench.viewers.offer(["overlay"], "front", "a", 0.01)
    for clock.now_s, frame in ((100.1, "b"), (100.15, "c"), (100.21, "d")):
        bench.viewers.offer(["overlay"], "front", frame, 10.0)
    assert clock.looked_at == ["a", "d"]


def test_limited_kinds_are_made_of_the_same_frames_and_the_others_of_all(bench: Bench, clock: Clock):
    for frame in ("a", "b"):
        bench.viewers.offer(StubViews.kinds, "front", frame, 10.0)
    assert clock.looked_at == ["a", "a", "a", "b"]


def test_frame_of_which_only_an_unlimited_kind_is_wanted_takes_nobody_s_turn(bench: Bench, clock: Clock):
    bench.viewers.offer(["neighbours"], "front", "a", 10.0)
    bench.viewers.offer(["overlay"], "front", "b", 10.0)
    assert clock.looked_at == ["a", "b"]


@pytest.mark.parametrize(("share", "made"), [(1e-12, ["a", "c"]), (1.0, ["a", "b", "c"])], ids=["little", "all of it"])
def test_a_kind_that_runs_a_network_rests_so_that_it_takes_its_share_of_the_time(
    bench: Bench, share: float, made: list[str]
):
    for frame in ("a", "b", "c"):
        bench.views.has_published.clear()
        bench.viewers.offer(["score map"], "front", frame, max_share=share)
        if frame in made[:-1]:
            assert bench.views.has_published.wait(TIMEOUT_S)
    bench.drain()
    assert [frame for kind, frame in bench.views.made if kind == "score map"] == made


@pytest.mark.parametrize(
    ("kind", "share", "rest_s"),
    [
        ("score map", 1.0, 0.0),
        ("score map", 0.5, 2.0),
        ("score map", 0.25, 6.0),
        ("overlay", 1.0, 0.0),
        ("overlay", 0.25, 1.5),
        ("neighbours", 0.25, 0.0),
    ],
)
def test_rest_leaves_the_share_of_the_time_that_is_given(bench: Bench, kind: str, share: float, rest_s: float):
    """Of two seconds that it took, the half second that its thread was kept from a core counts for a light kind."""
    bench.viewers.offer([], "front", "a", max_share=share)
    assert bench.viewers._rest_s(kind, 2.0, 1.5) == pytest.approx(rest_s)


def test_a_thread_that_was_never_kept_from_a_core_does_not_rest(bench: Bench):
    bench.viewers.offer([], "front", "a", max_share=0.01)
    assert bench.viewers._rest_s("overlay", 2.0, 2.001) == 0.0


def test_frame_of_which_nothing_is_wanted_takes_nobody_s_turn(bench: Bench):
    bench.viewers.offer([], "front", "a", 0.001)
    bench.viewers.offer(["overlay"], "front", "b", 0.001)
    bench.drain()
    assert bench.views.published == ["overlay of b"]


def test_kind_that_takes_for_ever_holds_up_neither_who_offers_nor_the_other_kinds(bench: Bench):
    bench.block("score map", "first")
    for number in range(3):
        bench.views.has_published.clear()
        bench.offer(str(number))  # returns while the score map is stuck
        assert bench.views.has_published.wait(TIMEOUT_S)
    assert bench.views.published == ["overlay of 0", "overlay of 1", "overlay of 2"]
    assert bench.counts("score map") == {"published": 0, "overtaken": 2, "too old": 0, "refused": 0}


def test_late_kind_goes_on_with_the_newest_frame_of_each_camera_in_turn(bench: Bench):
    bench.block("score map", "first")
    for frame, camera in (("a1", "front"), ("b1", "rear"), ("a2", "front"), ("a3", "front")):
        bench.offer(frame, kinds=["score map"], camera=camera)
    bench.release("score map")
    bench.drain()
    assert [frame for _, frame in bench.views.made] == ["first", "a3", "b1"]
    assert bench.counts("score map") == {"published": 3, "overtaken": 2, "too old": 0, "refused": 0}


def test_nothing_is_published_of_what_was_offered_before_a_change_however_late_it_is_done(bench: Bench):
    bench.block("score map", "under way")
    bench.offer("waiting", kinds=["score map"])
    bench.viewers.withdraw()  # waits for neither
    bench.offer("after", kinds=["score map"], camera="rear")
    bench.release("score map")
    bench.drain()
    assert bench.views.made == [("score map", "under way"), ("score map", "after")]  # the one that waited is not begun
    assert bench.views.published == ["score map of after"]


def test_what_fails_because_of_a_change_is_no_refusal(bench: Bench):
    bench.views.unusable["under way"] = FrameError("score_map", "the run was ended")
    bench.block("score map", "under way")
    bench.viewers.withdraw()
    bench.release("score map")
    bench.drain()
    assert bench.views.refused == []


def test_change_waits_for_what_is_being_published(bench: Bench):
    publishing, goes_on, is_withdrawn = threading.Event(), threading.Event(), threading.Event()

    def publish_slowly() -> None:
        publishing.set()
        assert goes_on.wait(TIMEOUT_S)
        assert not is_withdrawn.is_set()

    bench.views.meanwhile = publish_slowly
    bench.offer("a", kinds=["overlay"])
    assert publishing.wait(TIMEOUT_S)

    def withdraw() -> None:
        bench.viewers.withdraw()
        is_withdrawn.set()

    changing = threading.Thread(target=withdraw)
    changing.start()
    goes_on.set()
    changing.join(TIMEOUT_S)
    assert is_withdrawn.is_set()
    assert (bench.views.published, bench.failures) == (["overlay of a"], [])


def test_frame_that_cannot_be_shown_is_refused_counted_and_the_next_goes_on(bench: Bench):
    bench.views.unusable["a"] = FrameError("too_large", "too many pixels")
    bench.offer("a", kinds=["overlay"])
    bench.offer("b", kinds=["overlay"], camera="rear")
    bench.drain()
    assert bench.views.refused == [("overlay", "a", "too many pixels")]
    assert bench.views.published == ["overlay of b"]
    assert bench.counts("overlay") == {"published": 1, "overtaken": 0, "too old": 0, "refused": 1}


def test_frame_that_is_or_becomes_too_old_is_not_published_but_counted(bench: Bench):
    bench.block("overlay", "becomes old")
    bench.views.old = {"becomes old", "is old"}
    bench.offer("is old", kinds=["overlay"])
    bench.release("overlay")
    bench.drain()
    assert bench.views.made == [("overlay", "becomes old")]
    assert bench.views.published == []
    assert bench.counts("overlay") == {"published": 0, "overtaken": 0, "too old": 2, "refused": 0}


@pytest.mark.parametrize("error", [ZeroDivisionError(), MemoryError(), SystemExit()], ids=repr)
def test_defect_is_told_once(bench: Bench, error: BaseException):
    bench.views.unusable["a"] = error
    bench.offer("a", kinds=["overlay"])
    assert bench.has_failed.wait(TIMEOUT_S)
    bench.offer("b", kinds=["overlay"])
    bench.viewers.close()
    assert bench.failures == [error]
    assert bench.views.published == []


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_what_runs_a_network_is_made_while_a_core_is_idle_and_all_is_published_with_the_priority_of_answers(
    bench: Bench,
):
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    publishing: list[tuple[int, int]] = []
    bench.views.meanwhile = lambda: publishing.append((os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)))
    bench.offer("a")
    bench.drain()
    assert bench.views.scheduled["score map"][0] == os.SCHED_IDLE
    assert bench.views.scheduled["overlay"] == (os.SCHED_OTHER, min(niceness + 10, 19))
    assert publishing == 2 * [(os.SCHED_OTHER, niceness)]


def test_defect_in_publishing_is_told_and_leaves_nobody_waiting(bench: Bench):
    bench.views.meanwhile = lambda: 1 / 0
    bench.offer("a")
    assert bench.has_failed.wait(TIMEOUT_S)
    bench.viewers.withdraw()
    bench.viewers.close()
    assert {type(error) for error in bench.failures} == {ZeroDivisionError}


def test_report_says_which_kind_hangs_and_waits_for_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cnn_perception.background.worker._OVERDUE_S", 0.0)
    bench.block("score map", "a")
    report = bench.viewers.report()
    assert report.problem == "score map: at one frame for 0 s"
    assert report.values()["score map: published"] == "0"
    bench.release("score map")
    bench.drain()
    assert bench.viewers.report().problem == ""


def test_close_ends_the_threads_and_publishes_nothing_any_more(bench: Bench):
    bench.block("score map", "under way")
    closing = threading.Thread(target=bench.viewers.close)
    closing.start()
    while bench.viewers._changes == 0:  # it has begun to close
        threading.Event().wait(0.001)
    bench.release("score map")
    closing.join(TIMEOUT_S)
    assert not closing.is_alive()
    assert bench.views.published == []
    bench.viewers.close()  # harmless

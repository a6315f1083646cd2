"""Runs frames through three stages at once: one is inferred while the one before is published and the next prepared.

Inference keeps the pace of the bare model only if nothing stands between two of its runs. So each of the three stages
has a thread of its own: the one that infers then stays on one core and finds the next frame lying ready. A frame is
taken as late as can be, for one prepared too early would be old when its turn comes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from cnn_perception.model.cores import avoid_bound_cores

FrameT = TypeVar("FrameT")
FrameT_co = TypeVar("FrameT_co", covariant=True)
PreparedT = TypeVar("PreparedT")
InferredT = TypeVar("InferredT")
ItemT = TypeVar("ItemT")

_SMOOTHING = 0.2
"""Share of the latest duration in the running means by which the end of an inference is foreseen."""
_LEAD = 2.0
"""How much longer than its mean a preparation is expected to take."""
_STALL_S = 1.0
"""A stage that is at one frame for longer stands still: with diagnostics at 1 Hz that is said within two seconds."""
_STALL_MEANS = 5.0
"""Of a slow model it may take so many of its usual durations more."""


class BatchSource(Protocol[FrameT_co]):
    """Where the frames come from; closing it ends the threads."""

    def wait(self) -> bool:
        """Waits until a frame is there; returns False once the source is closed."""

    def take(self) -> FrameT_co | None:
        """Returns the newest frame without waiting; None if there is none."""


class _Handoff(Generic[ItemT]):
    """Hands items from one stage to the next; at most one waits in between."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: ItemT | None = None
        self._closed = False

    def wait_empty(self) -> bool:
        """Waits until the last item was taken; returns False once this is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is None)
            return not self._closed

    def put(self, item: ItemT) -> None:
        """Leaves an item once the last was taken; nobody wants it any more if this is closed."""
        if self.wait_empty():
            with self._changed:
                self._item = item
                self._changed.notify_all()

    def take(self) -> ItemT | None:
        """Waits for an item and returns it; None once this is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            item = self._item
            self._item = None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Called by whichever of the two stages ends first."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class _Stopwatch:
    """How long the work of one stage takes; written by its thread, read by others."""

    def __init__(self) -> None:
        self.mean_s = 0.0  # a running mean
        self._began_s: float | None = None

    def start(self) -> None:
        """Begins with a frame."""
        self._began_s = time.perf_counter()

    def stop(self, counts: bool) -> None:
        """Ends with the frame; where that counts, its duration enters the mean."""
        if counts and self._began_s is not None:
            self.mean_s += _SMOOTHING * (time.perf_counter() - self._began_s - self.mean_s)
        self._began_s = None

    def stalled_s(self) -> float:
        """Returns for how long the frame under way has been, in seconds; 0 while that is not unusual."""
        began_s = self._began_s
        age_s = 0.0 if began_s is None else time.perf_counter() - began_s
        return age_s if age_s > _STALL_S + _STALL_MEANS * self.mean_s else 0.0


class StagedExecutor(Generic[FrameT, PreparedT, InferredT]):
    """Takes frames from a source, the newest first, and runs them through three stages, in order.

    What a source calls a frame may be a small batch of frames of several cameras.
    """

    def __init__(
        self,
        source: BatchSource[FrameT],
        prepare: Callable[[FrameT], PreparedT | None],
        infer: Callable[[PreparedT], InferredT | None],
        deliver: Callable[[InferredT], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Starts the threads.

        Args:
            source: Where frames come from.
            prepare: First stage; None drops the frame.
            infer: Second stage; None drops the frame.
            deliver: Third stage.
            on_failure: Called with what a stage or the source has raised, in the thread that ends by it, which `join`
                waits for; the other threads end too, once the source is closed.
        """
        self._source = source
        self._prepare = prepare
        self._infer = infer
        self._deliver = deliver
        self._on_failure = on_failure
        self._prepared: _Handoff[PreparedT] = _Handoff()
        self._inferred: _Handoff[InferredT] = _Handoff()
        self._flow = threading.Condition()  # guards the three below
        self._under_way = 0
        self._is_paused = False
        self._has_ended = False
        self._is_idle = threading.Event()
        self._is_idle.set()
        # Only a guess of when to begin: written by the thread that infers and read by the one that prepares, whole.
        self._expected_end_s = 0.0
        self._stopwatches = {"preparation": _Stopwatch(), "inference": _Stopwatch(), "delivery": _Stopwatch()}
        stages = {"prepare": self._prepare_all, "infer": self._infer_all, "deliver": self._deliver_all}
        self._threads = [
            threading.Thread(target=self._run, args=(stage,), name=name, daemon=True) for name, stage in stages.items()
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Waits until the frames under way are delivered; the source must be closed."""
        for thread in self._threads:
            thread.join()

    def stalled(self) -> str:
        """Says which stage is at one frame for unusually long, and how long; empty if none is."""
        ages_s = {stage: stopwatch.stalled_s() for stage, stopwatch in self._stopwatches.items()}
        return ", ".join(f"{stage} of a frame for {age_s:.1f} s" for stage, age_s in ages_s.items() if age_s)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Delivers the frames under way and takes no other inside the block: the moment between two frames."""
        with self._flow:
            self._is_paused = True
            self._flow.wait_for(lambda: self._under_way == 0 or self._has_ended)
        try:
            yield
        finally:
            with self._flow:
                self._is_paused = False
                self._flow.notify_all()

    def _enter(self) -> None:
        with self._flow:
            self._flow.wait_for(lambda: not self._is_paused)
            self._under_way += 1

    def _leave(self) -> None:
        with self._flow:
            self._under_way -= 1
            self._flow.notify_all()

    def _run(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except BaseException as error:
            self._on_failure(error)

    def _prepare_all(self) -> None:
        stopwatch = self._stopwatches["preparation"]
        try:
            while self._prepared.wait_empty():
                self._is_idle.wait(self._seconds_too_early())
                if not self._source.wait():
                    return
                self._enter()
                stopwatch.start()
                frame = self._source.take()
                prepared = None if frame is None else self._prepare(frame)
                stopwatch.stop(counts=prepared is not None)
                if prepared is None:
                    self._leave()
                else:
                    self._prepared.put(prepared)
        finally:
            self._prepared.close()

    def _infer_all(self) -> None:
        stopwatch = self._stopwatches["inference"]
        avoid_bound_cores()
        try:
            while (prepared := self._prepared.take()) is not None:
                self._expected_end_s = time.perf_counter() + stopwatch.mean_s
                self._is_idle.clear()
                stopwatch.start()
                inferred = self._infer(prepared)
                stopwatch.stop(counts=True)
                self._is_idle.set()
                if inferred is None:
                    self._leave()
                else:
                    self._inferred.put(inferred)
        finally:
            self._is_idle.set()
            self._prepared.close()
            self._inferred.close()

    def _deliver_all(self) -> None:
        stopwatch = self._stopwatches["delivery"]
        try:
            while (inferred := self._inferred.take()) is not None:
                stopwatch.start()
                self._deliver(inferred)
                stopwatch.stop(counts=True)
                self._leave()
        finally:
            self._inferred.close()
            with self._flow:
                self._has_ended = True
                self._flow.notify_all()

    def _seconds_too_early(self) -> float:
        """How long to wait until the inference under way has just the time of a preparation left."""
        return max(0.0, self._expected_end_s - _LEAD * self._stopwatches["preparation"].mean_s - time.perf_counter())

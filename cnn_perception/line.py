"""The assembly line of a running node: while one frame is inferred, the one before is published and the next prepared.

Inference alone keeps its pace only if nothing stands between two of its runs. So two threads walk every frame through
the same three steps, and locks keep the frames in order. The next frame is taken as late as it can be: a frame prepared
too early would be old when its turn comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from cnn_perception.mailbox import Mailbox

FrameT = TypeVar("FrameT")
PreparedT = TypeVar("PreparedT")
InferredT = TypeVar("InferredT")

_WORKERS = 2
_SMOOTHING = 0.2
"""Share of the latest duration in the running means by which the end of an inference is foreseen."""
_LEAD = 1.5
"""How much longer than its mean a preparation is expected to take."""


class Line(Generic[FrameT, PreparedT, InferredT]):
    """Takes frames from a mailbox, the newest first, and walks them through three steps, in order."""

    def __init__(
        self,
        mailbox: Mailbox[FrameT],
        prepare: Callable[[FrameT], PreparedT | None],
        infer: Callable[[PreparedT], InferredT | None],
        deliver: Callable[[InferredT], None],
    ) -> None:
        """Starts the threads; closing the mailbox ends them.

        Args:
            mailbox: Where frames arrive.
            prepare: First step; None drops the frame.
            infer: Second step, of one frame at a time; None drops the frame.
            deliver: Third step, of one frame at a time, in the order of the second.
        """
        self._mailbox, self._prepare, self._infer, self._deliver = mailbox, prepare, infer, deliver
        self._intake, self._inference, self._delivery = threading.Lock(), threading.Lock(), threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._started_s = 0.0
        self._mean_inference_s = self._mean_prepare_s = 0.0
        self._threads = [threading.Thread(target=self._work, name=f"line{i}", daemon=True) for i in range(_WORKERS)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Waits until the frames under way are delivered; the mailbox must be closed."""
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._intake:
                self._idle.wait(self._seconds_too_early())
                frame = self._mailbox.take()
                if frame is None:
                    return
                started_s = time.perf_counter()
                prepared = self._prepare(frame)
                if prepared is None:
                    continue
                self._mean_prepare_s += _SMOOTHING * (time.perf_counter() - started_s - self._mean_prepare_s)
                self._inference.acquire()
            self._finish(prepared)

    def _finish(self, prepared: PreparedT) -> None:
        """The second and third step; entered with the inference lock held."""
        try:
            self._started_s = time.perf_counter()
            self._idle.clear()
            inferred = self._infer(prepared)
            self._mean_inference_s += _SMOOTHING * (time.perf_counter() - self._started_s - self._mean_inference_s)
            self._delivery.acquire()  # before the inference lock goes, or the next frame could overtake
        finally:
            self._idle.set()
            self._inference.release()
        try:
            if inferred is not None:
                self._deliver(inferred)
        finally:
            self._delivery.release()

    def _seconds_too_early(self) -> float:
        """How long to wait until the inference under way has just the time of a preparation left."""
        end_s = self._started_s + self._mean_inference_s
        return max(0.0, end_s - _LEAD * self._mean_prepare_s - time.perf_counter())

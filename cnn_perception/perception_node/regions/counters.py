"""How the boxes of one camera fare: what became of the messages, and of the boxes in them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from cnn_perception.errors import FrameError
from cnn_perception.regions.box import Box
from cnn_perception.regions.box_scale import BoxScale
from cnn_perception.regions.refusals import Refusals
from cnn_perception.stream.frame_counters import FrameCounters, Snapshot
from cnn_perception.tasks.prediction import Prediction


@dataclass(frozen=True)
class BoxCounts:
    """What became of boxes.

    Attributes:
        answered: How many were answered.
        refusals: Those that were not.
        foreign: How many messages of boxes were of another frame_id: other cameras may share their topic.
    """

    answered: int = 0
    refusals: Refusals = field(default_factory=Refusals)
    foreign: int = 0


class RegionCounters:
    """Counts the messages of boxes of one camera, and the boxes; every method may be called from any thread.

    Attributes:
        messages: Of the messages, each of which a frame's counters call a frame.
    """

    def __init__(self) -> None:
        self.messages = FrameCounters(time.monotonic())
        self._lock = threading.Lock()  # guards the five below
        self._answered = 0
        self._refusals = Refusals()
        self._foreign = 0
        self._before = BoxCounts()
        self._scale = BoxScale()

    def add(self, boxes: Sequence[Box], answers: Sequence[Prediction | FrameError], height: int, width: int) -> None:
        """Counts the boxes of one message.

        Args:
            boxes: Of an image.
            answers: To each of them, or why there is none.
            height: Rows of the image.
            width: Its columns.
        """
        with self._lock:
            for box, answer in zip(boxes, answers, strict=True):
                if isinstance(answer, FrameError):
                    self._refusals.add(answer)
                else:
                    self._scale.add(box, height, width)
                    self._answered += 1

    def leave_to_others(self) -> None:
        """Counts a message of boxes that are of another frame_id."""
        with self._lock:
            self._foreign += 1

    def boxes(self) -> tuple[BoxCounts, BoxCounts]:
        """Returns what became of all boxes, and of those since the previous call."""
        with self._lock:
            total = BoxCounts(self._answered, self._refusals.copy(), self._foreign)
            before = self._before
            self._before = total
        answered, foreign = total.answered - before.answered, total.foreign - before.foreign
        return total, BoxCounts(answered, total.refusals.since(before.refusals), foreign)

    def suspicion(self) -> str:
        """Says that the boxes may be in pixels of other images, see `BoxScale`; empty where nothing speaks for it."""
        with self._lock:
            return self._scale.suspicion

    def snapshot(self) -> Snapshot:
        """Returns what became of the messages, with rates since the previous call."""
        return self.messages.snapshot(time.monotonic())

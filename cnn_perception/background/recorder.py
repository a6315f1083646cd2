"""Keeps the frames that the model was unsure of, in the background and within bounds.

Nothing is ever deleted: where the folder is full recording pauses, and goes on once somebody has freed some space.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from cnn_perception.background.folder_space import made_writable, why_not_written
from cnn_perception.background.folder_store import RecordedFolder
from cnn_perception.background.selection import Origin, RecorderSettings, UnsureFrame, reason
from cnn_perception.background.worker import BackgroundWorker
from cnn_perception.errors import FrameError, with_kind
from cnn_perception.image.messages import EncodedFile, EncodedImage, RgbImage
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.prediction import Prediction

RETRY_S = 60.0
"""A paused recorder tries again after this time, with the next frame that it would keep."""


class Store(Protocol):
    """Where unsure frames are written; both formats have the same two calls."""

    def write(self, frame: UnsureFrame, room_bytes: int) -> int:
        """Writes a frame and returns the bytes that took; 0 if that would be more than `room_bytes`."""

    def close(self) -> None:
        """Completes what was written."""


@dataclass(frozen=True)
class RecorderReport:
    """What the recorder has done so far.

    Attributes:
        recorded: Frames kept by this session.
        folder_bytes: Size of the folder; None before the first frame.
        max_bytes: Its largest size.
        lost: Unsure frames that were not kept, by the cause: `rate`, `busy`, `paused`, `size`.
        problem: Why nothing is kept at the moment, in one line; empty while all is well.
        is_broken: Whether it has ended by a defect.
    """

    recorded: int
    folder_bytes: int | None
    max_bytes: int
    lost: dict[str, int]
    problem: str
    is_broken: bool = False

    def values(self) -> dict[str, str]:
        """Returns the figures for /diagnostics."""
        size = "" if self.folder_bytes is None else f"{self.folder_bytes / 1e6:.1f} of {self.max_bytes / 1e6:.1f}"
        found = {"recorder": self.problem or "recording", "recorded": str(self.recorded), "recorder folder (MB)": size}
        return found | {f"not recorded: {cause}": str(count) for cause, count in self.lost.items()}


class Recorder:
    """Writes unsure frames in a thread of its own; `offer` never waits for it."""

    def __init__(
        self,
        settings: RecorderSettings,
        spec: ModelSpec,
        sha256: str,
        on_pause: Callable[[str], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Starts the thread, which tries whether it can write; a model that is swapped needs a new recorder.

        Args:
            settings: What to keep, and where.
            spec: Of the model whose predictions are offered.
            sha256: Hex digest of its file.
            on_pause: Called in the thread, once each time, with the one line that says why recording has paused.
            on_failure: Called in the thread with a defect that has ended it.

        Raises:
            ConfigError: If the model is never unsure in the way that is wanted.
        """
        settings.check(spec)
        self._settings = settings
        self._on_pause = on_pause
        self._store = _store(settings, spec, sha256)
        self._max_bytes = int(settings.max_mb * 1e6)
        self._folder_bytes: int | None = None
        self._recorded = 0
        self._lost = {"rate": 0, "paused": 0, "size": 0}
        self._problem = ""
        self._retry_s = 0.0
        self._next_s: dict[str, float] = {}
        self._worker = BackgroundWorker("recorder", self._record, on_failure, self._complete, begin=self._prepare)

    def offer(
        self, encoded: EncodedImage | EncodedFile, image: RgbImage, prediction: Prediction, origin: Origin
    ) -> bool:
        """Keeps the frame if the model was unsure of it; to be called from one thread.

        Args:
            encoded: The image as it arrived.
            image: The same, decoded.
            prediction: What was recognised in it, before any smoothing.
            origin: Where it comes from.

        Returns:
            Whether the frame is on its way to the disk.
        """
        why = reason(prediction, self._settings)
        if why is None:
            return False
        now_s = time.monotonic()
        if now_s < self._next_s.get(origin.camera, now_s):
            self._lost["rate"] += 1
            return False
        self._next_s[origin.camera] = now_s + 1 / self._settings.max_rate_hz
        frame = UnsureFrame(encoded, image, prediction, origin, why, time.time_ns())
        self._worker.offer(origin.camera, frame)
        return self._worker.failure is None

    def report(self) -> RecorderReport:
        """Returns what happened so far; may be called from any thread."""
        failure = self._worker.failure
        problem = self._problem or self._worker.overdue()
        if failure is not None:
            problem = f"stopped by a defect ({with_kind(failure)})"
        lost = self._lost | {"busy": self._worker.overtaken}
        return RecorderReport(
            self._recorded, self._folder_bytes, self._max_bytes, lost, problem, is_broken=failure is not None
        )

    def close(self, timeout_s: float) -> bool:
        """Writes what is under way and ends the thread.

        Args:
            timeout_s: How long to wait for that.

        Returns:
            Whether all is written; if not, the disk hangs, and what is there can still be read.
        """
        return self._worker.close(timeout_s)

    def _prepare(self) -> None:
        """Says what keeps the recorder from writing before there is anything to keep; the first frame tries anew."""
        try:
            is_full = made_writable(self._settings.folder) >= self._max_bytes
        except OSError as error:
            self._note(why_not_written(self._settings.folder, error))
            return
        if is_full:
            self._note(self._full)

    @property
    def _full(self) -> str:
        return f"{self._settings.folder}: {self._settings.max_mb:g} MB are full; move frames elsewhere"

    def _record(self, frame: UnsureFrame) -> None:
        now_s = time.monotonic()
        if now_s < self._retry_s:
            self._lost["paused"] += 1
            return
        try:
            if self._folder_bytes is None:
                self._folder_bytes = made_writable(self._settings.folder)
            written = self._store.write(frame, self._max_bytes - self._folder_bytes)
        except OSError as error:
            self._pause(why_not_written(self._settings.folder, error), now_s)
            return
        except FrameError:
            self._lost["size"] += 1
            return
        if not written:
            self._pause(self._full, now_s)
            return
        self._folder_bytes += written
        self._recorded += 1
        self._problem = ""

    def _pause(self, problem: str, now_s: float) -> None:
        with suppress(OSError):
            self._store.close()  # what is complete can be taken away
        self._lost["paused"] += 1
        self._retry_s = now_s + RETRY_S
        self._folder_bytes = None  # whoever makes room changes it
        self._note(problem)

    def _note(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._on_pause(problem)

    def _complete(self) -> None:
        try:
            self._store.close()
        except OSError as error:
            self._on_pause(why_not_written(self._settings.folder, error))


def _store(settings: RecorderSettings, spec: ModelSpec, sha256: str) -> Store:
    """Returns where frames are written in the format that is set."""
    if settings.format == "folder":
        return RecordedFolder(settings.folder, spec, sha256)
    from cnn_perception.background.bag_store import RecordedBag  # rosbags takes a quarter of a second to load

    return RecordedBag(settings.folder, sha256)

"""What only viewers look at, made beside the answers: begun when an answer has left, of each camera's newest frame.

Each kind has a thread of its own, of low priority, or one that runs while a core is idle: a score map, which may take
seconds, holds up neither an answer nor an overlay. One more, of normal priority, publishes what they make: that holds
Python's global lock while the picture is copied, and a thread that is kept from running must not hold it. What was
offered before the model, the topics or the state of the node changed is published no more, however late it is done.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from cnn_perception.background.worker import BackgroundWorker
from cnn_perception.errors import PerceptionError

FrameT = TypeVar("FrameT")
FrameT_contra = TypeVar("FrameT_contra", contravariant=True)
MadeT = TypeVar("MadeT")


class Views(Protocol[FrameT_contra, MadeT]):
    """What is made of an answered frame, and where it goes."""

    @property
    def kinds(self) -> Sequence[str]:
        """What can be made, by names that diagnostics show."""

    @property
    def heavy_kinds(self) -> Sequence[str]:
        """Which of them run a network: they get what the answers leave of the cores."""

    @property
    def unlimited_kinds(self) -> Sequence[str]:
        """Which of them are made of every frame, whatever the limit: they cost little, and programs read them, too."""

    def make(self, kind: str, frame: FrameT_contra) -> MadeT:
        """Returns what is to be published, for as long as it takes.

        Raises:
            PerceptionError: If it cannot be made of this frame.
        """

    def is_too_old(self, frame: FrameT_contra) -> bool:
        """Whether nobody wants anything of this frame any more."""

    def publish(self, frame: FrameT_contra, made: MadeT) -> None:
        """Publishes it; changes of the node wait for that."""

    def refuse(self, kind: str, frame: FrameT_contra, error: PerceptionError) -> None:
        """Says why it cannot be made."""


@dataclass
class _Counts:
    """Of one kind; written while its thread is at a frame."""

    published: int = 0
    refused: int = 0
    too_old: int = 0


@dataclass(frozen=True)
class ViewersReport:
    """What viewers got so far.

    Attributes:
        counts: For each kind how many frames were published, refused (what is wanted cannot be made of them), too old,
            and overtaken by the camera's next before they were begun.
        problem: Which kind hangs, and for how long, in one line; empty while none does.
    """

    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    problem: str = ""

    @property
    def text(self) -> str:
        """What happened in one line."""
        published, overtaken = (sum(one[what] for one in self.counts.values()) for what in ("published", "overtaken"))
        return self.problem or f"{published} published, {overtaken} overtaken by newer frames"

    def values(self) -> dict[str, str]:
        """Returns the figures for /diagnostics."""
        return {f"{kind}: {what}": str(n) for kind, counts in self.counts.items() for what, n in counts.items()}


@dataclass(frozen=True, eq=False)
class _Offered(Generic[FrameT]):
    """A frame, and the number of changes that the node had seen when it was offered."""

    frame: FrameT
    changes: int


class Viewers(Generic[FrameT, MadeT]):
    """Makes and publishes what viewers want; never waited for by whoever offers a frame."""

    def __init__(self, views: Views[FrameT, MadeT], on_failure: Callable[[BaseException], None]) -> None:
        """Starts a thread for each kind, and one that publishes.

        Args:
            views: What is made, and where it goes; called in these threads.
            on_failure: Called in one of them with the defect that ends it.
        """
        self._views = views
        self._publishing = threading.Lock()  # held while something is published, and guards the next
        self._changes = 0
        self._next_s: dict[str, float] = {}
        self._max_share = 1.0
        self._counts = {kind: _Counts() for kind in views.kinds}
        self._publisher = ThreadPoolExecutor(1, "publish views")
        self._publisher.submit(int)  # begins its thread: begun by one of those below it would have its priority
        self._workers = {
            kind: BackgroundWorker[_Offered[FrameT]](
                kind,
                functools.partial(self._view, kind),
                on_failure,
                only_when_idle=kind in views.heavy_kinds,
                rest_s=functools.partial(self._rest_s, kind),
            )
            for kind in views.kinds
        }

    def offer(
        self, kinds: Sequence[str], camera: str, frame: FrameT, max_rate_hz: float = 0.0, max_share: float = 1.0
    ) -> None:
        """Leaves an answered frame of which these kinds are wanted; not to be called beside `withdraw` or itself.

        Args:
            kinds: What is wanted of it.
            camera: Whose it is.
            frame: The frame.
            max_rate_hz: Of most frames of this camera in a second the limited kinds are made, all of the same frames;
                0 for all frames.
            max_share: Most of the time in which each heavy kind is made, and each other limited one waits for a core,
                above 0; 1 for all of it.
        """
        self._max_share = max_share
        unlimited = [kind for kind in kinds if kind in self._views.unlimited_kinds]
        is_due = len(unlimited) < len(kinds) and self._is_due(camera, max_rate_hz)
        for kind in kinds if is_due else unlimited:
            self._workers[kind].offer(camera, _Offered(frame, self._changes))

    def withdraw(self) -> None:
        """Has nothing published any more of what was offered so far; waits for what is being published only."""
        with self._publishing:
            self._changes += 1

    def report(self) -> ViewersReport:
        """Returns what happened so far; waits for nothing."""
        counts = {
            kind: {
                "published": one.published,
                "overtaken": self._workers[kind].overtaken,
                "too old": one.too_old,
                "refused": one.refused,
            }
            for kind, one in self._counts.items()
        }
        overdue = {kind: worker.overdue() for kind, worker in self._workers.items()}
        return ViewersReport(counts, "; ".join(f"{kind}: {text}" for kind, text in overdue.items() if text))

    def close(self) -> None:
        """Ends the threads, however long that takes: a process that ends during a run of a model would be aborted."""
        self.withdraw()
        for worker in self._workers.values():
            worker.close(None)
        self._publisher.shutdown()

    def _is_due(self, camera: str, max_rate_hz: float) -> bool:
        if not max_rate_hz:
            return True
        now_s = time.monotonic()
        period_s = 1 / max_rate_hz
        # At most a period away, for the rate may have been lower before.
        next_s = min(self._next_s.get(camera, now_s), now_s + period_s)
        if now_s < next_s:
            self._next_s[camera] = next_s
            return False
        # Counted from when it was due, so that it is this rate on average, whatever the camera's; not after a pause.
        self._next_s[camera] = (next_s if now_s < next_s + period_s else now_s) + period_s
        return True

    def _rest_s(self, kind: str, took_s: float, computed_s: float) -> float:
        """Returns for how many seconds a kind is not made after it took some.

        A light one has computed little: it makes room where it waited, since then answers, cameras or whoever looks on
        lack cores, too.
        """
        if kind in self._views.unlimited_kinds:
            return 0.0
        counted_s = took_s if kind in self._views.heavy_kinds else max(0.0, took_s - computed_s)
        return counted_s * (1 / self._max_share - 1)

    def _view(self, kind: str, offered: _Offered[FrameT]) -> None:
        frame = offered.frame
        counts = self._counts[kind]
        made: MadeT | PerceptionError
        if offered.changes != self._changes:
            return
        if self._views.is_too_old(frame):
            counts.too_old += 1
            return
        try:
            made = self._views.make(kind, frame)
        except PerceptionError as error:
            made = error
        self._publisher.submit(self._pass_on, kind, offered, made).result()

    def _pass_on(self, kind: str, offered: _Offered[FrameT], made: MadeT | PerceptionError) -> None:
        frame = offered.frame
        counts = self._counts[kind]
        with self._publishing:
            if offered.changes != self._changes:
                return
            if isinstance(made, PerceptionError):
                counts.refused += 1
                self._views.refuse(kind, frame, made)
            elif self._views.is_too_old(frame):
                counts.too_old += 1
            else:
                self._views.publish(frame, made)
                counts.published += 1

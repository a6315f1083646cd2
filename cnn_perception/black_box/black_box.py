"""Keeps the last seconds of a node's cameras and answers, and saves them with the next ones as a bag when asked to.

Whoever gives it a message never waits for the disk: a thread of low priority writes, and what it is behind with waits
in memory, within bounds. Causes whose windows overlap are one recording, so that no message is saved twice, but after a
failure: a bag is completed once no further cause could reach back into it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cnn_perception.background.worker import BackgroundWorker
from cnn_perception.black_box.incident import Incident, incident_name
from cnn_perception.black_box.ring import Kept, Ring
from cnn_perception.black_box.settings import SERVICE, BlackBoxSettings
from cnn_perception.errors import with_kind

LATE_S = 1.0
"""A message that was received within a window may be handed in so much later."""


@dataclass(frozen=True)
class BlackBoxReport:
    """What a black box holds and has done so far.

    Attributes:
        recording: Name of the bag that is being written; empty while none is.
        saved: Bags that are whole.
        latest: The newest of them; None before the first.
        held_s: Seconds that the messages in memory span.
        wanted_s: Seconds that they should span.
        is_cut: Whether they are fewer because there is no more memory for them.
        memory_bytes: What they take.
        waiting_bytes: What waits for the disk, of the same messages or earlier ones.
        missed: Messages that were never handed in, as far as that is known.
        lost: Messages of a recording that could not be written.
        folder_bytes: Size of the folder; None before it is known.
        max_bytes: Its largest size.
        problem: Why something was not saved whole, in one line; empty once a bag has been since.
        is_broken: Whether it has ended by a defect.
        cut: Bags that lack something.
    """

    recording: str
    saved: int
    latest: Path | None
    held_s: float
    wanted_s: float
    is_cut: bool
    memory_bytes: int
    waiting_bytes: int
    missed: int
    lost: int
    folder_bytes: int | None
    max_bytes: int
    problem: str
    is_broken: bool
    cut: int = 0

    @property
    def text(self) -> str:
        """What it does in one line."""
        if self.problem:
            return self.problem
        if self.is_cut:
            return f"memory has room for {self.held_s:.1f} of {self.wanted_s:g} s; raise black_box_memory_mb"
        return f"recording {self.recording}" if self.recording else f"{self.saved} saved"

    def values(self) -> dict[str, str]:
        """Returns the figures for /diagnostics."""
        size = "" if self.folder_bytes is None else f"{self.folder_bytes / 1e6:.1f} of {self.max_bytes / 1e6:.1f}"
        return {
            "recording": self.recording,
            "saved": str(self.saved),
            "not saved whole": str(self.cut),
            "latest": "" if self.latest is None else str(self.latest),
            "seconds in memory": f"{self.held_s:.1f} of {self.wanted_s:g}",
            "memory (MB)": f"{self.memory_bytes / 1e6:.1f}",
            "waiting for the disk (MB)": f"{self.waiting_bytes / 1e6:.1f}",
            "folder (MB)": size,
            "messages missed": str(self.missed),
            "messages not written": str(self.lost),
        }


@dataclass(frozen=True)
class _Window:
    """What one cause has added to a recording.

    Attributes:
        incident: The recording.
        first_s: Where the seconds before the cause begin, by the monotonic clock.
        written: Messages of it that were written before.
        queued: Messages that were handed to the thread up to now.
    """

    incident: Incident
    first_s: float
    written: int
    queued: int


class BlackBox:
    """Keeps the last seconds, and saves them when asked to; every method may be called from any thread."""

    def __init__(
        self,
        settings: BlackBoxSettings,
        marks_topic: str,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        on_failure: Callable[[BaseException], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the thread that writes; nothing is kept before `begin`.

        Args:
            settings: What is saved, when, and within which bounds.
            marks_topic: On which each bag has its causes, as std_msgs/String.
            say: Is told of each cause and each bag; called in any thread.
            warn: Is told why something is not saved; called in any thread.
            on_failure: Called with a defect that has ended it; all else goes on.
            clock_s: Seconds of the monotonic clock by which messages are received.
        """
        # rosbags takes a quarter of a second to load
        from cnn_perception.bag.messages import Messages
        from cnn_perception.black_box.incident_bags import IncidentBags

        self._settings = settings
        self._marks_topic = marks_topic
        self._clock_s = clock_s
        self._messages = Messages()
        self._say = say
        self._warn = warn
        self._on_failure = on_failure
        self._bags = IncidentBags(settings, say, warn)
        self._most_waiting_bytes = int(2 * settings.memory_mb * 1e6)
        self._lock = threading.Lock()  # guards all below
        self._ring = self._empty_ring()
        self._is_kept = False
        self._incident: Incident | None = None
        self._waiting: deque[tuple[Incident, Kept]] = deque()
        self._waiting_bytes = 0
        self._missed = 0
        self._lost = 0
        self._has_said_cut = False
        self._failure: BaseException | None = None
        self._worker = BackgroundWorker[bool](
            "black box", self._write, self.fail, self._complete, begin=self._bags.prepare
        )

    def begin(self) -> None:
        """Begins to keep what it is given."""
        with self._lock:
            self._is_kept = True

    def end(self) -> None:
        """Forgets what is in memory; a recording under way ends now."""
        with self._lock:
            self._is_kept = False
            self._ring = self._empty_ring()
        self._wake()

    def keep(self, message: Kept) -> None:
        """Keeps a message for some seconds; it belongs to the recording under way if its window is not over."""
        with self._lock:
            if not self._is_kept or self._failure is not None:
                return
            self._ring.add(message)
            incident = self._incident
            belongs = incident is not None and message.received_s <= incident.end_s
            if incident is not None and belongs:
                self._put(incident, message)
            says_cut = self._ring.is_cut and not self._has_said_cut
            self._has_said_cut |= says_cut
            held_s = self._ring.held_s
        if says_cut:
            wanted_s = self._settings.before_s
            self._warn(f"memory has room for {held_s:.1f} of {wanted_s:g} s before a cause; raise black_box_memory_mb")
        if incident is not None:
            self._wake()

    def note_missed(self, count: int) -> None:
        """Counts messages that were sent and never handed in."""
        with self._lock:
            self._missed += count

    def save(self, cause: str, text: str, timeout_s: float) -> tuple[bool, str]:
        """Saves the last seconds and those that follow, and waits until it is known whether they can be written.

        Args:
            cause: One of `settings.CAUSES`.
            text: What has happened, in one line.
            timeout_s: No longer than this; not to be called by whom frames wait for.

        Returns:
            Whether it is being written, and in one line where and until when, or what is wrong.
        """
        window = self._window(cause, text)
        if window is None:
            return False, "nothing is saved: the node is not active, or its black box has ended; see /diagnostics"
        incident = window.incident
        if incident.lost_s >= window.first_s:
            return False, f"{incident.path}: {incident.missing}"
        is_known = incident.wait(window.queued, timeout_s)
        if incident.problem:
            return False, incident.problem
        if not is_known and incident.written == window.written:
            return False, f"{incident.path}: nothing is written yet, the disk or this machine is slow; see /diagnostics"
        left_s = max(incident.end_s - self._clock_s(), 0.0)
        return True, f"{incident.path}: being written, with the next {left_s:.1f} s; see /diagnostics"

    def trigger(self, cause: str, text: str) -> Incident | None:
        """Saves the last seconds and those that follow.

        Args:
            cause: One of `settings.CAUSES`.
            text: What has happened, in one line.

        Returns:
            The recording that is begun or prolonged, of which nothing is written yet; None if there is none, because
            this cause is not wanted, or nothing is kept at the moment.
        """
        window = self._window(cause, text)
        return None if window is None else window.incident

    def _window(self, cause: str, text: str) -> _Window | None:
        now_s = self._clock_s()
        with self._lock:
            if cause not in self._settings.causes or not self._is_kept or self._failure is not None:
                return None
            before = self._incident
            written = 0 if before is None else before.written
            incident = self._incident_at(now_s, cause)
            incident.add(f"{cause}: {text}", now_s + self._settings.after_s)
            self._put(incident, self._mark(f"{cause}: {text}", now_s))
            first_s = now_s - self._settings.before_s
            window = _Window(incident, first_s, written if incident is before else 0, incident.queued)
        if incident is not before:
            seconds = f"{self._settings.before_s:g} s before and {self._settings.after_s:g} s after it"
            self._say(f"{cause}: {text}; saving {seconds} as {incident.path}")
        self._wake()
        return window

    def _incident_at(self, now_s: float, cause: str) -> Incident:
        """Returns the recording that a cause belongs to, with all that was received up to now."""
        missing_s = now_s - self._settings.before_s
        incident = self._incident
        if incident is not None and incident.problem and (cause == SERVICE or now_s > incident.end_s):
            incident = None  # nothing more of it is written; who calls may have made room, others may call all the time
        is_joined = incident is not None and missing_s <= incident.end_s and now_s <= incident.latest_s
        if incident is not None:
            missing_s = max(missing_s, incident.end_s)
        if incident is None or not is_joined:
            path = self._settings.folder / incident_name(cause, time.time_ns())
            incident = Incident(path, now_s, now_s + self._settings.longest_s)
            self._incident = incident
            first_ns = min((one.log_time_ns for one in self._ring.after(missing_s)), default=time.time_ns())
            for state in self._ring.states_before(missing_s):  # at its own time the bag would begin long before
                self._put(incident, replace(state, log_time_ns=first_ns))
        for message in self._ring.after(missing_s):
            self._put(incident, message)
        return incident

    def _mark(self, text: str, now_s: float) -> Kept:
        """Returns a cause as a message, for whoever looks at the bag."""
        message = self._messages.string(text)
        return Kept(self._marks_topic, message.__msgtype__, time.time_ns(), now_s, self._messages.serialized(message))

    def report(self) -> BlackBoxReport:
        """Returns what it holds and has done; waits for nothing."""
        bags = self._bags
        with self._lock:
            failure = self._failure
            incident = self._incident
            overdue = self._worker.overdue()
            problem = bags.problem or (f"the disk is slow: {overdue}" if overdue else "")
            report = BlackBoxReport(
                recording="" if incident is None or incident.problem else incident.path.name,
                saved=bags.saved,
                latest=bags.latest,
                held_s=self._ring.held_s,
                wanted_s=self._settings.before_s,
                is_cut=self._ring.is_cut,
                memory_bytes=self._ring.size,
                waiting_bytes=self._waiting_bytes,
                missed=self._missed,
                lost=self._lost + bags.lost,
                folder_bytes=bags.folder_bytes,
                max_bytes=int(self._settings.max_mb * 1e6),
                problem=problem,
                is_broken=failure is not None,
                cut=bags.cut,
            )
        self._wake()  # where nothing comes any more, somebody has to see that a window is over
        return report if failure is None else replace(report, problem=_ended_by(failure))

    def fail(self, error: BaseException) -> None:
        """Ends it because of a defect, its own or of whoever hands in messages; all else goes on."""
        with self._lock:
            is_first = self._failure is None
            self._failure = self._failure or error
            self._ring = self._empty_ring()
            if self._incident is not None:
                self._incident.fail(_ended_by(error))
        if is_first:
            self._on_failure(error)

    def close(self, timeout_s: float) -> bool:
        """Completes the recording under way, which ends now.

        Args:
            timeout_s: How long to wait for the disk.

        Returns:
            Whether all is written; if not, the disk hangs, and what is there can still be read.
        """
        self.end()
        return self._worker.close(timeout_s)

    def _empty_ring(self) -> Ring:
        return Ring(self._settings.before_s, int(self._settings.memory_mb * 1e6))

    def _wake(self) -> None:
        """Has the thread look: what waits for it lies in `_waiting`, so no item of its own is ever lost."""
        self._worker.offer("", True)

    def _put(self, incident: Incident, message: Kept) -> None:
        if self._waiting_bytes + message.size > self._most_waiting_bytes:
            self._lost += 1
            incident.lost += 1
            incident.lost_s = max(incident.lost_s, message.received_s)
            return
        incident.queued += 1
        self._waiting.append((incident, message))
        self._waiting_bytes += message.size

    def _next(self) -> tuple[Incident, Kept] | None:
        with self._lock:
            if not self._waiting:
                return None
            incident, message = self._waiting.popleft()
            self._waiting_bytes -= message.size
            return incident, message

    def _write(self, _news: bool) -> None:
        while (entry := self._next()) is not None:
            self._bags.write(*entry)
        with self._lock:
            over = self._incident if self._is_over() else None
            if over is not None:
                self._incident = None
        if over is not None:
            self._bags.close(over)

    def _is_over(self) -> bool:
        """Whether nothing can belong to the recording any more."""
        if self._incident is None or self._waiting:
            return False
        hold_s = max(LATE_S, self._settings.before_s)
        return not self._is_kept or self._clock_s() > self._incident.end_s + hold_s

    def _complete(self) -> None:
        while (entry := self._next()) is not None:
            self._bags.write(*entry)
        with self._lock:
            last = self._incident
        self._bags.close(last)


def _ended_by(error: BaseException) -> str:
    return f"stopped by a defect ({with_kind(error)})"

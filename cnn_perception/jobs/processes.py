"""Work on many items in processes of this machine, so many at a time."""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Generic, TypeVar

from cnn_perception.errors import ConfigError, printable
from cnn_perception.import_path import python_command
from cnn_perception.jobs.outcome import ATTEMPTS, INTERRUPTED, PULSE_S, Outcome
from cnn_perception.jobs.worker import Refused

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_PIECE_BYTES = 2**20
_END_S = 20.0
"""After Ctrl-C, or with its result on the way, a process has so long to end."""
_LONGEST_REASON = 300


@dataclass
class _Running:
    """A process at work on an item."""

    index: int
    attempt: int
    process: subprocess.Popen[bytes]
    pipe: int
    said: IO[bytes]
    received: bytearray = field(default_factory=bytearray)
    began_s: float = field(default_factory=time.monotonic)

    def read(self) -> bool:
        """Takes what has come of the result; returns whether there may be more."""
        piece = os.read(self.pipe, _PIECE_BYTES)
        self.received += piece
        return bool(piece)

    def finish(self) -> object:
        """Returns the result, or why there is none, after the end of the pipe, and so of the process."""
        os.close(self.pipe)
        try:
            code = self.process.wait(_END_S)
        except subprocess.TimeoutExpired:  # some library does not end; the result is there or not
            self.process.kill()
            code = self.process.wait()
        with self.said:
            try:
                return pickle.loads(self.received)
            except (EOFError, pickle.UnpicklingError):  # nothing, or cut off
                return Refused(_reason(code, self._last_line()))

    def discard(self) -> None:
        """Ends the process, whatever it has done."""
        self.process.kill()
        self.process.wait()
        os.close(self.pipe)
        self.said.close()

    def _last_line(self) -> str:
        end = self.said.seek(0, os.SEEK_END)
        self.said.seek(max(0, end - 4096))
        lines = self.said.read().decode(errors="backslashreplace").strip().splitlines()
        return printable(lines[-1])[:_LONGEST_REASON] if lines else ""


class Processes(Generic[ItemT, ResultT]):
    """Has work done on items; each has its process, and so many are under way at once.

    Attributes:
        interrupted: Whether Ctrl-C ended it.
    """

    def __init__(
        self,
        work: Callable[[ItemT], ResultT],
        items: Sequence[ItemT],
        jobs: int,
        tell: Callable[[int, str], None] = lambda _index, _text: None,
        pulse_s: float = PULSE_S,
    ) -> None:
        """Begins nothing yet.

        Args:
            work: A function of a module, which raises PerceptionError where an item cannot be used. On Ctrl-C it gets a
                KeyboardInterrupt, and may return what it has done.
            items: What can be pickled.
            jobs: How many are under way at once, at least 1.
            tell: Called with an item's index and a word of what becomes of it.
            pulse_s: So often, in seconds, it is told of all items under way where none is done.
        """
        self.interrupted = False
        self._work = work
        self._items = items
        self._jobs = jobs
        self._tell = tell
        self._pulse_s = pulse_s
        self._waiting = deque(range(len(items)))
        self._failed: deque[int] = deque()
        self._running: dict[int, _Running] = {}
        self._selector = selectors.DefaultSelector()

    def outcomes(self) -> Iterator[Outcome[ResultT]]:
        """Yields what became of each item, in the order in which they are done, also after Ctrl-C.

        What failed is tried once more, after all others and alone, so that it has the memory for itself; bad input
        is not, see `Refused`.

        Raises:
            ConfigError: If no process can be started.
        """
        try:
            while self._waiting or self._failed or self._running:
                try:
                    self._fill()
                    done = self._next_done(self._pulse_s)
                except KeyboardInterrupt:
                    break
                if done is None:
                    self._tell_of_all()
                outcome = self._judged(*done) if done else None
                if outcome is not None:
                    yield outcome
            else:
                return
            yield from self._interrupted_outcomes()
        finally:
            self._kill()

    def _fill(self) -> None:
        """Starts processes as long as there is room."""
        while self._waiting and len(self._running) < self._jobs:
            self._start(self._waiting[0], 1)
            self._waiting.popleft()
        if self._failed and not self._running:
            self._start(self._failed[0], ATTEMPTS)
            self._failed.popleft()

    def _start(self, index: int, attempt: int) -> None:
        reading, writing = os.pipe()
        said = tempfile.TemporaryFile()  # noqa: SIM115 closed when the process has ended
        try:
            process = subprocess.Popen(
                python_command(f"from cnn_perception.jobs.worker import main\nsys.exit(main({writing}))"),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=(writing,),
                start_new_session=True,  # Ctrl-C comes by this process, once
            )
        except OSError as error:
            os.close(reading)
            said.close()
            raise ConfigError(f"no process could be started ({error.strerror}); try fewer --jobs") from None
        finally:
            os.close(writing)
        running = _Running(index, attempt, process, reading, said)
        self._running[index] = running
        self._selector.register(reading, selectors.EVENT_READ, running)
        self._tell(index, "begins" if attempt == 1 else "is tried once more")
        try:
            with process.stdin or said as pipe:
                pipe.write(pickle.dumps((self._work, self._items[index])))
        except BrokenPipeError:
            pass  # it has ended already, which its result pipe tells

    def _tell_of_all(self) -> None:
        for index, running in self._running.items():
            self._tell(index, f"at work for {time.monotonic() - running.began_s:.0f} s")

    def _next_done(self, timeout_s: float) -> tuple[_Running, object] | None:
        """Waits for the next process to end; returns it with its result, or None after so many seconds."""
        ends_s = time.monotonic() + timeout_s
        while True:
            ready = self._selector.select(max(0.0, ends_s - time.monotonic()))
            if not ready:
                return None
            for key, _ in ready:
                running: _Running = key.data
                if not running.read():
                    self._selector.unregister(running.pipe)
                    del self._running[running.index]
                    return running, running.finish()

    def _judged(self, running: _Running, result: Any) -> Outcome[ResultT] | None:  # noqa: ANN401
        """Returns the outcome of a process; None where its item is tried once more."""
        if not isinstance(result, Refused):
            return Outcome(running.index, result, attempts=running.attempt)
        if running.attempt < ATTEMPTS and not result.is_final:
            self._tell(running.index, f"failed, and is tried once more at the end: {result.reason}")
            self._failed.append(running.index)
            return None
        return Outcome(running.index, None, result.reason, running.attempt)

    def _interrupted_outcomes(self) -> Iterator[Outcome[ResultT]]:
        """Asks the processes under way for what they have done, and yields it; then what was not begun."""
        self.interrupted = True
        for running in self._running.values():
            running.process.send_signal(signal.SIGINT)
        ends_s = time.monotonic() + _END_S
        try:
            while self._running and (done := self._next_done(ends_s - time.monotonic())):
                running, result = done
                if isinstance(result, Refused):
                    yield Outcome(running.index, None, INTERRUPTED, running.attempt)
                else:
                    yield Outcome(running.index, result, attempts=running.attempt)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            pass  # who presses Ctrl-C again does not want to wait
        for index in sorted({*self._running, *self._waiting, *self._failed}):
            yield Outcome(index, None, INTERRUPTED, 0)

    def _kill(self) -> None:
        for running in self._running.values():
            running.discard()
        self._running.clear()
        self._selector.close()


def _reason(code: int, said: str) -> str:
    """Returns why a process has left no result."""
    if code == -signal.SIGKILL:
        return "its process was killed (SIGKILL), as the kernel does where the memory is full; try fewer --jobs"
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"its process ended with {how}" + (f": {said}" if said else "")

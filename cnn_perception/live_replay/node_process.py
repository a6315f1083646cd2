"""The perception_node that a bag is replayed to: a process of its own, which never outlives this one."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from cnn_perception.errors import DataError, printable
from cnn_perception.import_path import python_command

_ENDS_WITHIN_S = 10.0
"""A node ends within three seconds of a signal; on a busy machine later."""
_GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"
"""Set by ROS's wheels for one process and its libraries."""
_DIES_WITH_PARENT = (
    "import ctypes, os, runpy, signal\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"  # PR_SET_PDEATHSIG
    "if os.getppid() != {parent}: raise SystemExit(1)\n"
    "runpy.run_module('cnn_perception.perception_node', run_name='__main__', alter_sys=True)"
)
_LOG_BEGINS = "perception_node, started by evaluate_bag --live"
"""First line of a log, by which it is known as one."""
_TOLD = ("[WARN]", "[ERROR]", "[FATAL]", "error:")
_LONGEST_LOG_BYTES = 2**22


@dataclass(frozen=True)
class Usage:
    """What a process has used: seconds of CPU, and the most memory in megabytes."""

    cpu_s: float
    peak_mb: float


class NodeProcess:
    """A running perception_node; as a context it is ended at the end of the block, whatever happens.

    Attributes:
        log: The file with all that it prints.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, on_exit: Callable[[], None]
    ) -> None:
        """Starts the node.

        Args:
            arguments: ROS arguments.
            environment: Of the process.
            log: File for all that it prints.
            on_exit: Called by a thread of its own when the process has ended.

        Raises:
            DataError: If the log cannot be written, such as on a full disk.
        """
        self.log = log
        code = _DIES_WITH_PARENT.format(parent=os.getpid())
        command = python_command(code, "--ros-args", *arguments)
        variables = {name: value for name, value in environment.items() if name != _GUARD}
        with _begun(log) as file:
            self._process = subprocess.Popen(
                command,
                env={**variables, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which ends the other one in order
            )
        self._watcher = threading.Thread(target=self._watch, args=(on_exit,), name="node exit", daemon=True)
        self._watcher.start()

    def _watch(self, on_exit: Callable[[], None]) -> None:
        self._process.wait()
        on_exit()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """Ends the process as Ctrl-C would, and by force where that is not enough; harmless when it has ended."""
        try:
            if not self.has_ended:
                self._process.send_signal(signal.SIGINT)
                self._process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()  # does nothing to one that has ended
            self._process.wait()

    def end_in_words(self) -> str:
        """Returns how the process has ended, and the last line of its log."""
        code = self._process.poll()
        how = "is running" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was ended by signal {-code} ({signal.Signals(-code).name})"
        last = self._lines()[-1:] or ["nothing"]
        return printable(f"perception_node {how}; the last line of its log {self.log}: {last[0]}")

    @property
    def lines(self) -> int:
        """How many lines it has printed so far."""
        return len(self._lines())

    def said(self, waiting: tuple[int, int], most: int = 20) -> list[str]:
        """Returns the warnings and errors in its log, each once, at most so many.

        Args:
            waiting: Between which of its lines it waited for images in vain, because nobody had sent any.
            most: How many.
        """
        began, ended = waiting
        lines = self._lines()
        told = [line for line in (*lines[:began], *lines[ended:]) if any(mark in line for mark in _TOLD)]
        return list(dict.fromkeys(printable(_without_time(line)) for line in told))[:most]

    def _lines(self) -> list[str]:
        with self.log.open("rb") as file:
            text = file.read(_LONGEST_LOG_BYTES).decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()]

    def usage(self) -> Usage:
        """Returns what the process has used so far; nothing once it has ended."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        except OSError:
            return Usage(0.0, 0.0)
        ticks = int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
        peak_kib = next((int(line.split()[1]) for line in status if line.startswith("VmHWM:")), 0)
        return Usage(ticks / os.sysconf("SC_CLK_TCK"), peak_kib * 1024 / 1e6)


def _begun(log: Path) -> IO[bytes]:
    """Returns a new log, open for writing."""
    try:
        log.write_text(f"{_LOG_BEGINS}\n")
        return log.open("ab")
    except OSError as error:
        raise DataError(f"{log}: cannot be written ({error.strerror}); free or choose another --output") from None


def _without_time(line: str) -> str:
    """Returns a line of ROS's log without its time, by which repeated ones would differ."""
    parts = line.split("] ")
    return "] ".join(part for part in parts if not part.removeprefix("[").replace(".", "").isdigit())


def is_log(path: Path) -> bool:
    """Returns whether a file is the log of an earlier replay."""
    try:
        with path.open("rb") as file:
            return file.readline(100).decode(errors="replace").rstrip() == _LOG_BEGINS
    except OSError:
        return False

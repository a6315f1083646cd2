"""Tries to load a model in a process of its own, so that a running node risks nothing and goes on meanwhile.

ONNX Runtime holds Python's interpreter lock while it loads a model: minutes, where TensorRT builds an engine (which the
other process leaves in the cache). And a file that crashes ONNX Runtime would take the node with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, LONGEST_MESSAGE, ModelError, PerceptionError, one_line
from cnn_perception.fastest.choice import Choice
from cnn_perception.import_path import python_command
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline

_PR_SET_PDEATHSIG = 1
"""Source: Linux, include/uapi/linux/prctl.h."""


class IsolatedLoad:
    """One load at a time in another process, which can be cancelled from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # so that no process is begun after `cancel`
        self._process: subprocess.Popen[str] | None = None
        self._is_cancelled = False
        self._is_given_up = False

    def load(self, path: Path, options: SessionOptions, timeout_s: float) -> Choice | None:
        """Loads, verifies and warms up the model elsewhere, and forgets it.

        Args:
            path: The model file.
            options: How it is to be run.
            timeout_s: Seconds after which the process is ended.

        Returns:
            What was found to be the fastest, so that it need not be looked for again; None where it was not looked for.

        Raises:
            ModelError: If the file cannot be used; the line is the one that loading it here would give.
        """
        settings = json.dumps({**dataclasses.asdict(options), "path": str(path)}, default=str)
        with self._lock:
            self._require_wanted(path)
            try:
                self._process = subprocess.Popen(
                    python_command(f"from {__name__} import main\nsys.exit(main())", settings),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    encoding="utf-8",
                    errors="backslashreplace",  # libraries print bytes of a file
                )
            except OSError as error:
                raise ModelError(f"{path}: not loaded, no process could be started ({error.strerror})") from None
        found, said = self._wait(self._process, timeout_s, path)
        code = self._process.returncode
        if code == EXIT_OK:
            return Choice.from_json(found.rpartition("\n")[2])  # libraries may have written before it
        self._require_wanted(path)  # who does not want it any more says so before the process is killed
        lines = said.strip().splitlines()
        if code == EXIT_BAD_INPUT and lines:
            raise ModelError(lines[-1])
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise ModelError(f"{path}: loading it ends a process with {how}; export it again")

    def _require_wanted(self, path: Path) -> None:
        if self._is_cancelled:
            raise ModelError(f"{path}: not loaded, because the node ends")
        if self._is_given_up:
            raise ModelError(f"{path}: not loaded, because the node was cleaned up")

    def _wait(self, process: subprocess.Popen[str], timeout_s: float, path: Path) -> tuple[str, str]:
        """Returns what a process has written to its output and its error output when it has ended.

        Raises:
            ModelError: If it takes too long; it is ended.
        """
        try:
            return process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise ModelError(
                f"{path}: loading it takes more than {timeout_s:g} s and was given up; export it again, or raise "
                "model_timeout_s"
            ) from None

    def begin(self) -> None:
        """Forgets that loads before were given up: the files of another model come."""
        with self._lock:
            self._is_given_up = False

    def give_up(self) -> None:
        """Ends a load under way, and every one until `begin`; harmless if there is none.

        May be called from another thread, as `cancel`.
        """
        with self._lock:
            self._is_given_up = True
            self._kill()

    def cancel(self) -> None:
        """Ends a load under way, and every later one."""
        with self._lock:
            self._is_cancelled = True
            self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()


def main(argv: Sequence[str] | None = None) -> int:
    """Loads the model that the only argument describes; returns the exit code.

    Where the fastest way to run it was looked for, that is the last line of the output.
    """
    # Whatever becomes of the node: a load that nobody waits for must not go on for minutes.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):  # where a model fills the memory, this process is ended first, not the node
        Path("/proc/self/oom_score_adj").write_text("1000")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the node decides
    ((text,)) = sys.argv[1:] if argv is None else argv
    settings = json.loads(text)
    path = Path(settings.pop("path"))
    try:
        pipeline = Pipeline.load(path, SessionOptions(**settings))
    except PerceptionError as error:
        print(one_line(error, LONGEST_MESSAGE), file=sys.stderr)
        return EXIT_BAD_INPUT
    if pipeline.fastest is not None:
        print("", pipeline.fastest.to_json(), sep="\n", end="")
    return EXIT_OK

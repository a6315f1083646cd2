"""How every command ends: an error in one line, the exit code, and what a script wants to know beside it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, PerceptionError

ResultT = TypeVar("ResultT")


class Done(int):
    """An exit code, and what `--json` says beside it, see `program`.

    Attributes:
        result: Names and figures of what was done: texts, numbers, None, and mappings and sequences of these.
        record: The JSON file that holds all of them instead, as the command leaves it for people, too; None for none.
        written: Files and folders that were made or changed.
        error: Why it is not 0, on one line; empty where it is, or where nothing more is known.
    """

    result: Mapping[str, Any]
    record: Path | None
    written: tuple[Path, ...]
    error: str

    def __new__(
        cls,
        code: int = EXIT_OK,
        *,
        result: Mapping[str, Any] | None = None,
        record: Path | None = None,
        written: Iterable[Path] = (),
        error: str = "",
    ) -> Done:
        """Makes a code of these."""
        self = super().__new__(cls, code)
        self.result = result or {}
        self.record = record
        self.written = tuple(written)
        self.error = error
        return self


def exit_code(work: Callable[[], int | None], interrupted: str = "") -> int:
    """Returns the exit code of a command after doing its work.

    Args:
        work: Prints its results, and returns an exit code, `Done` or a plain one, None for success; raises
            PerceptionError where the input cannot be used.
        interrupted: What is said on Ctrl-C; empty says nothing.
    """
    try:
        code = work()
    except PerceptionError as error:
        return bad_input(error)
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return Done(EXIT_INTERRUPTED, error=interrupted or "interrupted")
    return Done() if code is None else code


def despite_ctrl_c(work: Callable[[bool], ResultT]) -> ResultT:
    """Returns what short work returns that must not be lost, as the record of what took long.

    Args:
        work: Leaves the same however often it is begun. Where Ctrl-C ends it, it is done once more, and is told so by
            True; another Ctrl-C ends that.
    """
    try:
        return work(False)
    except KeyboardInterrupt:
        return work(True)


def bad_input(error: PerceptionError) -> int:
    """Returns the exit code for input that cannot be used, after printing why."""
    print(f"error: {error}", file=sys.stderr)
    return Done(EXIT_BAD_INPUT, error=str(error))


_told: list[Callable[[Done], object]] = []
"""Is called where the process ends at once."""


@contextlib.contextmanager
def telling_of_end(tell: Callable[[Done], object]) -> Iterator[None]:
    """Has somebody told, in whatever thread, where the process ends at once during this block."""
    _told.append(tell)
    try:
        yield
    finally:
        _told.remove(tell)


def end_at_once(code: int, error: str = "") -> NoReturn:
    """Ends this process without any clean-up, in whatever thread; what `--json` promises is said all the same."""
    try:
        for tell in _told:
            tell(Done(code, error=error))
    finally:
        os._exit(code)


_SIGEV_THREAD = 2
"""Source: glibc and musl, signal.h."""


class _Sigevent(ctypes.Structure):
    """`struct sigevent` of glibc and musl, which says what a timer calls, with which number."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_int * 8),
    )


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


def end_after(seconds: float, code: int) -> None:
    """Ends this process after so many seconds, if it is still there, although a thread keeps Python's lock for ever.

    Then no thread of Python comes to do that, nor a handler of a signal: a timer of the C library calls its `_exit`.
    Nothing is cleaned up or said. Without effect where the C library has no such timers.

    Args:
        seconds: From now on.
        code: The exit code.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "timer_create"):  # macOS, and glibc before 2.34, which has them in another library
        return
    event = _Sigevent(value=code, notify=_SIGEV_THREAD, function=ctypes.cast(libc._exit, ctypes.c_void_p).value)
    timer = ctypes.c_void_p()
    if libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) == 0:
        when = _Itimerspec(first_s=int(seconds), first_ns=int(seconds % 1 * 1e9))
        libc.timer_settime(timer, 0, ctypes.byref(when), None)


def there(folder: Path, *names: str) -> list[Path]:
    """Returns those files of a folder that are there, after the folder itself."""
    return [folder, *(path for path in (folder / name for name in names) if path.exists())]

"""What every command tells a script: by `--json`, one JSON object as the only line of its standard output."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import numbers
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from cnn_perception.commands.ending import Done, bad_input, telling_of_end
from cnn_perception.errors import (
    EXIT_BAD_INPUT,
    EXIT_CODES,
    EXIT_DEFECT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    ConfigError,
    with_kind,
)

OPTION = "--json"
HELP = "at the end one JSON object as the only line of standard output; all else goes to standard error"


class Main(Protocol):
    """The `main` of a command: it takes the words after the program's name, None for those of the process."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Returns the exit code; `Done` says more."""


def program(name: str) -> Callable[[Main], Main]:
    """Makes a command of a `main`: one that knows `--json`, wherever among its words that stands.

    The object holds `command`, `exit_code`, its `meaning`, the `error` that says more or null, `result` and `written`,
    the paths; these two are those of the `Done` that `main` returns. Numbers that JSON does not have are null.

    Args:
        name: Of the command, as a user knows it.
    """

    def made(main: Main) -> Main:
        @functools.wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            words = sys.argv[1:] if argv is None else list(argv)
            _watch_output()
            try:
                return _flushed(_ended(name, main, words))
            except SystemExit:  # of the parser, after its help
                _flushed(EXIT_OK)
                raise

        return run

    return made


def _ended(name: str, main: Main, words: Sequence[str]) -> int:
    main = _in_a_folder(main)
    if OPTION in words:
        return _answered(name, main, [word for word in words if word != OPTION])
    return _helped(main, words) if {"-h", "--help"} & {*words} else main(words)


def _in_a_folder(main: Main) -> Main:
    """Returns a `main` that refuses to run in a folder that is gone: nothing has an absolute path there."""

    def run(argv: Sequence[str] | None = None) -> int:
        try:
            Path.cwd()
        except OSError as error:
            return bad_input(
                ConfigError(f"the folder this was called in is gone ({error.strerror}); cd into one that is there")
            )
        return main(argv)

    return run


class _Output(io.TextIOWrapper):
    """Standard output, or error, that a command outlives: its reader may go, as `head` does, and its disk fill up.

    Attributes:
        failure: Why something could not be printed; None while all could.
    """

    failure: OSError | None = None

    def write(self, text: str, /) -> int:
        """Writes a text, or loses it."""
        with self._going_on():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Writes what waits, or loses it."""
        with self._going_on():
            super().flush()

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # where all that follows goes


def _watch_output() -> None:
    """Makes standard output and error ones that do not end a process; what an encoding has not, becomes escapes."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed before the command began, and no file may take its place
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115 PTH123 to the end
    sys.stdout = _outlived(sys.stdout, sys.__stdout__)
    sys.stderr = _outlived(sys.stderr, sys.__stderr__)


def _outlived(given: TextIO, of_process: TextIO | None) -> TextIO:
    """Returns what takes the place of a stream: itself where somebody has put it there, as tests do."""
    if not isinstance(given, io.TextIOWrapper) or given is not of_process:
        return given
    with contextlib.suppress(OSError):
        given.flush()
    return _Output(
        given.buffer,
        given.encoding,
        "backslashreplace",
        line_buffering=given.line_buffering,
        write_through=given.write_through,
    )


def _flushed(code: int) -> int:
    """Returns the exit code once all is printed: what a full disk has swallowed was not told."""
    output = sys.stdout
    if not isinstance(output, _Output):
        return code
    output.flush()
    if output.failure is None or isinstance(output.failure, BrokenPipeError):
        return code
    return bad_input(ConfigError(f"standard output cannot be written ({output.failure.strerror}); free the disk"))


def _helped(main: Main, words: Sequence[str]) -> int:
    try:
        return main(words)
    finally:
        print(f"\n  {OPTION:<20}  {HELP}")


def _answered(name: str, main: Main, words: Sequence[str]) -> int:
    """Returns the exit code after the command and its line; a defect is passed on after that."""
    done: int = Done(EXIT_DEFECT)
    try:
        with _all_on_stderr(name):
            done = main(words)
    except SystemExit as ended:  # the command line is wrong, or only help was wanted
        done = _of_parser(ended)
    except KeyboardInterrupt:  # before the command was ready for it
        done = Done(EXIT_INTERRUPTED, error="interrupted")
        raise
    except BaseException as error:
        done = Done(EXIT_DEFECT, error=with_kind(error))
        raise
    finally:
        print(_line(name, done))
    return done


def _of_parser(ended: SystemExit) -> Done:
    code = ended.code if isinstance(ended.code, int) else EXIT_OK if ended.code is None else EXIT_DEFECT
    return Done(code, error="the command line is wrong, see standard error" if code == EXIT_BAD_INPUT else "")


def _line(name: str, done: int) -> str:
    said = done if isinstance(done, Done) else Done(done)
    answer = {
        "command": name,
        "exit_code": int(said),
        "meaning": EXIT_CODES.get(int(said), "unknown"),
        "error": said.error or None,
        "result": json.loads(said.record.read_text()) if said.record else said.result,
        "written": list(map(str, said.written)),
    }
    return json.dumps(_plain(answer), allow_nan=False)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Returns a value as JSON has it; the numbers of numpy are numbers, what JSON has no word for is its text."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return str(value)


@contextlib.contextmanager
def _all_on_stderr(name: str) -> Iterator[None]:
    """Leads what this process and its children print to standard error during this block."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        with (
            contextlib.redirect_stdout(sys.stderr),
            telling_of_end(lambda done: os.write(own, f"{_line(name, done)}\n".encode())),
        ):
            yield
    finally:
        os.dup2(own, 1)
        os.close(own)

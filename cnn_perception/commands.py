"""How commands are written for a shell, and how every command ends: an error in one line, and the exit code."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import PurePath

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, PerceptionError


def for_shell(*words: object) -> str:
    """Returns a command on one printable line, of which a shell makes these words again, whatever is in them.

    Args:
        *words: Texts and paths. A path that begins with a dash becomes ./- so that nothing takes it for an option.
    """
    return " ".join(map(_quoted, words))


def _quoted(word: object) -> str:
    text = str(word)
    if isinstance(word, PurePath) and text.startswith("-"):
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    # newlines, and the bytes of names that are no UTF-8, as bash, zsh and POSIX of 2024 read them
    return f"$'{''.join(map(_escaped, os.fsencode(text)))}'"


def _escaped(byte: int) -> str:
    is_plain = 0x20 <= byte < 0x7F and byte not in b"\\'"
    return chr(byte) if is_plain else f"\\{byte:03o}"


def exit_code(work: Callable[[], int | None], interrupted: str = "") -> int:
    """Returns the exit code of a command after doing its work.

    Args:
        work: Prints its results, and returns an exit code, None for success; raises PerceptionError where the input
            cannot be used.
        interrupted: What is said on Ctrl-C; empty says nothing.
    """
    try:
        code = work()
    except PerceptionError as error:
        return bad_input(error)
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK if code is None else code


def bad_input(error: PerceptionError) -> int:
    """Returns the exit code for input that cannot be used, after printing why."""
    print(f"error: {error}", file=sys.stderr)
    return EXIT_BAD_INPUT

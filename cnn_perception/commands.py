"""How every command ends: an error in one line, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, PerceptionError


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

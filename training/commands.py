"""What the commands have in common: an error in one line, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, PerceptionError


def exit_code(work: Callable[[], object], interrupted: str) -> int:
    """Does the work of a command and returns its exit code.

    Args:
        work: Prints what it finds; raises PerceptionError where the input cannot be used.
        interrupted: What is said on Ctrl-C.
    """
    try:
        work()
    except PerceptionError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK

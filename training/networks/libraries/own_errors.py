"""Errors in the code of a user's network: one line with the place in the user's file."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnn_perception.errors import ConfigError, PerceptionError, one_line

MODULE = "own_module_"
"""What the name of a user's file as a module begins with."""


@contextmanager
def blamed(doing: str) -> Iterator[None]:
    """Says of an error in the code of a user's network in one line where it is; leaves others as they are.

    Args:
        doing: What is done with the network, for the message.

    Raises:
        ConfigError: In place of it.
    """
    try:
        yield
    except PerceptionError:
        raise
    except (Exception, SystemExit) as error:  # whatever the code of a user raises
        path = _file_in(error)
        if path is None:
            raise
        raise failure(path, doing, error) from None


def _file_in(error: BaseException) -> Path | None:
    """Returns the user's file that had a part in an error; None without one."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    own = (frame.f_code.co_filename for frame in frames if frame.f_globals.get("__name__", "").startswith(MODULE))
    found = next(own, None)
    return None if found is None else Path(found)


def failure(path: Path, doing: str, error: BaseException) -> ConfigError:
    """Returns the error with the last line of the user's file that had a part in it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else (lines or [None])[-1]
    where = f"{path}:{line}" if line else str(path)
    cure = "mend the file"
    if isinstance(error, ModuleNotFoundError):
        cure = "install that package, or put all of the network into this one file"
    return ConfigError(f"{where}: {doing} failed ({type(error).__name__}: {one_line(error, 160)}); {cure}")

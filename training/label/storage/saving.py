"""Writes the files of a session, and says what keeps them from being written."""

from __future__ import annotations

import errno
from pathlib import Path

from cnn_perception import files
from cnn_perception.errors import DataError


class NotSavedError(DataError):
    """Something is not on the disk; the same can be tried again once its cause is mended."""


def save(path: Path, content: bytes) -> None:
    """Writes a file: whole, or as it was before.

    Raises:
        NotSavedError: If the disk is full or the folder cannot be written to.
    """
    try:
        with files.replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise not_saved(path, error) from None


def not_saved(path: Path, error: OSError) -> NotSavedError:
    """Returns the error that a file could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotSavedError(f"{path}: disk full; free some space")
    return NotSavedError(f"{path}: cannot be written ({error.strerror}); make its folder writable")

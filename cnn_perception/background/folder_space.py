"""A folder that files are written into for as long as a robot runs: how full it is, and why it cannot be written."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path


def size_bytes(folder: Path) -> int:
    """Returns the size of all files below a folder, which need not exist."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # somebody makes room at this moment
                size += (Path(parent) / name).lstat().st_size
    return size


def why_not_written(folder: Path, error: OSError) -> str:
    """Returns why a folder cannot be written, and what to do about it, in one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{folder}: disk full; free some space"
    return f"{folder}: cannot be written ({error.strerror or error}); check the folder and its permissions"

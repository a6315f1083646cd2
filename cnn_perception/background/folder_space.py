"""A folder that files are written into for as long as a robot runs: how full it is, and why it cannot be written."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from cnn_perception import files


def size_bytes(folder: Path) -> int:
    """Returns the size of all files below a folder, which need not exist."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # somebody makes room at this moment
                size += (Path(parent) / name).lstat().st_size
    return size


def made_writable(folder: Path) -> int:
    """Makes a folder and returns the size of all files below it, `size_bytes`.

    A file is written and removed: the permissions alone know nothing of a disk that is full or read-only.

    Raises:
        OSError: If nothing can be written there, see `why_not_written`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # as the system says it of a file whose folder is to be made
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    files.try_to_write(folder)
    return size_bytes(folder)


_OTHER_FOLDER = "or choose another folder"
_REMEDIES = {
    errno.EROFS: f"mount its disk so that it can be written, {_OTHER_FOLDER}",
    errno.EACCES: f"give this user the right to write there, {_OTHER_FOLDER}",
    errno.EPERM: f"give this user the right to write there, {_OTHER_FOLDER}",
    errno.ENOENT: f"it or its disk is not there: put it back, {_OTHER_FOLDER}",
    errno.EIO: f"its disk fails: look at dmesg, {_OTHER_FOLDER}",
}


def why_not_written(folder: Path, error: OSError) -> str:
    """Returns why a folder cannot be written, and what to do about it, in one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{folder}: disk full; free some space"
    remedy = _REMEDIES.get(error.errno or 0, "check the folder and its permissions")
    return f"{folder}: cannot be written ({error.strerror or error}); {remedy}"

"""Paths as users write them, and files that are complete or as before, and nobody else's."""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO

from cnn_perception.errors import ConfigError


def expanded(path: str | Path) -> Path:
    """Returns a path with a leading `~` or `~user` replaced by the home folder.

    Raises:
        ConfigError: If there is no such user, or no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # pathlib's way of saying so
        user = Path(path).parts[0].removeprefix("~")
        missing = f"user {user!r}" if user else "home folder"
        raise ConfigError(f"there is no {missing} for {str(path)!r}; write the whole path") from None


def given_path(text: str) -> Path:
    """Returns a path of a command line, see `expanded`; the `type` of every option that names one.

    A shell leaves the `~` of `--output=~/run`, and of what is quoted, as it is.

    Raises:
        argparse.ArgumentTypeError: If there is no such user, or no home folder.
    """
    try:
        return expanded(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def given_name(text: str) -> str:
    """Returns a text of a command line that may be a path, as `given_path` does, or else a name, as it is.

    Raises:
        argparse.ArgumentTypeError: If there is no such user, or no home folder.
    """
    return str(given_path(text)) if text.startswith("~") else text


def as_utf8(text: str) -> bytes:
    """Returns a text as UTF-8; the odd bytes of a file name that is none are written as escapes."""
    return text.encode(errors="backslashreplace")


@contextmanager
def replacing(path: Path, *, waits: bool = True) -> Iterator[IO[bytes]]:
    """Opens a new file that takes the place of `path` once it is complete and, if this `waits`, on the disk.

    It is written beside its place, flushed to the disk and then renamed: a crash at any moment leaves the old file or
    the new one, never half of one. Links are not followed: what takes the place of one leaves its target alone. Until
    then it is locked, by which `remove_unfinished` knows that somebody writes it.

    Args:
        path: What is written, or replaced.
        waits: Whether it is flushed; where not, only a crash of the process is survived, and `flush` is still to come.

    Raises:
        OSError: If the disk is full or the folder cannot be written to; an older file stays as it was.
    """
    unfinished, file = _begun(path)
    try:
        with file:
            yield file
            file.flush()
            if waits:
                os.fsync(file.fileno())
            with suppress(OSError):  # some network disks rename no file that is open
                unfinished.replace(path)
        if os.path.lexists(unfinished):
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    if waits:
        flush(path.parent)


_ATTEMPTS = 5
"""To lock a new file before another process takes it for a rest; whoever writes says then that it is gone."""
_LOCKED_WITHIN_S = 1.0
"""Nobody holds the lock of a new file for longer than it takes to remove it."""


def _begun(path: Path) -> tuple[Path, IO[bytes]]:
    """Returns a new, locked file beside a path, and its name: .NAME.RANDOM.PROCESS.tmp.

    Processes of two containers that share the folder may have the same number.
    """
    attempt = 0
    while True:
        attempt += 1
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{os.getpid()}.tmp")
        try:
            file = unfinished.open("xb")  # which follows no link
        except FileExistsError:
            continue
        is_ours = True
        with suppress(OSError):  # on a disk that cannot lock, the process's number has to do
            is_ours = _lock(file.fileno(), time.monotonic() + _LOCKED_WITHIN_S)
        if (is_ours and os.path.lexists(unfinished)) or attempt == _ATTEMPTS:
            return unfinished, file
        file.close()  # another process took it for a rest before it was locked
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Removes what `replacing` was writing in a folder when its process was killed; what others are writing stays.

    A process of another container, which has its numbers for itself, is known by the lock that it holds.
    """
    for path in folder.glob(".*.tmp"):
        number = path.name.removesuffix(".tmp").rpartition(".")[2]
        if number.isdecimal() and not _runs(int(number)):
            with suppress(OSError):  # a rest costs nothing but room
                _remove_if_free(path)


def _remove_if_free(path: Path) -> None:
    """Removes a file unless somebody has locked it.

    Raises:
        OSError: If it cannot be opened or removed; so for a link, which is not followed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _is_free(descriptor):
            path.unlink()  # before the lock is given back
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    """Locks a file, as far as its disk can; returns whether nobody else has."""
    try:
        return _is_locked(descriptor)
    except OSError:  # it cannot
        return True


def _runs(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


_TRIED_EVERY_S = 0.005


@contextmanager
def alone_in(folder: Path, patience_s: float) -> Iterator[None]:
    """Keeps out whoever else does this with a folder: from before a file is read until it is written again.

    It is a courtesy between programs that change one table. Where the folder cannot be locked, as on some network
    disks, or another program holds it for longer, as one that was stopped does, this one goes on all the same.

    Args:
        folder: Of the files.
        patience_s: How long another program may take.
    """
    with ExitStack() as opened:
        with suppress(OSError):  # whoever writes there says what is wrong
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, descriptor)
            _lock(descriptor, time.monotonic() + patience_s)
        yield


def _lock(descriptor: int, ends_s: float) -> bool:
    """Waits for a lock until it has it, or no longer; returns whether it has."""
    while not (is_locked := _is_locked(descriptor)) and time.monotonic() < ends_s:
        time.sleep(_TRIED_EVERY_S)
    return is_locked


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def require_unused(paths: Iterable[Path], record: Path, fields: Collection[str]) -> None:
    """Refuses to overwrite files that another program or a human made.

    Args:
        paths: What is going to be written.
        record: The JSON file by which an earlier result of the same program is known; its files may be replaced.
        fields: What that has at least.

    Raises:
        ConfigError: If one of the files is there already, and not of this program.
    """
    if has_fields(record, fields):
        return
    for path in paths:
        if os.path.lexists(path):
            raise ConfigError(f"{path}: is there already, and not of an earlier run; choose another --output")


def require_other(path: Path, inputs: Iterable[Path]) -> None:
    """Refuses to overwrite what is read.

    Raises:
        ConfigError: If an output is one of the inputs, under whatever name.
    """
    for one in inputs:
        with suppress(OSError, ValueError):  # no such file
            if path.samefile(one):
                raise ConfigError(f"{path}: is read, and would be overwritten; choose another output")


def require_reachable(path: Path) -> None:
    """Refuses a path of which nobody can tell what is there.

    Raises:
        ConfigError: If no file can have the name, or the folders above it may not be looked into.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return  # whoever opens it says so
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot be looked at ({reason}); check the path and its permissions") from None


_TRIAL_BYTES = 4096


def require_writable(folder: Path) -> None:
    """Refuses a folder in which no file can be written, before anything takes long; one that is not there is not made.

    A file is written and removed: the permissions alone know nothing of a disk that is full or read-only.

    Raises:
        ConfigError: If it is no folder, or neither it nor the nearest folder above it takes a file.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(place):  # noqa: PTH112 not Path.is_dir, which raises for a name that no file can have
        raise ConfigError(f"{folder}: cannot be made ({os.strerror(errno.ENOTDIR)}); choose another --output")
    try:
        try_to_write(place)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}); free or choose another --output") from None


def try_to_write(folder: Path) -> None:
    """Writes a file into a folder and removes it.

    Raises:
        OSError: If that cannot be, as on a disk that is full or read-only.
    """
    trial, file = _begun(folder / "trial")
    try:
        with file:
            file.write(bytes(_TRIAL_BYTES))
    finally:
        trial.unlink(missing_ok=True)


def require_outside(path: Path, folder: Path) -> None:
    """Refuses to write into a folder that is read: what is written would be read with it the next time.

    Raises:
        ConfigError: If a path is that folder, or below it, when all links are followed.
    """
    # not Path.is_dir, which raises for a name that no file can have
    if os.path.isdir(folder) and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):  # noqa: PTH112
        raise ConfigError(f"{path}: lies in {folder}, which is read; choose another output")


def has_fields(path: Path, fields: Collection[str]) -> bool:
    """Returns whether a file is a JSON object with at least these fields, as an earlier result of a program."""
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= set(fields)


def flush(path: Path) -> None:
    """Brings a file, or what was made or renamed in a folder, to the disk.

    Raises:
        OSError: If that fails for a file. Of folders it is left where their file system cannot: the files are whole.
    """
    with suppress(OSError) if path.is_dir() else nullcontext():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

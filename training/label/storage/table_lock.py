"""One labelling process a table: a lock that ends with its process, however that ends.

The system's lock holds for all programs of one machine, and on network disks that pass locks on. For others the file of
the lock shows signs of life: a number that its holder raises, and the machine on which it does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.errors import DataError, printable
from training.label.storage.saving import not_saved

_LONGEST = 400
_BEAT_S = 1.0
"""How often the holder shows that it lives."""
_SILENCE_S = 4.0
"""A holder on another machine that shows nothing for so long has ended."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class _Sign:
    """What stands in the file of a lock.

    Attributes:
        beat: The number that rises, as text.
        machine: See `machine`.
        by: Who holds the lock, in words.
    """

    beat: str
    machine: str
    by: str


@contextmanager
def locked(table: Path, by: str) -> Iterator[None]:
    """Holds the lock of a table.

    Args:
        table: The file; the lock is one beside it.
        by: Who holds it, for whoever wants it meanwhile.

    Raises:
        DataError: If another process holds it, which is named; or there can be no lock.
    """
    file = table.with_name(f".{table.name}.lock")
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise not_saved(file, error) from None
    try:
        _take(descriptor, table)
        _require_silence(file, table)
        with _living(descriptor, by):
            yield
    finally:
        os.close(descriptor)


def machine() -> str:
    """Returns by what programs know that they run on one machine: containers on one do, whatever their names."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return socket.gethostname()


def _take(descriptor: int, table: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise DataError(f"{table}: cannot be locked ({error.strerror}); copy the set to a local disk") from None
        raise _held(table, _sign(os.pread(descriptor, _LONGEST, 0))) from None


def _require_silence(file: Path, table: Path) -> None:
    """Refuses a table whose lock somebody holds whom the system's lock does not keep out.

    Raises:
        DataError: If there are signs of life from another machine.
    """
    first = _sign(_content(file))
    if first is None or first.machine == machine():
        return
    ends_s = time.monotonic() + _SILENCE_S
    while time.monotonic() < ends_s:
        now = _sign(_content(file))
        if now is None:
            return
        if now != first:
            raise _held(table, _Sign(now.beat, now.machine, f"{now.by}, on another machine"))
        time.sleep(_BEAT_S / 10)


@contextmanager
def _living(descriptor: int, by: str) -> Iterator[None]:
    """Shows signs of life; afterwards nothing stands in the file."""
    has_ended = threading.Event()
    here = machine()

    def beat() -> None:
        number = 0
        while not has_ended.is_set():
            number += 1
            with suppress(OSError):  # a disk that is full; what stands there was enough a moment ago
                os.pwrite(descriptor, f"{number:012} {here} {by}\n".encode(errors="replace"), 0)
            has_ended.wait(_BEAT_S)

    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{0:012} {here} {by}\n".encode(errors="replace"), 0)
    thread = threading.Thread(target=beat, name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()
        os.ftruncate(descriptor, 0)


def _content(file: Path) -> bytes:
    """Returns what stands in a file now: network disks look only when it is opened."""
    try:
        with file.open("rb") as opened:
            return opened.read(_LONGEST)
    except OSError:
        return b""


def _sign(content: bytes) -> _Sign | None:
    """Returns what a file of a lock says; None if nothing."""
    beat, _, rest = content.decode(errors="replace").strip().partition(" ")
    where, _, by = rest.partition(" ")
    return _Sign(beat, where, printable(by)) if by else None


def _held(table: Path, sign: _Sign | None) -> DataError:
    who = sign.by if sign is not None else "another process"
    return DataError(f"{table}: is being labelled by {who}; go on there, or end that first")

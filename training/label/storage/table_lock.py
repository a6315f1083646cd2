"""One labelling process a table: a lock that ends with its process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnn_perception.errors import DataError, printable
from training.label.storage.saving import not_saved

_LONGEST = 200


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
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, by.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, table: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise DataError(f"{table}: cannot be locked ({error.strerror}); copy the set to a local disk") from None
        holder = printable(os.pread(descriptor, _LONGEST, 0).decode(errors="replace")) or "another process"
        raise DataError(f"{table}: is being labelled by {holder}; go on there, or end that first") from None

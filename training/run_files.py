"""Files of a run: whole or as before, written by the first of several processes, with an error that says what to do."""

from __future__ import annotations

import csv
import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cnn_perception import files
from cnn_perception.errors import ConfigError, DataError, ModelError
from cnn_perception.model.onnx_file import read_onnx_file
from cnn_perception.model.spec import METADATA_KEY


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Opens a new file as `files.replacing` does; of several processes the first one alone writes it.

    Raises:
        DataError: If the disk is full or the folder cannot be written to; an older file stays as it was.
    """
    if not _is_first_process():
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            yield nowhere
        return
    try:
        with files.replacing(path) as file:
            yield file
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{path}: disk full; free some space and continue with --resume") from None
        raise DataError(f"{path}: cannot be written ({cause.strerror}); choose another --output") from None


def make_folder(folder: Path) -> None:
    """Makes a folder for files of a run, and those above it; one that is there stays as it is.

    Raises:
        DataError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror}); choose another --output") from None


def make_output(folder: Path) -> None:
    """Makes the folder of `--output` as `make_folder` does, before anything takes long.

    Raises:
        ConfigError: If it cannot be made or written to, see `files.require_writable`.
        DataError: If it cannot be made all the same.
    """
    files.require_writable(folder)
    make_folder(folder)


def require_own_model(path: Path) -> None:
    """Refuses to overwrite what is no model file of ours, such as another program's.

    Raises:
        ConfigError: If there is such a file.
    """
    if not os.path.lexists(path):
        return
    try:
        is_own = METADATA_KEY in read_onnx_file(path).metadata
    except ModelError:
        is_own = False
    if not is_own:
        raise ConfigError(f"{path}: is there already and no model file of ours; choose another --output")


def write_text(path: Path, text: str) -> None:
    """Writes a text file as `replacing` does."""
    with replacing(path) as file:
        file.write(files.as_utf8(text))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table that is complete or absent; a name that is no UTF-8 keeps its bytes as escapes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([files.as_utf8(str(v)).decode() for v in row] for row in rows)
    write_text(path, text.getvalue())


def _is_first_process() -> bool:
    """Returns whether this process writes; without torch, which takes seconds to import, there is no other."""
    if sys.modules.get("torch") is None:
        return True
    from training import distributed

    return distributed.rank() == 0


def _os_error(error: BaseException | None) -> OSError | None:
    """The OSError behind an error: torch.save raises a RuntimeError of its own when a write fails."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error

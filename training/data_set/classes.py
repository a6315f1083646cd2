"""The classes of a data set, which may be chosen for its images: a file with a name a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cnn_perception.errors import DataError
from training.data_set.columns import CLASSES_FILE
from training.run_files import write_text


def read(folder: Path) -> tuple[str, ...]:
    """Returns the names of the classes in order, or those of the numbers; none where there is no such file.

    Args:
        folder: Of the data set.

    Raises:
        DataError: If the file cannot be read, or names a class twice.
    """
    file = folder / CLASSES_FILE
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); write one name a line") from None
    except UnicodeError:
        raise DataError(f"{file}: is not UTF-8 text; write one name a line") from None
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{file}: names {twice[0]!r} twice; name each class once")
    return names


def write(folder: Path, names: Sequence[str]) -> None:
    """Writes the names: whole, or as the file was before.

    Raises:
        DataError: If a name cannot be a line, the disk is full or the folder cannot be written to.
    """
    if odd := [name for name in names if name != " ".join(name.splitlines()).strip() or not name]:
        raise DataError(f"{folder / CLASSES_FILE}: cannot hold the name {odd[0]!r}; rename the class")
    write_text(folder / CLASSES_FILE, "".join(f"{name}\n" for name in names))

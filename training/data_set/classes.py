"""The classes of a data set, which may be chosen for its images: a file with a name a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cnn_perception.errors import DataError
from cnn_perception.files import as_utf8
from cnn_perception.label_text import NONE_OF_THESE
from training.data_set.columns import CLASSES_FILE
from training.run_files import replacing

_SEPARATORS = re.compile("[;|]")
"""What stands between the classes of one image."""


def read(folder: Path) -> tuple[str, ...]:
    """Returns the names of the classes in order, or those of the numbers; none where there is no such file.

    Args:
        folder: Of the data set.

    Raises:
        DataError: If the file cannot be read, or names a class twice, or what says that an image is of no class.
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
    if NONE_OF_THESE in names:
        raise DataError(f"{file}: {NONE_OF_THESE!r} is what an image of no class is labelled; remove it or rename it")
    return names


def require_separable(names: Sequence[str], where: str) -> None:
    """Refuses names of which a cell with several classes cannot be made up.

    Args:
        names: Of the classes.
        where: What names them, for the error.

    Raises:
        DataError: If one holds what stands between classes.
    """
    for name in names:
        if _SEPARATORS.search(name):
            raise DataError(
                f"{where}: {name!r} holds ';' or '|', which stand between the classes of an image; rename it"
            )


def content(folder: Path, names: Sequence[str]) -> bytes:
    """Returns what stands in the file once the names are written.

    Raises:
        DataError: If a name cannot be a line.
    """
    if odd := [name for name in names if name != " ".join(name.splitlines()).strip() or not name]:
        raise DataError(f"{folder / CLASSES_FILE}: cannot hold the name {odd[0]!r}; rename the class")
    return as_utf8("".join(f"{name}\n" for name in names))


def write(folder: Path, names: Sequence[str]) -> None:
    """Writes the names: whole, or as the file was before.

    Raises:
        DataError: If a name cannot be a line, the disk is full or the folder cannot be written to.
    """
    with replacing(folder / CLASSES_FILE) as file:
        file.write(content(folder, names))

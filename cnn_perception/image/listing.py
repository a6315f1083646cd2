"""Lists the images of a folder: the same files for training, evaluation, cameras and galleries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cnn_perception.errors import DataError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Of the formats that `compressed.decode_file_bytes` reads, in lower case."""
ARCHIVER_FOLDERS = frozenset({"__MACOSX"})
"""Folders that archivers leave behind, with files that only look like the images they belong to."""


def image_files(folder: Path, ignored: Counter[str] | None = None, recursive: bool = True) -> Iterator[Path]:
    """Yields the images of a folder in the order of their paths; no file is opened.

    Links are followed, but no folder is entered twice. Hidden files, other suffixes, pipes and devices are left out.

    Args:
        folder: Where to look.
        ignored: Counts what is left out, by its kind in words.
        recursive: Whether to look into the folders below, too.

    Raises:
        DataError: If a folder cannot be listed.
    """
    yield from _image_files(folder, Counter() if ignored is None else ignored, set(), recursive)


def visible_folders(folder: Path) -> list[Path]:
    """Returns the folders in a folder, sorted, without the hidden ones and those that archivers leave behind.

    Raises:
        DataError: If it cannot be listed.
    """
    return [path for path in _listed(folder) if path.is_dir() and not is_hidden(path)]


def is_hidden(path: Path) -> bool:
    """Returns whether a file or folder is one that no person put there as an image or as a class."""
    return path.name.startswith(".") or path.name in ARCHIVER_FOLDERS


def _image_files(folder: Path, ignored: Counter[str], entered: set[Path], recursive: bool) -> Iterator[Path]:
    real = folder.resolve()
    if real in entered:
        ignored["folders linked twice"] += 1
        return
    entered.add(real)
    for path in _listed(folder):
        if is_hidden(path):
            ignored["hidden files"] += 1
        elif path.is_dir():
            if recursive:
                yield from _image_files(path, ignored, entered, recursive)
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            ignored[f"not an image ({path.suffix.lower() or 'no suffix'})"] += 1
        elif path.exists() and not path.is_file():  # reading a pipe would wait for ever
            ignored["pipes and devices"] += 1
        else:
            yield path


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); mend its permissions") from None

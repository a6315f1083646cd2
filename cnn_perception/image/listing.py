"""Lists the images of a folder: the same files for training, evaluation, cameras and galleries.

What a file is, its first bytes say, whatever it is called; what only its name calls a picture is listed, too, so that
it is refused by name when it is read and not passed over. Links are followed, and each real file is listed once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from cnn_perception.errors import DataError
from cnn_perception.image.file_formats import HEAD_BYTES, has_picture_suffix, is_picture

JUNK_FOLDERS = frozenset((
    "__macosx", "@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin",
    "system volume information", "lost+found", "__pycache__",
))  # fmt: skip
"""Folders that archivers, NAS boxes and systems leave behind, in lower case: they hold thumbnails and what was deleted.
Those that begin with a dot, as .ipynb_checkpoints and .thumbnails do, are hidden."""
JUNK_FILES = frozenset(("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"))
"""Files that file browsers leave behind, in lower case."""
JUNK_SUFFIXES = frozenset((".thm", ".lrv"))
"""Of the previews that cameras write beside their films."""

HIDDEN = "hidden files"
JUNK = "leftovers of archivers, NAS boxes and file browsers"
LINKED_FOLDERS = "folders linked twice"
LINKED_FILES = "files linked twice"
BROKEN_LINKS = "links to nothing"


def image_files(
    folder: Path,
    ignored: Counter[str] | None = None,
    recursive: bool = True,
    listed: Callable[[], object] = lambda: None,
) -> list[Path]:
    """Returns the pictures of a folder in the order of their paths, readable or not.

    No folder is entered twice, and of several links to one file, or a link and its file, one is taken: the file itself
    if it lies here. Of a file whose name does not call it a picture the first bytes are read, and nothing more. Hidden
    files, leftovers, other files, pipes and devices are left out; links to nothing are listed where they are named as
    pictures.

    Args:
        folder: Where to look.
        ignored: Counts what is left out, by its kind in words.
        recursive: Whether to look into the folders below, too.
        listed: Is called for every file.

    Raises:
        DataError: If a folder cannot be listed.
    """
    counted = Counter[str]() if ignored is None else ignored
    first: dict[Path, Path] = {}
    for path, real in _files(folder, counted, set(), recursive):
        listed()
        if not _is_picture(path, counted):
            continue
        before = first.setdefault(real, path)
        if before is not path:
            counted[LINKED_FILES] += 1
            if before.is_symlink() and not path.is_symlink():
                first[real] = path
    return sorted(first.values())


def visible_folders(folder: Path) -> list[Path]:
    """Returns the folders in a folder, sorted, without the hidden ones and leftovers.

    Raises:
        DataError: If it cannot be listed.
    """
    return [path for path in _listed(folder) if not is_passed_over(path) and path.is_dir()]


def broken_links(folder: Path) -> list[Path]:
    """Returns the links to nothing that lie in a folder.

    Raises:
        DataError: If it cannot be listed.
    """
    return [path for path in _listed(folder) if not is_passed_over(path) and not path.exists()]


def is_passed_over(path: Path) -> bool:
    """Returns whether a file or folder is hidden or a leftover, which no person put there as an image or a class."""
    return _left_over(path) is not None


def in_words(ignored: Counter[str]) -> str:
    """Returns what was left out, for an error; empty if that is nothing."""
    return ", ".join(f"{count} {kind}" for kind, count in ignored.most_common() if count)


def _left_over(path: Path) -> str | None:
    """Returns as what a file or folder is passed over by its name; None where it is not."""
    name = path.name.lower()
    if name.startswith("."):
        return HIDDEN
    if name in JUNK_FOLDERS or name in JUNK_FILES or path.suffix.lower() in JUNK_SUFFIXES:
        return JUNK
    return None


def _files(folder: Path, ignored: Counter[str], entered: set[Path], recursive: bool) -> Iterator[tuple[Path, Path]]:
    """Yields what is in a folder and is no folder itself, and where it really lies."""
    real = folder.resolve()
    if real in entered:
        ignored[LINKED_FOLDERS] += 1
        return
    entered.add(real)
    for path in _listed(folder):
        if (kind := _left_over(path)) is not None:
            ignored[kind] += 1
        elif not path.is_dir():
            yield path, Path(os.path.realpath(path)) if path.is_symlink() else real / path.name
        elif recursive:
            yield from _files(path, ignored, entered, recursive)


def _is_picture(path: Path, ignored: Counter[str]) -> bool:
    if not path.exists():
        if has_picture_suffix(path.name):
            return True
        ignored[BROKEN_LINKS] += 1
        return False
    if not path.is_file():  # reading a pipe would wait for ever
        ignored["pipes and devices"] += 1
        return False
    if has_picture_suffix(path.name):
        return True
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        ignored["files that cannot be read"] += 1
        return False
    if is_picture(head):
        return True
    ignored[f"not an image ({path.suffix.lower() or 'no suffix'})"] += 1
    return False


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); mend its permissions") from None

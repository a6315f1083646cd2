"""Where bags lie: below folders, at any depth and whatever links lead there, and as patterns match them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from cnn_perception.bag.metadata import FILE_NAME
from cnn_perception.bag.storage_files import is_storage_name, storage_paths
from cnn_perception.errors import ConfigError, DataError

_SPLIT_NUMBER = re.compile(r"_\d+$")
"""What rosbag2 adds to the name of each file of a recording that it splits."""


def matching(given: Path) -> list[Path]:
    """Returns what a path means that a shell has left as a pattern, by name; itself if it is there, or is none."""
    if os.path.lexists(given) or not glob.has_magic(str(given)):
        return [given]
    return [Path(match) for match in sorted(glob.glob(str(given.expanduser()), recursive=True))]  # noqa: PTH207 any pattern


def bags_matching(given: Path) -> tuple[list[Path], list[Path]]:
    """Returns the bags and folders of bags that a path or pattern means, and what else it matches.

    Raises:
        ConfigError: If a pattern matches none.
    """
    found = matching(given)
    if found == [given]:
        return found, []
    bags = [path for path in found if is_bag(path) or is_folder_of_bags(path)]
    if not bags:
        what = f"matches {found[0]}, which is no bag" if found else "matches nothing"
        raise ConfigError(f"--bag {given}: {what}; name bags, folders of bags, or a pattern of them in quotes")
    outer = [path for path in bags if not any(other in path.parents for other in bags)]
    return _without_links(outer), [path for path in found if path not in bags]


def is_bag(path: Path) -> bool:
    """Returns whether a path is a bag by its name: a storage file, or a folder with one or with metadata.yaml."""
    try:
        if path.is_dir():
            return (path / FILE_NAME).is_file() or bool(storage_paths(path, ())[0])
        return path.is_file() and is_storage_name(path.name)
    except OSError:
        return False


def is_folder_of_bags(path: Path) -> bool:
    """Returns whether bags lie in the folders of a folder, which is none by its metadata.yaml.

    Raises:
        DataError: If a folder cannot be listed.
    """
    try:
        if not path.is_dir() or (path / FILE_NAME).is_file():
            return False
    except OSError:  # such as too long a name; opening it says so
        return False
    search = _Search(path)
    return any(True for folder in search.subfolders(path) for _ in _bags_at(folder, search))


def bags_at(folder: Path) -> list[Path]:
    """Returns the folder if it is a bag, or else the bags in it at any depth, perhaps none.

    Files without metadata.yaml are one bag if they are numbered as rosbag2 does and lie alone, else one each.

    Raises:
        DataError: If a folder cannot be listed.
    """
    return list(_bags_at(folder, _Search(folder)))


def bags_in(folder: Path) -> list[Path]:
    """Returns the bags of a folder of bags: its own files, and those of its folders at any depth.

    Raises:
        DataError: If a folder cannot be listed.
    """
    search = _Search(folder)
    inner = [bag for sub in search.subfolders(folder) for bag in _bags_at(sub, search)]
    return [*_files_in(folder), *inner]


def _without_links(paths: Sequence[Path]) -> list[Path]:
    """Returns paths without the links to others of them, such as `latest`: their bags are there already."""
    real = {os.path.realpath(path) for path in paths if not path.is_symlink()}
    return [path for path in paths if not path.is_symlink() or os.path.realpath(path) not in real]


class _Search:
    """The folders below one, each entered once; one that links lead to by itself, where it lies there as well."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.realpath(root))
        self._entered: set[str] = set()

    def enters(self, folder: Path) -> bool:
        """Returns whether a folder is looked into for the first time."""
        real = os.path.realpath(folder)
        is_new = real not in self._entered
        self._entered.add(real)
        return is_new

    def subfolders(self, folder: Path) -> list[Path]:
        """Returns the folders in a folder by name, without hidden ones.

        Raises:
            DataError: If it cannot be listed.
        """
        try:
            return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and self._is_own(path))
        except OSError as error:
            raise DataError(f"{folder}: cannot be listed ({error.strerror}); mend its permissions") from None

    def _is_own(self, path: Path) -> bool:
        """Returns whether a path is a folder, and no link to one that is found anyway."""
        if not path.is_dir():
            return False
        real = Path(os.path.realpath(path))
        if not path.is_symlink() or not real.is_relative_to(self._root):
            return True
        return any(part.startswith(".") for part in real.relative_to(self._root).parts)


def _bags_at(folder: Path, search: _Search) -> Iterator[Path]:
    """Yields the folder if it is a bag, or else the bags in it."""
    if not search.enters(folder):
        return
    if (folder / FILE_NAME).is_file():
        yield folder
        return
    inner = [bag for sub in search.subfolders(folder) for bag in _bags_at(sub, search)]
    files = _files_in(folder)
    if _are_one(files) and not inner:
        yield folder
    else:
        yield from (*files, *inner)


def _files_in(folder: Path) -> list[Path]:
    try:
        return storage_paths(folder, ())[0]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); mend its permissions") from None


def _are_one(files: Sequence[Path]) -> bool:
    """Returns whether files have one name, but for the numbers that rosbag2 gives those of one recording."""
    return len({_SPLIT_NUMBER.sub("", path.name.split(".")[0]) for path in files}) == 1

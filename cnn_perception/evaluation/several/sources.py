"""Which bags are meant: paths of bags, folders of bags, and patterns, each bag once and under a name of its own."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.bag.metadata import FILE_NAME
from cnn_perception.bag.storage_files import storage_paths
from cnn_perception.errors import ConfigError
from cnn_perception.evaluation.labels import bag_name

_TAKEN = ("report.json", "report.html", "bags.csv")
"""Names beside the folders of the bags."""


@dataclass(frozen=True)
class BagSource:
    """A bag that is evaluated.

    Attributes:
        path: Where it is.
        name: Of its own among those that are evaluated; its report's folder and its labels are called so.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class FoundBags:
    """The bags that are meant.

    Attributes:
        bags: In the order in which they were given, those of a folder or pattern by name.
        is_single: Whether one bag was named, and neither a folder of bags nor a pattern.
        left_out: What a pattern matched beside bags.
        searched: Folders of bags.
    """

    bags: tuple[BagSource, ...]
    is_single: bool
    left_out: tuple[Path, ...] = ()
    searched: tuple[Path, ...] = ()


def find_bags(given: Sequence[Path]) -> FoundBags:
    """Returns the bags that paths, folders of bags and patterns such as `drives/2026-*` mean.

    A folder without metadata.yaml that has bags in its folders is a folder of bags, at any depth. What is neither a bag
    nor a folder of bags is kept as if it were a bag: opening it says what it is.

    Raises:
        ConfigError: If a pattern matches no bag, or a bag is meant twice, also by a link or by one of its files.
    """
    paths: list[Path] = []
    left_out: list[Path] = []
    searched: list[Path] = []
    is_single = len(given) == 1
    for one in given:
        matches, others = _matches(one)
        left_out += others
        for match in matches:
            inner = _bags_in(match) if _is_folder_of_bags(match) else []
            searched += [match] if inner else []
            is_single = is_single and match == one and not inner
            paths += inner or [match]
    _require_once(paths)
    names = distinct_names(paths)
    bags = tuple(BagSource(path, name) for path, name in zip(paths, names, strict=True))
    return FoundBags(bags, is_single, tuple(left_out), tuple(searched))


def is_bag(path: Path) -> bool:
    """Returns whether a path is a bag by its name: a storage file, or a folder with one or with metadata.yaml."""
    try:
        if path.is_dir():
            return (path / FILE_NAME).is_file() or bool(storage_paths(path, ())[0])
        return path.is_file() and path.name.removesuffix(".zstd").endswith((".mcap", ".db3"))
    except OSError:
        return False


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Returns a name for each bag: its own, and the folders above it as far as others have the same."""
    names = [bag_name(path) for path in paths]
    for depth in range(2, max((len(path.absolute().parts) for path in paths), default=0)):
        count = Counter(name.casefold() for name in names)
        if max(count.values()) == 1:
            break
        names = [
            "_".join(_parts(path, depth)) if count[name.casefold()] > 1 else name
            for path, name in zip(paths, names, strict=True)
        ]
    return [f"{name}_{number}" if number else name for name, number in _numbered(names)]


def _parts(path: Path, depth: int) -> tuple[str, ...]:
    above = Path(os.path.abspath(path)).parts[-depth:-1]  # noqa: PTH100 a link keeps its own name
    return (*(part for part in above if part != os.sep), bag_name(path))


def _numbered(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yields each name with 0, or with a number where it is taken."""
    taken = set(_TAKEN)
    for name in names:
        number = 0
        while (f"{name}_{number}" if number else name).casefold() in taken:
            number += 1
        taken.add((f"{name}_{number}" if number else name).casefold())
        yield name, number


def _matches(given: Path) -> tuple[list[Path], list[Path]]:
    """Returns the bags and folders of bags that a path or pattern means, and what else it matches."""
    if os.path.lexists(given) or not glob.has_magic(str(given)):
        return [given], []
    found = [Path(match) for match in sorted(glob.glob(str(given), recursive=True))]  # noqa: PTH207 any pattern
    bags = [path for path in found if is_bag(path) or _is_folder_of_bags(path)]
    if not bags:
        what = f"matches {found[0]}, which is no bag" if found else "matches nothing"
        raise ConfigError(f"--bag {given}: {what}; name bags, folders of bags, or a pattern of them in quotes")
    outer = [path for path in bags if not any(other in path.parents for other in bags)]
    return _without_links(outer), [path for path in found if path not in bags]


def _without_links(paths: Sequence[Path]) -> list[Path]:
    """Returns paths without the links to others of them, such as `latest`: their bags are there already."""
    real = {os.path.realpath(path) for path in paths if not path.is_symlink()}
    return [path for path in paths if not path.is_symlink() or os.path.realpath(path) not in real]


def _is_folder_of_bags(path: Path) -> bool:
    """Returns whether bags lie in the folders of a folder, which is none by its metadata.yaml."""
    if not path.is_dir() or (path / FILE_NAME).is_file():
        return False
    search = _Search(path)
    return any(True for folder in search.subfolders(path) for _ in _bags_at(folder, search))


def _bags_in(folder: Path) -> list[Path]:
    """Returns the bags of a folder of bags: its own files, and those of its folders at any depth."""
    search = _Search(folder)
    inner = [bag for sub in search.subfolders(folder) for bag in _bags_at(sub, search)]
    return [*storage_paths(folder, ())[0], *inner]


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
        """Returns the folders in a folder by name, without hidden ones."""
        try:
            return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and self._is_own(path))
        except OSError:
            return []

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
    files = storage_paths(folder, ())[0]
    if files and not inner:
        yield folder
    else:
        yield from (*files, *inner)


def _require_once(paths: Sequence[Path]) -> None:
    """Refuses a bag that is meant twice.

    Raises:
        ConfigError: Names both ways.
    """
    places: dict[Path, Path] = {}
    for path in paths:
        real = Path(os.path.realpath(path))
        above = next((folder for folder in (real, *real.parents) if folder in places), None)
        below = next((place for place in places if real in place.parents), None)
        twin = above or below
        if twin is not None:
            raise ConfigError(f"--bag {path} is given twice: it is {places[twin]} again; evaluate each bag once")
        places[real] = path

"""Finds the recordings, folders and recorder's tables that a command line means, and gives each a name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnn_perception.background.folder_store import TABLE
from cnn_perception.errors import DataError
from cnn_perception.evaluation.several.bag_search import bags_at, bags_matching, matching
from cnn_perception.image.messages import Overrides
from training.collect.sources.bag_frames import BagFrames
from training.collect.sources.folder_frames import FolderFrames, RecordedFrames
from training.collect.sources.frame import Source

_STORAGE = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")


def find(
    bags: Sequence[Path],
    images: Sequence[Path],
    recorded: Sequence[Path],
    topics: tuple[str, ...],
    overrides: Overrides,
) -> list[Source]:
    """Returns what is to be read, in the order in which it was named, each once.

    Args:
        bags: Recordings, folders of them, and patterns such as `day*/`.
        images: Folders of images, and patterns.
        recorded: What perception nodes were given as the recorder's folder, or parts of it.
        topics: Image topics of the recordings; empty takes the only one of each.
        overrides: What is known better of the recordings' images.

    Raises:
        ConfigError: If no recording fits a pattern.
        DataError: If one of them is not there, or holds nothing of its kind.
    """
    of_bags = _once(bag for given in bags for bag in recordings(given))
    folders = _once(path for given in images for path in expanded(given))
    tables, recorded_bags = _recorded(recorded)
    paths = [*of_bags, *folders, *tables, *recorded_bags]
    names = iter(_names(paths))
    return [
        *(BagFrames(path, next(names), topics, overrides) for path in of_bags),
        *(FolderFrames(path, next(names)) for path in folders),
        *(RecordedFrames(path, next(names)) for path in tables),
        *(BagFrames(path, next(names), topics, overrides, is_recorded=True) for path in recorded_bags),
    ]


def expanded(given: Path) -> list[Path]:
    """Returns what a path means that a shell has left as a pattern; itself if it is none.

    Raises:
        DataError: If nothing has such a name.
    """
    found = matching(given)
    if not found:
        raise DataError(f"{given}: no file or folder has such a name; mend the pattern")
    return found


def recordings(given: Path) -> list[Path]:
    """Returns the recordings that a path or pattern means: itself, or all in a folder of recordings.

    Raises:
        ConfigError: If it is a pattern that no recording fits.
        DataError: If it is a folder without any, or one cannot be listed.
    """
    matches, _ = bags_matching(given)
    return [bag for path in matches for bag in (_recordings_in(path) if path.is_dir() else [path])]


def _recordings_in(folder: Path) -> list[Path]:
    found = bags_at(folder)
    if not found:
        raise DataError(f"{folder}: there is no recording in it; name a rosbag2 folder, or an .mcap or .db3 file")
    return found


def _recorded(given: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Returns the tables and the recordings below what the recorder was given as its folder."""
    tables: list[Path] = []
    bags: list[Path] = []
    for folder in (path for one in given for path in expanded(one)):
        if not folder.is_dir():
            raise DataError(f"{folder}: there is no such folder; name the one that a recorder wrote to")
        here = sorted(folder.rglob(TABLE))
        there = bags_at(folder)
        if not here and not there:
            raise DataError(
                f"{folder}: holds neither {TABLE} nor a recording; name the folder that a recorder wrote to"
            )
        tables += here
        bags += there
    return _once(tables), _once(bags)


def _once(paths: Iterable[Path]) -> list[Path]:
    """Returns each path once, whatever links lead to it."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    return list(found.values())


def _names(paths: Sequence[Path]) -> list[str]:
    """Returns a name for each path: its own, with those of the folders above it as far as others are called so."""
    parts = [_own_parts(path.resolve()) for path in paths]
    depths = [1] * len(paths)
    while True:
        names = ["_".join(own[-depth:]) for own, depth in zip(parts, depths, strict=True)]
        counts = Counter(names)
        deeper = [
            depth + (counts[name] > 1 and depth < len(own))
            for name, own, depth in zip(names, parts, depths, strict=True)
        ]
        if deeper == depths:
            return names
        depths = deeper


def _own_parts(path: Path) -> tuple[str, ...]:
    """Returns the names of the folders above a source, and its own without a suffix."""
    if path.name == TABLE:
        path = path.parent
    name = path.name
    for suffix in _STORAGE:
        name = name.removesuffix(suffix) if path.is_file() else name
    return (*path.parts[1:-1], name)

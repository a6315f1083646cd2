"""Finds and opens the files of a bag, whatever metadata.yaml says of them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import apsw
import numpy as np

from cnn_perception.bag.decompression import ZstdError, free_bytes, unpacked_pieces
from cnn_perception.bag.mcap_storage import McapFile
from cnn_perception.bag.sqlite_storage import SqliteFile
from cnn_perception.bag.storage import MOST_LINES, StorageFile
from cnn_perception.errors import BagError, one_line

_ENDINGS = (".mcap", ".db3")
_PACKED = ".zstd"


def storage_paths(bag: Path, listed: Iterable[str], damage: list[str]) -> list[Path]:
    """Returns the storage files of a bag, in the order of their names.

    Args:
        bag: Its folder, or a single file.
        listed: Names that metadata.yaml gives; empty without one.
        damage: Gets a line for each file that is missing, or that metadata.yaml does not list.
    """
    if not bag.is_dir():
        return [bag]
    there = {path.name: path for path in sorted(bag.iterdir()) if path.is_file()}
    names = set(listed)
    missing = sorted(names - set(there))
    for name in missing[:MOST_LINES]:
        alike = [other for other in (f"{name}{_PACKED}", name.removesuffix(_PACKED)) if other in there]
        instead = f"; {alike[0]} was read" if alike else ""
        damage.append(f"{bag}: {name}, which metadata.yaml lists, is missing{instead}")
        names |= set(alike)
    if len(missing) > MOST_LINES:
        damage.append(f"{bag}: {len(missing) - MOST_LINES} other files, which metadata.yaml lists, are missing")
    found = []
    for name, path in there.items():
        is_storage = name.removesuffix(_PACKED).endswith(_ENDINGS)
        if name.endswith(_PACKED) and name.removesuffix(_PACKED) in there:
            damage.append(f"{bag}: {name} was not read, because {name.removesuffix(_PACKED)} is there too")
        elif name in names or is_storage:
            found.append(path)
            if names and name not in names:
                damage.append(f"{bag}: {name} is not listed in metadata.yaml")
    return found


def open_files(paths: Iterable[Path], folder: Path, damage: list[str], stack: ExitStack) -> list[StorageFile]:
    """Opens storage files, each as far as it can be read, in the order of their first messages.

    Args:
        paths: The files.
        folder: For unpacked and copied files.
        damage: Gets a line for all that cannot be read, and for each file that repeats another one.
        stack: Closes them.
    """
    files: list[StorageFile] = []
    for path in paths:
        try:
            file = _open(path, folder, damage)
        except (BagError, OSError, apsw.Error, ValueError, MemoryError) as error:
            damage.append(f"{path}: cannot be read at all ({one_line(error)})")
            continue
        stack.callback(file.close)
        twin = next((other for other in files if _are_alike(file, other)), None)
        if twin is not None:
            damage.append(f"{path}: holds the same messages as {twin.path.name}; it was left out")
            continue
        damage += file.damage
        if file.index.orphans:
            damage.append(f"{path}: {file.index.orphans} messages are of no topic that it describes")
        files.append(file)
    return sorted(files, key=lambda file: file.index.first_ns)


def _open(path: Path, folder: Path, damage: list[str]) -> StorageFile:
    unpacked = _unpacked(path, folder, damage) if path.suffix == _PACKED else path
    if unpacked.suffix == ".mcap":
        return McapFile(unpacked, path)
    if unpacked.suffix == ".db3":
        return SqliteFile(unpacked, path, folder)
    raise BagError(f"{path}: is no .mcap or .db3 file")


def _unpacked(path: Path, folder: Path, damage: list[str]) -> Path:
    """Returns a copy of a file that rosbag2 compressed as a whole, as far as it can be unpacked."""
    target = folder / path.stem
    with target.open("wb") as sink:
        try:
            for piece in unpacked_pieces(path, free_bytes(folder)):
                sink.write(piece)
        except (EOFError, ZstdError) as error:
            damage.append(f"{path}: is truncated or damaged ({one_line(error)}); what could be unpacked was read")
    return target


def _are_alike(file: StorageFile, other: StorageFile) -> bool:
    """Returns whether two files hold the same messages, judged by the nanoseconds of their reception."""
    ours, theirs = file.index, other.index
    if not ours.count or (ours.count, ours.first_ns, ours.last_ns) != (theirs.count, theirs.first_ns, theirs.last_ns):
        return False
    pairs = zip(ours.channels.values(), theirs.channels.values(), strict=False)
    return len(ours.channels) == len(theirs.channels) and all(
        (a.topic, a.type, a.count) == (b.topic, b.type, b.count) and np.array_equal(a.times_ns, b.times_ns)
        for a, b in pairs
    )

"""Finds and opens the files of a bag, whatever metadata.yaml says of them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Container, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path, PureWindowsPath

import apsw
import numpy as np
import numpy.typing as npt

from cnn_perception.bag.decompression import (
    PACKED_ENDINGS,
    ZSTD_MAGIC,
    TemporaryFolder,
    ZstdError,
    free_bytes,
    unpacked_message,
    unpacked_pieces,
)
from cnn_perception.bag.mcap_records import MAGIC
from cnn_perception.bag.mcap_storage import mcap_files
from cnn_perception.bag.metadata import refuse_in_place
from cnn_perception.bag.sqlite_storage import SqliteFile
from cnn_perception.bag.storage import MOST_LINES, StorageFile
from cnn_perception.commands import for_shell
from cnn_perception.errors import BagError, FrameError, one_line
from cnn_perception.mistaken_files import BEGINNING_BYTES

_ENDINGS = (".mcap", ".db3")
_ARCHIVES = (".gz", ".bz2", ".xz", ".lz4", ".zip", ".7z", ".tar", ".tgz")
JOINED = (
    "is {count} MCAP files one behind the other, as `cat` leaves them; all were read, but other programs read one: "
    "join files with `mcap merge`, or put them into one folder"
)
"""What is said of such a file."""
_NUMBERED = re.compile(r".+_\d+\.[a-zA-Z0-9]+")
"""Names of files that `ros2 bag reindex` finds."""
_SQLITE_MAGIC = b"SQLite format 3\0"
_ROS_1_MAGIC = b"#ROSBAG V"


def is_storage_name(name: str) -> bool:
    """Returns whether a file is called as those of bags are, packed or not."""
    return _plain(name).lower().endswith(_ENDINGS)


def _plain(name: str) -> str:
    """Returns the name of a file without that of its packing."""
    return next((name.removesuffix(ending) for ending in PACKED_ENDINGS if name.endswith(ending)), name)


def _is_recording(name: str) -> bool:
    """Returns whether a file that no metadata.yaml lists is one of a bag by its name.

    Hidden ones are not: a Mac leaves `._bag.mcap` beside each file that it copies to another kind of disk.
    """
    return is_storage_name(name) and not name.startswith(".")


def storage_paths(bag: Path, listed: Iterable[str]) -> tuple[list[Path], list[str]]:
    """Returns the storage files of a bag, those listed first, each in the order of names, and what is said of them.

    Args:
        bag: Its folder, or a single file.
        listed: Names that metadata.yaml gives; empty without one.
    """
    if not bag.is_dir():
        return [bag], []
    there = {path.name: path for path in sorted(bag.iterdir()) if path.is_file()}
    names = {_as_written_here(name, there) for name in listed}
    missing = sorted(names - set(there))
    notes = []
    for name in missing[:MOST_LINES]:
        others = (*(f"{name}{ending}" for ending in PACKED_ENDINGS), _plain(name))
        alike = [other for other in others if other in there and other != name]
        instead = f"; {alike[0]} was read" if alike else ""
        notes.append(f"{bag}: {name}, which metadata.yaml lists, is missing{instead}")
        names |= set(alike)
    if len(missing) > MOST_LINES:
        notes.append(f"{bag}: {len(missing) - MOST_LINES} other files, which metadata.yaml lists, are missing")
    paths = []
    for name, path in there.items():
        if name not in names and not _is_recording(name):
            continue
        plain = _plain(name)
        if plain != name and plain in there:
            notes.append(f"{bag}: {name} was not read, because {plain} is there too")
        else:
            paths.append(path)
            if names and name not in names:
                notes.append(f"{bag}: {name} is not listed in metadata.yaml")
    return sorted(paths, key=lambda path: path.name not in names), notes


def _as_written_here(name: str, there: Container[str]) -> str:
    """Returns a name that metadata.yaml gives, without the folders that Windows writes before it."""
    last = PureWindowsPath(name).name
    return last if name not in there and last in there else name


def without_storage(bag: Path) -> str:
    """Returns what to do about a folder without a storage file, as the end of an error; nothing if that is unknown."""
    names = sorted(path.name for path in bag.iterdir() if path.is_file())
    if any(name.endswith(".bag") for name in names):
        return "; convert its bags of ROS 1 with rosbags-convert"
    for name in names:
        if name.startswith(".") and is_storage_name(name):
            return f"; {name} is hidden, rename it if it is a recording"
        if Path(name).suffix.lower() in _ARCHIVES:
            return f"; unpack {name}"
    return ""


def reindexing(bag: Path) -> str:
    """Returns how metadata.yaml of a bag is made anew.

    rosbag2 cannot do it of files that are packed as a whole, and finds only those that are called as it calls them.
    """
    names = [path.name for path in storage_paths(bag, ())[0]]
    storage = "sqlite3" if any(".db3" in name for name in names) else "mcap"
    command = for_shell("ros2", "bag", "reindex", bag, "-s", storage)
    steps = ["unpack its files with `zstd -d`"] if any(_plain(name) != name for name in names) else []
    unnumbered = [_plain(name) for name in names if not _NUMBERED.fullmatch(_plain(name))]
    if unnumbered:
        first = Path(unnumbered[0])
        steps.append(f"rename {first.name} to {first.stem}_0{first.suffix}{' and so on' if unnumbered[1:] else ''}")
    return " and ".join((*steps, f"repair with `{command}`"))


def open_files(paths: Iterable[Path], folder: TemporaryFolder, stack: ExitStack) -> tuple[list[StorageFile], list[str]]:
    """Opens storage files, each as far as it can be read.

    Args:
        paths: The files.
        folder: For unpacked and copied files.
        stack: Closes them.

    Returns:
        The files in the order of their first messages, several of one path where MCAP files were joined, and what
        cannot be read or is there twice, a line each.
    """
    files: list[StorageFile] = []
    notes: list[str] = []
    for path in paths:
        try:
            with path.open("rb") as stream:
                refuse_in_place(stream.read(BEGINNING_BYTES))
            unpacked = _unpacked(path, folder.path(), notes) if is_packed(path) else path
            opened = _opened(unpacked, path, folder)
        except (BagError, OSError, apsw.Error, ValueError, MemoryError) as error:
            notes.append(f"{path}: cannot be read at all ({one_line(error).removeprefix(f'{path}: ')})")
            continue
        for file in opened:
            stack.callback(file.close)
            twin = next((other for other in files if _are_alike(file, other)), None)
            if twin is not None:
                which = (
                    "holds the same messages twice; they were read once"
                    if twin.path == path
                    else (f"holds the same messages as {twin.path.name}; it was left out")
                )
                notes.append(f"{path}: {which}")
                continue
            notes += file.damage
            if file.index.orphans:
                notes.append(f"{path}: {file.index.orphans} messages are of no topic that it describes")
            files.append(file)
    return sorted(files, key=lambda file: file.index.first_ns), notes


def is_packed(path: Path) -> bool:
    """Returns whether a file was compressed as a whole."""
    with path.open("rb") as file:
        return path.suffix in PACKED_ENDINGS or file.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC


def packing(files: Sequence[StorageFile]) -> str:
    """Returns how rosbag2 compressed files: FILE as a whole, MESSAGE by message, NONE; empty if that cannot be told."""
    if any(is_packed(file.path) for file in files):
        return "FILE"
    for file in files:
        for channel in file.index.channels.values():
            for place in channel.places[:1]:
                with contextlib.suppress(BagError):
                    return "MESSAGE" if file.message(place).startswith(ZSTD_MAGIC) else "NONE"
    return ""


def _opened(unpacked: Path, path: Path, folder: TemporaryFolder) -> Sequence[StorageFile]:
    """Returns an open file, or those that were joined to it; what it is, its first bytes say before its name."""
    with unpacked.open("rb") as file:
        head = file.read(len(_SQLITE_MAGIC))
    suffix = Path(_plain(path.name)).suffix.lower()
    if head.startswith(MAGIC) or (suffix == ".mcap" and head != _SQLITE_MAGIC):
        return mcap_files(unpacked, path)
    if head == _SQLITE_MAGIC or suffix == ".db3":
        return [SqliteFile(unpacked, path, folder)]
    if head.startswith(_ROS_1_MAGIC):
        raise BagError(
            f"is a bag of ROS 1; convert it: {for_shell('rosbags-convert', '--src', path, '--dst', path.stem)}"
        )
    raise BagError("is no .mcap or .db3 file")


def _unpacked(path: Path, folder: Path, notes: list[str]) -> Path:
    """Returns a copy of a file that rosbag2 compressed as a whole, as far as it can be unpacked; notes if it cannot."""
    target = folder / _plain(path.name)
    with target.open("wb") as sink:
        try:
            for piece in unpacked_pieces(path, free_bytes(folder)):
                sink.write(piece)
        except (EOFError, ZstdError) as error:
            notes.append(f"{path}: is truncated or damaged ({one_line(error)}); what could be unpacked was read")
    return target


def _are_alike(file: StorageFile, other: StorageFile) -> bool:
    """Returns whether two files hold the same messages, of the same times.

    Times alone do not tell: those that were never set, or set by a converter, are the same in files of other messages.
    """
    ours, theirs = file.index, other.index
    if not ours.count or (ours.count, ours.first_ns, ours.last_ns) != (theirs.count, theirs.first_ns, theirs.last_ns):
        return False
    if len(ours.channels) != len(theirs.channels):
        return False
    pairs = list(zip(ours.channels.values(), theirs.channels.values(), strict=True))
    return all(
        (a.topic, a.type, a.count) == (b.topic, b.type, b.count) and np.array_equal(a.times_ns, b.times_ns)
        for a, b in pairs
    ) and all(
        _content(file, one) == _content(other, another)
        for a, b in pairs
        for one, another in zip(a.places, b.places, strict=True)
    )


def _content(file: StorageFile, place: npt.NDArray[np.int64]) -> bytes | str:
    """Returns a serialised message, unpacked, or why it cannot be read."""
    try:
        return bytes(unpacked_message(file.message(place)))
    except (BagError, FrameError, ZstdError) as error:
        return one_line(error)

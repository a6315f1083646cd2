"""Recovers the intact beginning of a damaged rosbag2 file as a well-formed copy, and unpacks compressed files.

A recorder that is killed, a full disk and a broken-off copy all leave a file whose beginning is intact and whose
index or end is missing; readers refuse it as a whole.
"""

from __future__ import annotations

import struct
from pathlib import Path

from cnn_perception.bag.decompression import ZstdError, free_bytes, unpacked_pieces
from cnn_perception.bag.sqlite_storage import copy_rows
from cnn_perception.errors import BagError

_MCAP_MAGIC = b"\x89MCAP0\r\n"
_MCAP_END = struct.pack("<BQI", 0x0F, 4, 0) + struct.pack("<BQQQI", 0x02, 20, 0, 0, 0) + _MCAP_MAGIC
"""Records DataEnd and Footer without a summary, so that a reader scans the data. Source: MCAP specification."""
_MCAP_BODY = frozenset({0x01, *range(0x03, 0x0F)})
"""Opcodes of the records before DataEnd, and of the summary but for the Footer. Source: MCAP specification."""


def decompressed(path: Path, folder: Path) -> tuple[Path, bool]:
    """Unpacks a file that rosbag2 compressed as a whole.

    Args:
        path: A `.zstd` file; a file with another name is returned as it is.
        folder: Where the unpacked file goes.

    Returns:
        The unpacked file, and whether all of it could be unpacked.

    Raises:
        BagError: If it becomes too large, see `unpacked_pieces`.
    """
    if path.suffix != ".zstd":
        return path, True
    target = folder / path.stem
    with target.open("wb") as sink:
        try:
            for piece in unpacked_pieces(path, free_bytes(folder)):
                sink.write(piece)
        except (EOFError, ZstdError):
            return target, False
    return target, True


def readable_copy(path: Path, folder: Path) -> Path:
    """Copies the intact beginning of a broken bag file.

    Args:
        path: A `.mcap` or `.db3` file.
        folder: Where the copy goes; it may become as large as the file.

    Returns:
        The copy, which a rosbag2 reader accepts.

    Raises:
        BagError: If not even the beginning is that of a bag file.
    """
    target = folder / f"readable_{path.name}"
    if path.suffix == ".mcap":
        _copy_mcap(path, target)
    elif path.suffix == ".db3":
        copy_rows(path, target)
    else:
        raise BagError(f"{path}: is no .mcap or .db3 file")
    return target


def _copy_mcap(path: Path, target: Path) -> None:
    with path.open("rb") as source, target.open("wb") as sink:
        if source.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
            raise BagError(f"{path}: does not begin like an MCAP file; record it again")
        size = path.stat().st_size
        end = source.tell()
        while len(head := source.read(9)) == 9:
            opcode, length = struct.unpack("<BQ", head)
            if opcode not in _MCAP_BODY or end + 9 + length > size:
                break
            end = source.seek(end + 9 + length)
        source.seek(0)
        while (rest := end - source.tell()) > 0:
            sink.write(source.read(min(rest, 1 << 20)))
        sink.write(_MCAP_END)

"""Unpacks what rosbag2 compressed, within limits that are checked before memory or a disk fills.

A few kilobytes of zstd can stand for gigabytes of zeros.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rosbags.rosbag2 import ReaderError, storage_mcap

from cnn_perception.errors import BagError, FrameError
from cnn_perception.image.raw import MAX_PIXELS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LARGEST_MESSAGE_BYTES = 4 * MAX_PIXELS + 2**20
"""Of an unpacked message, and of a chunk of an MCAP file: the largest image of four bytes a pixel, and its header."""
LARGEST_RATIO = 1000
"""How many times larger than itself a file may become: recordings of cameras become some 10 times larger."""
SMALL_FILE_BYTES = 2**26
"""What any file may become: one of drawings, or of silence, packs better than `LARGEST_RATIO`."""
SPARE_BYTES = 2**28
"""What unpacking leaves free on the disk."""
_PIECE_BYTES = 2**20

ZstdError = zstd.ZstdError
"""Raised on bytes that are not what zstd wrote."""


def unpacked_message(payload: bytes) -> bytes:
    """Unpacks a message that rosbag2 compressed alone; others are returned as they are.

    Raises:
        FrameError: `size`, if it becomes larger than `LARGEST_MESSAGE_BYTES`.
        ZstdError: If it is damaged.
    """
    if payload[:4] != b"\x28\xb5\x2f\xfd":  # zstd's magic number; a CDR header begins with 0
        return payload
    found = _unzstd(payload, LARGEST_MESSAGE_BYTES)
    if found is None:
        raise FrameError("size", f"a message unpacks to more than {LARGEST_MESSAGE_BYTES} bytes; it was dropped")
    return found


def unpacked_pieces(path: Path, free_bytes: int) -> Iterator[bytes]:
    """Yields the contents of a `.zstd` file in pieces of at most 1 MiB.

    Args:
        path: The file.
        free_bytes: How much it may become, as far as the disk is concerned; see `free_bytes`.

    Raises:
        BagError: Before it becomes larger than that, or than `LARGEST_RATIO` times its size.
        EOFError: If it is cut off.
        ZstdError: If it is damaged.
    """
    most = min(max(SMALL_FILE_BYTES, LARGEST_RATIO * path.stat().st_size), free_bytes)
    count = 0
    with zstd.open(path, "rb") as source:
        while piece := source.read1(_PIECE_BYTES):  # `read` would lose the end of a file that is cut off
            count += len(piece)
            if count > most:
                raise BagError(
                    f"{path}: unpacks to more than {most} bytes: no recording, or too little space in "
                    f"{tempfile.gettempdir()}; unpack it with `zstd -d` and evaluate the unpacked bag"
                )
            yield piece


def free_bytes(folder: Path) -> int:
    """Returns how much may be written into a folder."""
    return max(0, shutil.disk_usage(folder).free - SPARE_BYTES)


def check_files(files: list[Path]) -> None:
    """Unpacks files to nowhere, because rosbags unpacks those of a compressed bag without a limit.

    Raises:
        BagError: As `unpacked_pieces`, for all files together as far as the disk is concerned.
    """
    free = free_bytes(Path(tempfile.gettempdir()))
    for file in files:
        with contextlib.suppress(EOFError, ZstdError):  # rosbags says so
            for piece in unpacked_pieces(file, free):
                free -= len(piece)


def _unzstd(data: bytes, most: int) -> bytes | None:
    """Returns unpacked bytes, of any number of frames; None if there are more than `most`."""
    found = bytearray()
    while data:
        decompressor = zstd.ZstdDecompressor()
        while not decompressor.eof:
            piece = decompressor.decompress(data, _PIECE_BYTES)
            data = b""
            if not piece and not decompressor.eof and decompressor.needs_input:
                raise ZstdError("compressed data ended before the end of its frame")
            found += piece
            if len(found) > most:
                return None
        data = decompressor.unused_data
    return bytes(found)


def _unzstd_chunk(data: bytes, size: int) -> bytes:
    found = _unzstd(data, _chunk_size(size))
    return _of_size(found, size)


def _unlz4_chunk(data: bytes, size: int) -> bytes:
    return _of_size(_unlz4(data, _chunk_size(size)), size)  # which grows by a factor of 255 at most


def _chunk_size(size: int) -> int:
    if size > LARGEST_MESSAGE_BYTES:
        raise ReaderError(f"A chunk claims to unpack to {size} bytes; at most {LARGEST_MESSAGE_BYTES} are accepted.")
    return size


def _of_size(found: bytes | None, size: int) -> bytes:
    if found is None or len(found) != size:
        raise ReaderError(f"A chunk does not unpack to the {size} bytes that it claims.")
    return found


_unlz4 = storage_mcap.DECOMPRESSORS["lz4"]
# rosbags' own take no limit, and it has no other place to say which are used
storage_mcap.DECOMPRESSORS.update(zstd=_unzstd_chunk, lz4=_unlz4_chunk)

"""Unpacks what rosbag2 compressed, within limits that are checked before memory or a disk fills.

A few kilobytes of zstd can stand for gigabytes of zeros.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import lz4.frame

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
_PACKED_PIECE_BYTES = 2**16

PACKED_ENDINGS = (".zstd", ".zst")
"""As rosbag2 and as the command `zstd` name what they packed as a whole."""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZstdError = zstd.ZstdError
"""Raised on bytes that are not what zstd wrote."""


def most_unpacked_bytes(size: int) -> int:
    """Returns how much a file of a size may become, all its chunks together."""
    return max(SMALL_FILE_BYTES, LARGEST_RATIO * size)


def unpacked_message(payload: bytes) -> bytes:
    """Unpacks a message that rosbag2 compressed alone; others are returned as they are.

    Raises:
        FrameError: `size`, if it becomes larger than `LARGEST_MESSAGE_BYTES`.
        ZstdError: If it is damaged.
    """
    if payload[:4] != ZSTD_MAGIC:  # a CDR header begins with 0
        return payload
    found = _unzstd(payload, LARGEST_MESSAGE_BYTES)
    if found is None:
        raise FrameError("size", f"a message unpacks to more than {LARGEST_MESSAGE_BYTES} bytes; it was dropped")
    return found


def unpacked_chunk(compression: str, packed: bytes, size: int) -> bytes:
    """Unpacks a chunk of an MCAP file; of a damaged one, what comes before the damage.

    Args:
        compression: What the chunk is said to be packed with.
        packed: Its bytes.
        size: How many it is said to become.

    Raises:
        BagError: If it becomes more, that is more than `LARGEST_MESSAGE_BYTES`, or nothing can unpack it.
    """
    if compression not in {"zstd", "lz4"}:
        raise BagError(f"its compression {compression[:40]!r} is not known")
    if size > LARGEST_MESSAGE_BYTES:
        raise BagError(f"it claims to unpack to {size} bytes; at most {LARGEST_MESSAGE_BYTES} are accepted")
    view = memoryview(packed)
    found = _beginning_of_zstd(view, size) if compression == "zstd" else _beginning_of_lz4(view, size)
    if len(found) > size:
        raise BagError(f"it unpacks to more than the {size} bytes that it claims")
    return found


def unpacked_pieces(path: Path, free_bytes: int) -> Iterator[bytes]:
    """Yields the contents of a `.zstd` file in pieces of at most 1 MiB.

    Args:
        path: The file.
        free_bytes: How much it may become, as far as the disk is concerned; see `free_bytes`.

    Raises:
        BagError: Before it becomes larger than that, or than `most_unpacked_bytes`.
        EOFError: If it is cut off.
        ZstdError: If it is damaged.
    """
    most = min(most_unpacked_bytes(path.stat().st_size), free_bytes)
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


class TemporaryFolder:
    """A folder for unpacked and copied files, made when the first of them needs it: most bags have none."""

    def __init__(self, stack: ExitStack) -> None:
        """Makes nothing yet.

        Args:
            stack: Removes it.
        """
        self._stack = stack
        self._path: Path | None = None

    def path(self) -> Path:
        """Returns the folder.

        Raises:
            BagError: If none can be made, which is no fault of the bag.
        """
        if self._path is None:
            try:
                made = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cnn_perception_bag_"))
            except OSError as error:  # also if there is none at all that can be written
                where = f" in {Path(error.filename).parent}" if error.filename else ""
                raise BagError(
                    f"no temporary folder can be made{where} to unpack or copy it: {error.strerror}; set TMPDIR to a "
                    "folder that can be written"
                ) from None
            self._path = Path(made)
        return self._path


def free_bytes(folder: Path) -> int:
    """Returns how much may be written into a folder."""
    return max(0, shutil.disk_usage(folder).free - SPARE_BYTES)


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


def _beginning_of_zstd(data: memoryview, most: int) -> bytes:
    """Returns what zstd frames unpack to before damage, up to one byte more than `most`."""
    decompressor = zstd.ZstdDecompressor()
    found = bytearray()
    position = 0
    with contextlib.suppress(ZstdError):
        while len(found) <= most and (position < len(data) or not (decompressor.eof or decompressor.needs_input)):
            if decompressor.eof:  # another frame follows
                decompressor = zstd.ZstdDecompressor()
            piece = data[position : position + _PACKED_PIECE_BYTES] if decompressor.needs_input else b""
            found += decompressor.decompress(piece, most + 1 - len(found))
            position += len(piece) - len(decompressor.unused_data)
    return bytes(found)


def _beginning_of_lz4(data: memoryview, most: int) -> bytes:
    """Returns what an LZ4 frame unpacks to before damage, up to one byte more than `most`."""
    decompressor = lz4.frame.LZ4FrameDecompressor()
    found = bytearray()
    position = 0
    with contextlib.suppress(RuntimeError, EOFError):
        while not decompressor.eof and len(found) <= most and (position < len(data) or not decompressor.needs_input):
            piece = data[position : position + _PACKED_PIECE_BYTES] if decompressor.needs_input else b""
            position += len(piece)
            found += decompressor.decompress(piece, most + 1 - len(found))
    return bytes(found)

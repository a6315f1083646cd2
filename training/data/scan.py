"""What is in the files of a data set: each is read and decoded once, before anything is learned from it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import FrameError
from cnn_perception.image.file_formats import file_format, opened
from cnn_perception.image.limits import read_picture
from cnn_perception.image.messages import Decoded, RgbImage, Seen, decode_content, decode_file_bytes
from cnn_perception.image.raw import MAX_PIXELS
from cnn_perception.stream.few_bits import bits_in_use
from training.data.copies import Fingerprint, fingerprint
from training.data.duplicates import Thumbnail, thumbnail
from training.data.records import ImageFinding

FoundT = TypeVar("FoundT")

ANIMATED = "animated: the first of its pictures is used"
TRANSPARENT = "transparent: composited over white"
NEARLY_BLACK = "nearly black"
HUGE = f"above {MAX_PIXELS // 10**6} megapixels, with up to 9 bytes of memory a pixel while it is decoded"
BESIDE_PIXELS = "trouble beside the pixels"
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, EOFError)
"""What Pillow raises for damage in what `decode_content` has no need to read, such as a second frame."""


@dataclass(frozen=True)
class Content:
    """One readable image.

    Attributes:
        sha256: Digest of its bytes.
        pixels: Digest of its size and its pixels: files of the same picture may differ in their bytes.
        thumbnail: By which near duplicates are found.
        notes: What its owner should know of how it was read.
        fingerprint: By which crops are found; None for a small picture.
    """

    sha256: bytes
    pixels: bytes
    thumbnail: Thumbnail
    notes: tuple[str, ...]
    fingerprint: Fingerprint | None = None


def read_all(paths: Sequence[Path]) -> Iterable[Content | ImageFinding]:
    """Yields what each file holds, or why it is left out, in the order of the paths."""
    return by_threads(read, paths, "checking")


def by_threads(work: Callable[[Path], FoundT], paths: Sequence[Path], doing: str) -> Iterator[FoundT]:
    """Yields what is made of each file, in the order of the paths, with a progress bar that says what is done."""
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        yield from ProgressBar(pool.map(work, paths), doing, len(paths), unit="img")
    finally:
        pool.shutdown(cancel_futures=True)  # a Ctrl-C need not wait for the rest


def decoded_file(path: Path) -> tuple[bytes, Decoded] | ImageFinding:
    """Returns the bytes of a file and what the robot would see in them, or why it is left out."""
    try:
        data = read_picture(path)
        return data, decode_content(data)
    except FrameError as error:
        return ImageFinding(path, f"{error.reason}: {error}", "left out")
    except OSError as error:
        return ImageFinding(path, f"unreadable: {error.strerror}", "left out")


def read(path: Path) -> Content | ImageFinding:
    """Decodes one file as the robot would."""
    found = decoded_file(path)
    if isinstance(found, ImageFinding):
        return found
    data, decoded = found
    image = decoded.image
    notes = (*_notes_of_size(image), *_notes(data, decoded.seen))
    return Content(hashlib.sha256(data).digest(), digest(image), thumbnail(image), notes, fingerprint(image))


def picture(path: Path) -> RgbImage | None:
    """Decodes one file again; None where that is no longer possible."""
    try:
        return decode_file_bytes(read_picture(path))
    except (FrameError, OSError):
        return None


def short(digest: bytes) -> int:
    """Returns the first 64 bits of a digest, which two of ten million pictures share in 1 of 370,000 such data sets."""
    return int.from_bytes(digest[:8], "big")


def pixels_of(paths: Sequence[Path], doing: str) -> list[int | None]:
    """Returns of each file the `short` digest of its size and pixels; None where it cannot be read.

    Args:
        paths: The files.
        doing: What the progress bar says.
    """
    return list(by_threads(_short_digest, paths, doing))


def _short_digest(path: Path) -> int | None:
    image = picture(path)
    return None if image is None else short(digest(image))


def digest(image: RgbImage) -> bytes:
    """Returns a digest of an image's size and pixels."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(image.data)
    return digest.digest()


def _notes_of_size(image: RgbImage) -> tuple[str, ...]:
    height, width, _ = image.shape
    if height * width <= MAX_PIXELS:
        return ()
    return (
        f"{HUGE}: {width}x{height} are {image.nbytes >> 20} MiB, and up to three times as much at that moment, for "
        "each of --workers; smaller copies teach as much",
    )


def _notes(data: bytes, seen: Seen) -> tuple[str, ...]:
    told = [oddity for oddity in seen.oddities if oddity.kind != "animation"]  # pages, too, by _notes_of_pillow
    notes = [f"{BESIDE_PIXELS}: {oddity.text}" for oddity in told]
    bits = None if seen.brightest is None else bits_in_use(seen.brightest)
    if bits is not None:
        notes.append(f"{NEARLY_BLACK}: of its 16 bits only {bits} are used; multiply its numbers by {1 << 16 - bits}")
    return (*notes, *_notes_of_pillow(data))


def _notes_of_pillow(data: bytes) -> tuple[str, ...]:
    kind = file_format(data)
    if kind is None or kind == "JPEG":  # which has one picture and no alpha
        return ()
    try:
        with opened(data, kind) as image:
            animated = getattr(image, "is_animated", False)
            alpha = image.has_transparency_data and np.asarray(image.convert("RGBA").getchannel("A"))
            # Where all of it is transparent alpha is dropped, an oddity of the decoded picture.
            is_composited = alpha is not False and alpha.min() < 255 and alpha.max() > 0
    except DAMAGE:
        return ()
    return (ANIMATED,) * animated + (TRANSPARENT,) * bool(is_composited)

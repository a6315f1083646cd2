"""What is in the files of a data set: each is read and decoded once, before anything is learned from it."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from cnn_perception.errors import FrameError
from cnn_perception.image.messages import decode_file_bytes
from training.data.duplicates import Thumbnail, thumbnail
from training.data.records import ImageFinding

ANIMATED = "animated: the first of its pictures is used"
TRANSPARENT = "transparent: composited over white"
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, EOFError)
"""What Pillow raises for damage in what `decode_file_bytes` has no need to read, such as a second frame."""


@dataclass(frozen=True)
class Content:
    """One readable image.

    Attributes:
        sha256: Digest of its bytes.
        thumbnail: By which near duplicates are found.
        notes: What its owner should know of how it was read.
    """

    sha256: bytes
    thumbnail: Thumbnail
    notes: tuple[str, ...]


def read_all(paths: Sequence[Path]) -> Iterable[Content | ImageFinding]:
    """Yields what each file holds, or why it is left out, in the order of the paths."""
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        yield from tqdm(pool.map(read, paths), "checking", len(paths), unit="img")
    finally:
        pool.shutdown(cancel_futures=True)  # a Ctrl-C need not wait for the rest


def read(path: Path) -> Content | ImageFinding:
    """Decodes one file as the robot would."""
    try:
        data = path.read_bytes()
        image = decode_file_bytes(data)
    except FrameError as error:
        return ImageFinding(path, f"{error.reason}: {error}", "left out")
    except OSError as error:
        return ImageFinding(path, f"unreadable: {error.strerror}", "left out")
    return Content(hashlib.sha256(data).digest(), thumbnail(image), _notes(data))


def _notes(data: bytes) -> tuple[str, ...]:
    if data.startswith(b"\xff\xd8"):  # a JPEG has one picture and no alpha
        return ()
    try:
        with Image.open(io.BytesIO(data)) as image:
            animated = getattr(image, "is_animated", False)
            alpha = image.has_transparency_data and np.asarray(image.convert("RGBA").getchannel("A")).min() < 255
    except _DAMAGE:
        return ()
    return (ANIMATED,) * animated + (TRANSPARENT,) * bool(alpha)

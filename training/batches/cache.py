"""Training images kept as pixels on the disk, so that a JPEG is decoded once and not in every epoch.

Each image has a file of its own, named by the digest of the picture file and of how it is kept: unchanged images are
found again by later runs and by the folds of a cross-validation, and a changed one is another one. Each is written
before training begins, beside its place, and then renamed; one that is damaged is written again. The processes that
load batches only map them.

A photograph much larger than the network's input is kept smaller, by the filter of `preprocess`: with 1.5 times the
pixels that the input's geometry asks for, and more where the augmentation zooms in further, so that no part of it is
enlarged that had the pixels. A photograph of 12 megapixels for an input of 224 takes 1/61 of the room, and the input
it gives differs by 0.1 to 1.4 grey levels on average (nine photographs). An image that found no room is made smaller
each time it is read, so what a network sees depends neither on what fitted nor on whether anything is kept. Images of
validation and test are never taken from here: they are what the robot will see.
"""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.image.limits import read_picture
from cnn_perception.image.messages import RgbImage, decode_file_bytes
from cnn_perception.model.spec import InputSpec, Interpolation
from training.batches.augment import Augmentation
from training.config import TrainConfig
from training.data.records import Sample

FORMAT = b"cnnp/px1"
HEADER = struct.Struct("<8sIII")
"""Format, CRC-32 of the pixels, rows, columns; then rows x columns x 3 bytes, RGB."""
FILTERS: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
"""Pillow's names of `resample`'s filters, for images that stay images."""
MARGIN = 1.5
"""Pixels kept for each one that evaluation's resize makes, per side."""


@dataclass(frozen=True)
class Cache:
    """The images of some samples, from the disk where they are there.

    Attributes:
        files: For each sample where its pixels are; None where there was no room.
        rows: Pixels of the shorter sides that are kept: an image is made smaller until it just covers rows x columns.
        columns: Likewise.
        interpolation: Filter of `preprocess`.
    """

    files: tuple[Path | None, ...]
    rows: int
    columns: int
    interpolation: Interpolation

    def image(self, row: int, path: Path) -> RgbImage:
        """Returns the image of a sample, (H, W, 3) uint8, perhaps read-only and smaller than in its file.

        Raises:
            FrameError: If it is not kept here and its file cannot be decoded.
            OSError: Likewise, cannot be read.
        """
        file = self.files[row]
        kept = _mapped(file) if file is not None else None
        return self.smaller(decode_file_bytes(read_picture(path))) if kept is None else RgbImage(kept[0])

    def smaller(self, image: RgbImage) -> RgbImage:
        """Returns an image as it is kept: itself, or resized to cover rows x columns."""
        height, width = image.shape[:2]
        scale = max(self.rows / height, self.columns / width)
        if scale >= 1:
            return image
        size = max(self.columns, round(width * scale)), max(self.rows, round(height * scale))
        return RgbImage(np.asarray(Image.fromarray(image).resize(size, FILTERS[self.interpolation])))

    def name(self, data: bytes) -> str:
        """Returns the name of the file that holds the pixels of a picture file."""
        kept_as = f"{FORMAT.decode()} {self.rows}x{self.columns} {self.interpolation}"
        return f"{hashlib.sha256(hashlib.sha256(data).digest() + kept_as.encode()).hexdigest()}.px"


def folder(config: TrainConfig) -> Path:
    """Returns where a run keeps its decoded images."""
    return Path(config.cache_dir) if config.cache_dir else Path(config.output) / "cache"


def open_cache(
    samples: Sequence[Sample],
    config: TrainConfig,
    augmentation: Augmentation | None,
    others: Sequence[InputSpec] = (),
) -> Cache:
    """Decodes the training images that are not on the disk yet, as far as there is room.

    Args:
        samples: The training images.
        config: The settings of the run; without room for a single byte nothing is written.
        augmentation: What may be asked of the images.
        others: Preprocessing of other networks that see them, too.

    Returns:
        Where they are now.

    Raises:
        ConfigError: If the folder cannot be made.
    """
    sizes = [kept_size(spec, augmentation and augmentation.at(spec)) for spec in (config.input, *others)]
    rows, columns = (max(sides) for sides in zip(*sizes, strict=True))
    cache = Cache((None,) * len(samples), rows, columns, config.input.interpolation)
    if config.cache_gb <= 0:
        return cache
    room = _Room(int(config.cache_gb * 1e9))
    place = folder(config)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{place}: cannot be made ({error.strerror}); choose another --cache-dir") from None
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        found = pool.map(lambda sample: _keep(sample.path, place, cache, room), samples)
        files = tuple(ProgressBar(found, "decoding", len(samples), unit="img"))
    finally:
        pool.shutdown(cancel_futures=True)  # a Ctrl-C need not wait for the rest
    _remove_others(place, set(files), room.limit)
    if left := files.count(None):
        ProgressBar.write(f"{place}: {room.why_full}; {left} of {len(files)} images are decoded in every epoch")
    return dataclasses.replace(cache, files=files)


def close_cache(config: TrainConfig) -> None:
    """Removes the decoded images of a finished run; those in a folder named by the user stay."""
    if config.cache_dir is None:
        shutil.rmtree(folder(config), ignore_errors=True)


def kept_size(spec: InputSpec, augmentation: Augmentation | None) -> tuple[int, int]:
    """Returns the rows and columns that an image kept smaller still covers."""
    zoom = max(MARGIN / spec.crop_fraction, augmentation.zoom() if augmentation else 1.0)
    return round(spec.height * zoom), round(spec.width * zoom)


class _Room:
    """Bytes that may still be taken, counted by several threads."""

    def __init__(self, limit: int) -> None:
        self.limit = self.left = limit
        self.why_full = f"no room beyond --cache-gb {limit / 1e9:g}"
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            fits = size <= self.left
            self.left = self.left - size if fits else 0  # else all the rest would be decoded to be tried
            return fits

    def end(self, reason: str) -> None:
        with self._lock:
            self.left = 0
            self.why_full = reason


def _keep(path: Path, place: Path, cache: Cache, room: _Room) -> Path | None:
    """Sees to it that an image is on the disk, whole; returns its file, None if it is not there."""
    try:
        data = read_picture(path)
        file = place / cache.name(data)
        if (kept := _mapped(file)) is not None and zlib.crc32(kept[0].data) == kept[1]:
            os.utime(file)  # for `_remove_others`
            return file if room.take(kept[0].nbytes + HEADER.size) else None
        if room.left == 0:
            return None
        pixels = np.ascontiguousarray(cache.smaller(decode_file_bytes(data)))
    except (FrameError, OSError):
        return None  # whoever asks for the image will say so
    if not room.take(pixels.nbytes + HEADER.size):
        return None
    unfinished = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with unfinished.open("wb") as out:
            out.write(HEADER.pack(FORMAT, zlib.crc32(pixels.data), *pixels.shape[:2]))
            out.write(pixels.data)
        unfinished.replace(file)
    except OSError as error:
        room.end(f"cannot be written to ({error.strerror})")
        unfinished.unlink(missing_ok=True)
        return None
    return file


def _remove_others(place: Path, own: set[Path | None], limit: int) -> None:
    """Removes what other runs left in a folder, the longest unused first, until all of it is within the limit."""
    files = []
    for file in place.glob("*.px"):
        try:
            files.append((file.stat().st_mtime_ns, file.stat().st_size, file))
        except FileNotFoundError:
            continue  # another run has just done the same
    used = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if used > limit and file not in own:
            file.unlink(missing_ok=True)
            used -= size


def _mapped(file: Path) -> tuple[npt.NDArray[np.uint8], int] | None:
    """The pixels of a file, not read yet, and what their CRC-32 should be; None if it is missing or incomplete."""
    try:
        with file.open("rb") as opened:
            memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # an empty file cannot be mapped
        return None
    if len(memory) < HEADER.size:
        return None
    name, crc, rows, columns = HEADER.unpack_from(memory)
    if name != FORMAT or len(memory) != HEADER.size + rows * columns * 3:
        return None
    return np.frombuffer(memory, np.uint8, offset=HEADER.size).reshape(rows, columns, 3), crc

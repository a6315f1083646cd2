"""MNIST's idx files, and what is published like them, as an image folder: each image becomes a PNG of its own.

    DIR/train-images-idx3-ubyte(.gz)  DIR/train-labels-idx1-ubyte(.gz)  and t10k-* likewise
    -> DIR/unpacked/train/LABEL/00000.png ...  DIR/unpacked/test/LABEL/...

All that works on images by their paths (duplicates, reports, the export's own images) then works on these. The
folder is written once, beside its place, and then renamed.

Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits: file formats.
"""

from __future__ import annotations

import gzip
import math
import re
import shutil
import struct
import tempfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError
from cnn_perception.mistaken_files import what_instead

FOLDER = "unpacked"
_NAME = re.compile(r"(?P<stem>.*?)(?P<part>train|t10k|test)-images[.-]idx3-ubyte(?P<packed>\.gz)?", re.IGNORECASE)
_PARTS = {"train": "train", "t10k": "test", "test": "test"}
_UNSIGNED_BYTES = 0x08
_MOST_BYTES = 1 << 32
"""Of one file, unpacked; MNIST's largest has 47 million."""
Bytes = npt.NDArray[np.uint8]


def found(folder: Path) -> bool:
    """Returns whether a folder holds idx files of images."""
    return folder.is_dir() and bool(_image_files(folder))


def unpacked(folder: Path) -> Path:
    """Returns the image folder of a folder's idx files, which is made if it is not there yet.

    Raises:
        DataError: If a file is damaged or missing, or the folder cannot be written.
    """
    target = folder / FOLDER
    if target.is_dir():
        return target
    parts = {part: _labelled(path) for part, path in _image_files(folder).items()}
    if "train" not in parts:
        raise DataError(f"{folder}: holds idx files, but no train-images-idx3-ubyte; add it with its labels")
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{FOLDER}_") as beside:
            for part, (images, labels) in parts.items():
                _write(Path(beside) / FOLDER / part, images, labels)
            shutil.move(Path(beside) / FOLDER, target)
    except OSError as error:
        raise DataError(f"{folder}: cannot be unpacked there ({error.strerror}); copy it where there is room") from None
    return target


def _image_files(folder: Path) -> dict[str, Path]:
    """Returns the file of images of each part; of a plain and a packed one the plain one."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if (match := _NAME.fullmatch(path.name)) and path.is_file():
            files.setdefault(_PARTS[match["part"].lower()], path)
    return files


def _labelled(path: Path) -> tuple[Bytes, Bytes]:
    """Reads a file of images (n, rows, columns) and that of their labels (n,)."""
    images = read(path)
    name = re.sub("images([.-])idx3", r"labels\1idx1", path.name, flags=re.IGNORECASE).removesuffix(".gz")
    candidates = [path.with_name(name + suffix) for suffix in ("", ".gz")]
    labels_path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if labels_path is None:
        raise DataError(f"{path}: its labels, {name}, are missing; put them beside it")
    labels = read(labels_path)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        what = f"{'x'.join(map(str, images.shape))} numbers and {'x'.join(map(str, labels.shape))} labels"
        raise DataError(f"{path}: holds {what}, not as many images as labels; fetch both files again")
    return images, labels


def read(path: Path) -> Bytes:
    """Reads an idx file of bytes, plain or packed by gzip.

    Raises:
        DataError: If it is damaged, or holds other numbers.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                data = file.read(_MOST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it again") from None
    if what := what_instead(data, "file"):
        raise DataError(f"{path}: {what}")
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTES or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path}: is no idx file of bytes; fetch it again")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    numbers = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if math.prod(shape) != len(numbers) or not len(numbers):
        raise DataError(f"{path}: holds {len(numbers)} of the {math.prod(shape)} bytes it promises; fetch it again")
    return numbers.reshape(shape)


def _write(folder: Path, images: Bytes, labels: Bytes) -> None:
    """Writes each image as DIR/LABEL/NUMBER.png, with its place in the file as its number."""
    width = len(str(len(images) - 1))
    for label in np.unique(labels):
        (folder / str(label)).mkdir(parents=True)
    pairs = zip(images, labels, strict=True)
    for number, (image, label) in enumerate(ProgressBar(pairs, f"unpacking {folder.name}", len(images), unit="img")):
        _, png = cv2.imencode(".png", image)
        (folder / str(label) / f"{number:0{width}}.png").write_bytes(png.tobytes())

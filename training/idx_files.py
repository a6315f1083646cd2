"""MNIST's idx files, and what is published like them, as an image folder: each image becomes a PNG of its own.

    DIR/train-images-idx3-ubyte(.gz)  DIR/train-labels-idx1-ubyte(.gz)  and t10k-* likewise
    -> DIR/unpacked/train/LABEL/00000.png ...  DIR/unpacked/test/LABEL/...

All that works on images by their paths (duplicates, reports, the export's own images) then works on these. The
folder is written beside its place, and then renamed; what it was unpacked from is kept in it, and where the idx files
are others later, it is made anew.

Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits: file formats.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import struct
import tempfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.commands import for_shell
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError, printable
from cnn_perception.mistaken_files import what_instead

FOLDER = "unpacked"
RECORD = ".sources.json"
"""In that folder: the SHA-256 of each idx file by its name, in hexadecimal digits."""
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
    """Returns the image folder of a folder's idx files, which is made if it is not there yet, or was made of others.

    Raises:
        DataError: If a file is damaged or missing, there are those of several data sets, there is such a folder of
            which nobody knows what it was made of, or the folder cannot be written.
    """
    parts = {part: (path, _labels_of(path)) for part, path in _files_of_parts(folder).items()}
    if "train" not in parts:
        raise DataError(f"{folder}: holds idx files, but no train-images-idx3-ubyte; add it with its labels")
    target = folder / FOLDER
    sources = {path.name: _digest(path) for pair in parts.values() for path in pair}
    before = _record(target) if target.exists() else None
    if before == sources:
        return target
    pairs = {part: _labelled(*paths) for part, paths in parts.items()}
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{FOLDER}_") as beside:
            made = Path(beside) / FOLDER
            for part, (images, labels) in pairs.items():
                _write(made / part, images, labels)
            (made / RECORD).write_text(json.dumps(sources, indent=1), encoding="utf-8")
            if before is not None:
                print(printable(f"{target}: was unpacked from other files than there are now; it is made anew"))
                target.rename(Path(beside) / "before")
            made.rename(target)
    except OSError as error:
        if target.exists() and _record(target) == sources:  # another process was faster
            return target
        raise DataError(f"{folder}: cannot be unpacked there ({error.strerror}); copy it where there is room") from None
    return target


def _record(target: Path) -> dict[str, str]:
    """Returns what a folder was unpacked from."""
    try:
        return dict(json.loads((target / RECORD).read_bytes()))
    except (OSError, ValueError, TypeError):
        raise DataError(
            f"{target}: nothing tells whether it is of the idx files beside it; remove it, and it is made anew, or "
            f"give {for_shell('--data', target)} to use it as it is"
        ) from None


def _digest(path: Path) -> str:
    try:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        return digest.hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); fetch it again") from None


def _image_files(folder: Path) -> dict[Path, re.Match[str]]:
    """Returns the files of images, by name, and what their names say; of a packed and a plain one the plain one."""
    found = {path: match for path in sorted(folder.iterdir()) if (match := _NAME.fullmatch(path.name))}
    return {
        path: match
        for path, match in found.items()
        if path.is_file() and not (match["packed"] and path.with_suffix("").is_file())
    }


def _files_of_parts(folder: Path) -> dict[str, Path]:
    """Returns the file of images of each part.

    Raises:
        DataError: If there are several of a part, as in a folder of all of EMNIST; names them.
    """
    files = _image_files(folder)
    firsts = {match["stem"]: path.name for path, match in reversed(files.items())}
    if len(firsts) > 1:
        names = ", ".join(sorted(firsts.values()))
        raise DataError(
            f"{folder}: holds the idx files of {len(firsts)} data sets ({names}); move those of each, with their "
            "labels, into a folder of its own"
        )
    parts: dict[str, Path] = {}
    for path, match in files.items():
        other = parts.setdefault(_PARTS[match["part"].lower()], path)
        if other != path:
            raise DataError(f"{folder}: {other.name} and {path.name} are of the same part; move one of them away")
    return parts


def _labels_of(images: Path) -> Path:
    name = re.sub("images([.-])idx3", r"labels\1idx1", images.name, flags=re.IGNORECASE).removesuffix(".gz")
    candidates = [images.with_name(name + suffix) for suffix in ("", ".gz")]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise DataError(f"{images}: its labels, {name}, are missing; put them beside it")
    return found


def _labelled(path: Path, labels_path: Path) -> tuple[Bytes, Bytes]:
    """Reads a file of images (n, rows, columns) and that of their labels (n,)."""
    images, labels = read(path), read(labels_path)
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

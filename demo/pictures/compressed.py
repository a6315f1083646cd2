"""A picture as a file that a page can carry."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_perception.image.messages import RgbImage, read_image
from training.run_files import make_folder, replacing

MOST_BYTES = 150_000
"""Of a file, where its format can be that small."""
_QUALITIES = (90, 85, 80, 75, 70, 65, 60, 55, 50)
_COLOURS = (256, 128, 64)


def write(picture: RgbImage, path: Path) -> None:
    """Writes a picture as well as fits into `MOST_BYTES`, or at the least quality at which text can still be read.

    Args:
        picture: (H, W, 3) uint8.
        path: The .jpg or .png file; it is replaced when the new one is whole. A .png gets a palette.

    Raises:
        DataError: If it cannot be written.
    """
    for data in _encoded(Image.fromarray(picture), path.suffix):
        if len(data) <= MOST_BYTES:
            break
    make_folder(path.parent)
    with replacing(path) as file:
        file.write(data)


def _encoded(picture: Image.Image, suffix: str) -> Iterator[bytes]:
    """Yields the bytes of a file, ever fewer."""
    if suffix == ".png":
        for colours in _COLOURS:
            yield _bytes(picture.quantize(colours, Image.Quantize.MEDIANCUT), "PNG", {"optimize": True})
    else:
        for quality in _QUALITIES:
            yield _bytes(picture, "JPEG", {"quality": quality, "optimize": True, "progressive": True})


def _bytes(picture: Image.Image, form: str, options: dict[str, int]) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def of_file(data: bytes) -> RgbImage:
    """Returns the picture, (H, W, 3) uint8, of a file's bytes, such as of a screen."""
    with Image.open(io.BytesIO(data)) as picture:
        return RgbImage(np.asarray(picture.convert("RGB"), np.uint8))


def beside(paths: list[Path], gap: int = 8) -> RgbImage:
    """Returns pictures of one height beside each other, with white between them.

    Args:
        paths: Their files.
        gap: Columns of white.

    Raises:
        FrameError: If one cannot be read.
    """
    pictures = [read_image(path) for path in paths]
    white = np.full((pictures[0].shape[0], gap, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, white)]
    return RgbImage(np.concatenate(parts[:-1], axis=1))

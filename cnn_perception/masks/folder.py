"""Reads the masks that belong to images, from a folder with a class table or in the layout of Penn-Fudan.

- A folder: the mask of an image NAME.ext is NAME.png, of the image's size. It lies in the same folders as the image as
  far as the masks' folder has them: of the image DATA/val/stop/7.jpg it is MASKS/val/stop/7.png, else MASKS/stop/7.png,
  else MASKS/7.png. What its colours or indices stand for, `class_table` says. An image itself is never its mask.
- Penn-Fudan (a folder with PNGImages and PedMasks): PedMasks/NAME_mask.png, 0 is background and any other index one
  pedestrian; the only concept is `pedestrian`.

An image without a mask is no error: it has None.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnn_perception.errors import DataError, FrameError, one_line
from cnn_perception.image.file_formats import file_format, opened
from cnn_perception.image.limits import FILE_PIXELS, check_pixels, read_picture
from cnn_perception.masks.class_table import BACKGROUND, ClassTable, read_class_table
from cnn_perception.pipeline.label_map import LabelMap

PEDESTRIAN = "pedestrian"
_PENN_FUDAN = ("PNGImages", "PedMasks")
_UNKNOWN = -3
_GREY = ("L", "LA", "1", "I", "I;16", "I;16B")
"""Modes of Pillow whose pixels are one number."""


@dataclass(frozen=True)
class Masks:
    """The masks of a folder.

    Attributes:
        root: The folder.
        table: What their values stand for; None for Penn-Fudan's, which number the pedestrians.
    """

    root: Path
    table: ClassTable | None

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names of the K concepts."""
        return (PEDESTRIAN,) if self.table is None else self.table.concepts

    @property
    def class_names(self) -> tuple[str, ...]:
        """As which of a model's classes each concept counts."""
        return self.concepts if self.table is None else self.table.class_names

    @property
    def background_class(self) -> str:
        """As which class the background counts; empty where nothing says so."""
        return "" if self.table is None else self.table.background_class

    def path_of(self, image: Path) -> Path | None:
        """Returns the file of an image's mask; None if there is none."""
        if self.table is None:
            found = self.root / _PENN_FUDAN[1] / f"{image.stem}_mask.png"
            return found if found.is_file() else None
        parts = image.absolute().parts
        for start in range(1, len(parts)):
            path = self.root.joinpath(*parts[start:-1], f"{image.stem}.png")
            if path.is_file() and not (image.is_file() and path.samefile(image)):
                return path
        return None

    def paired(self, images: Iterable[Path]) -> list[tuple[Path, Path]]:
        """Returns those of the images that have a mask, each with it.

        Raises:
            DataError: If two images have the same one: then it is unknown whose it is.
        """
        pairs = [(image, mask) for image in images if (mask := self.path_of(image)) is not None]
        first: dict[Path, Path] = {}
        for image, mask in pairs:
            if first.setdefault(mask, image) != image:
                raise DataError(
                    f"{mask}: is the mask of both {first[mask]} and {image}; put masks into folders as the images are"
                )
        return pairs

    def labels(self, mask: Path, height: int, width: int) -> LabelMap:
        """Returns what each pixel of an image shows.

        Args:
            mask: Its mask, from `path_of`.
            height: Rows of the image.
            width: Columns of the image.

        Returns:
            (height, width) int32: the position of a concept, or `BACKGROUND` or `VOID`.

        Raises:
            DataError: If the file cannot be read, has another size, or a value that the table does not name.
        """
        if self.table is None:
            values = _indices(_opened(mask), mask)
            labels = np.where(values > 0, np.int32(0), np.int32(BACKGROUND))
        else:
            labels = _labels(_opened(mask), mask, self.table)
        if labels.shape != (height, width):
            rows, columns = labels.shape
            raise DataError(f"{mask}: has {columns}x{rows} pixels, its image {width}x{height}; make them of one size")
        return labels

    def of(self, image: Path, height: int, width: int) -> npt.NDArray[np.bool_] | None:
        """Returns where an image shows each concept; None without a mask.

        Args:
            image: Its file.
            height: Rows of the image.
            width: Columns of the image.

        Returns:
            (K, height, width) bool.

        Raises:
            DataError: As for `labels`.
        """
        mask = self.path_of(image)
        if mask is None:
            return None
        shown: npt.NDArray[np.bool_] = self.labels(mask, height, width) == np.arange(len(self.concepts))[:, None, None]
        return shown


def read_masks(root: Path) -> Masks:
    """Returns the masks of a folder, of whichever layout it has.

    Raises:
        DataError: If there is no such folder, or its class table is missing or cannot be used.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder of masks")
    if all((root / name).is_dir() for name in _PENN_FUDAN):
        return Masks(root, None)
    return Masks(root, read_class_table(root))


def _opened(path: Path) -> Image.Image:
    """Returns a mask's picture, decoded."""
    try:
        content = read_picture(path)
        if file_format(content) != "PNG":
            raise DataError(f"{path}: is no PNG; masks are PNGs, since other formats may change their values")
        image = opened(content, "PNG")
        check_pixels(image.height, image.width, len(content), FILE_PIXELS)
        image.load()
    except DataError:
        raise
    except FrameError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # Pillow's plugins raise anything
        raise DataError(f"{path}: cannot be read ({one_line(error)}); write the mask again") from None
    return image


def _indices(image: Image.Image, path: Path) -> npt.NDArray[np.int64]:
    """Returns the numbers (H, W) that a mask holds, of a picture with a palette the entries' positions."""
    if image.mode == "P" or image.mode in _GREY:
        values = np.asarray(image)
        return (values if values.ndim == 2 else values[..., 0]).astype(np.int64)
    pixels = np.asarray(image.convert("RGB"))
    if not (pixels == pixels[..., :1]).all():
        raise DataError(f"{path}: is in colour, but the class table has indices; write its columns as name,r,g,b")
    return pixels[..., 0].astype(np.int64)


def _colours(image: Image.Image, path: Path) -> npt.NDArray[np.int64]:
    """Returns the colours (H, W) of a mask as the table has them."""
    if image.mode.startswith("I"):
        raise DataError(f"{path}: holds numbers of 16 bits, but the class table has colours; write it as index,name")
    pixels = np.asarray(image.convert("RGB")).astype(np.int64)
    return pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]


def _labels(image: Image.Image, path: Path, table: ClassTable) -> LabelMap:
    values = _colours(image, path) if table.is_colour else _indices(image, path)
    known = np.array(table.values)
    places = np.searchsorted(known, values).clip(max=len(known) - 1)
    labels = np.where(known[places] == values, np.array(table.labels, np.int32)[places], np.int32(_UNKNOWN))
    unknown = values[labels == _UNKNOWN]
    if unknown.size:
        value = int(unknown[0])
        what = f"the colour {value >> 16},{value >> 8 & 255},{value & 255}" if table.is_colour else f"the index {value}"
        count = int((unknown == value).sum())
        others = unknown.size - count
        raise DataError(
            f"{path}: {count} pixels have {what}, which the class table does not name"
            f"{f', and {others} others another such' if others else ''}; add it, as void if nothing is known of it"
        )
    return labels

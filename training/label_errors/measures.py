"""What can be measured of a picture without knowing what it shows, and what its file says of how it was taken."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from cnn_perception.image.file_formats import file_format
from cnn_perception.image.messages import RgbImage
from training.data import scan
from training.data.duplicates import Thumbnail, thumbnail
from training.data.records import ImageFinding

BLACK = 16
WHITE = 250
"""Grey levels up to which, and from which on, nothing can be told from its surroundings."""
SIDE = 256
"""Pixels to which the longer side of a larger picture is reduced before its sharpness is measured."""
_TAKEN = (0x9003, 0x0132)
"""EXIF: when the picture was taken, when the file was made."""
_OF_EXIF = 0x8769
_CAMERA = 0x0110
_STANDARD = 57.625
"""Mean of the luminance table for quality 50. Source: ITU-T T.81, table K.1."""
_MAY_BE_UNREADABLE = (*scan.DAMAGE, KeyError, IndexError, OverflowError)


@dataclass(frozen=True, eq=False)
class Measured:
    """One readable image.

    Attributes:
        pixels: Digest of its size and pixels.
        thumbnail: By which near duplicates are found.
        numbers: By name, what was measured; NaN where the file does not say it.
        words: By name, what the file says of itself; empty where it does not.
        dark_end: Grey level that 95 % of the pixels do not exceed.
        bright_end: Grey level that 95 % of the pixels reach.
        black: Share of the pixels that are black.
        white: Share of the pixels that are white.
    """

    pixels: bytes
    thumbnail: Thumbnail
    numbers: dict[str, float]
    words: dict[str, str]
    dark_end: float
    bright_end: float
    black: float
    white: float


def measure_all(paths: Sequence[Path]) -> Iterator[Measured | ImageFinding]:
    """Yields what was measured of each file, or why it is left out, in the order of the paths."""
    return scan.by_threads(measure, paths, "measuring")


def measure(path: Path) -> Measured | ImageFinding:
    """Decodes one file as the robot would, and measures it."""
    found = scan.decoded_file(path)
    if isinstance(found, ImageFinding):
        return found
    data, decoded = found
    image = decoded.image
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    numbers, words = _of_file(data)
    return Measured(
        pixels=scan.digest(image),
        thumbnail=thumbnail(image),
        numbers={**_of_pixels(image, grey), **numbers},
        words=words,
        dark_end=float(np.percentile(grey, 95)),
        bright_end=float(np.percentile(grey, 5)),
        black=float((grey <= BLACK).mean()),
        white=float((grey >= WHITE).mean()),
    )


def _of_pixels(image: RgbImage, grey: npt.NDArray[Any]) -> dict[str, float]:
    height, width = grey.shape
    return {
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "sharpness": sharpness(grey),
        "pixels": float(height * width),
        "aspect": width / height,
        "colourfulness": float(np.ptp(image.reshape(-1, 3).mean(axis=0))),
    }


def sharpness(grey: npt.NDArray[Any]) -> float:
    """Returns the logarithm of how much the second derivative of a picture (H, W) varies, over how much it does itself.

    Source: Pech-Pacheco et al. 2000, Diatom Autofocusing in Brightfield Microscopy (the variance of the Laplacian).
    """
    scale = min(1.0, SIDE / max(grey.shape))
    size = tuple(max(1, round(pixels * scale)) for pixels in grey.shape[::-1])
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return float(np.log((cv2.Laplacian(small, cv2.CV_32F).var() + 1) / (small.var() + 1)))


def _of_file(data: bytes) -> tuple[dict[str, float], dict[str, str]]:
    """Quality and time of a picture, NaN where they are not known; its format and camera."""
    numbers = {"JPEG quality": np.nan, "time of day": np.nan, "date": np.nan}
    words = {"file type": file_format(data[:64]) or "", "camera": ""}
    try:
        with Image.open(io.BytesIO(data)) as image:  # its headers; the pixels were decoded within limits before
            tables = getattr(image, "quantization", None)
            exif = image.getexif()
            taken = exif.get_ifd(_OF_EXIF).get(_TAKEN[0]) or exif.get(_TAKEN[1])
            words["camera"] = str(exif.get(_CAMERA, "")).strip("\0 ")
            if tables:
                numbers["JPEG quality"] = _quality(tables[0])
            numbers |= _of_time(_moment(taken))
    except _MAY_BE_UNREADABLE:
        pass
    return numbers, words


def _quality(table: Sequence[int]) -> float:
    """The quality that libjpeg was asked for, to 2 points from 25 on. Source: jpeg_quality_scaling of it, undone."""
    scale = 100 * float(np.mean(table)) / _STANDARD
    return float(np.clip(5000 / scale if scale > 100 else (200 - scale) / 2, 1, 100))


def _moment(taken: object) -> datetime | None:
    try:
        return datetime.strptime(str(taken).strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _of_time(moment: datetime | None) -> dict[str, float]:
    if moment is None:
        return {}
    return {"time of day": moment.hour + moment.minute / 60, "date": moment.timestamp() / 86400}


def of_stamp(stamp_ns: str) -> dict[str, float]:
    """Returns the time of day (hours, UTC) and the date (days) of a stamp in nanoseconds; nothing of other text."""
    try:
        return _of_time(datetime.fromtimestamp(int(stamp_ns) / 1e9, timezone.utc))
    except (ValueError, OverflowError, OSError):
        return {}

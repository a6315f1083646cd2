"""Whether the bytes of an image are those of another encoding than it names, by how neighbouring pixels resemble.

Rows may be as long as those of another encoding. Padding is legal, so a `step` alone proves nothing: the left half of a
stereo camera's rows, or a square that was cut out of a wider picture without copying it, has the step of another
encoding, too. The bytes tell: neighbouring pixels of a picture resemble each other, so bytes are most like those that
are one pixel away. Measured on 150 photographs with noise, the other encoding's distance gives less than 0.7 of the
difference for 19 in 20 pictures that are mislabelled, mostly less than 0.3, and never less than 0.9 for one that is
not. What it cannot tell is passed over: RGBA labelled as YUYV, whose pattern begins again after as many bytes, and RGB
without colours labelled as mono8.

Rows of the right length may hold their bytes in another order, or a mosaic in place of grey. Measured on 224
photographs, each as it is, with noise, dark, blurred, smaller, with more and without colours: nothing is said of one
that is right; of those that are mislabelled nearly all of YUV and of numbers of 16 bits are told, and two mosaics in
three. Without colours a mosaic is a grey picture, and right. Of 792 photographs and frames of a drive, each as it is,
with noise, blurred, grey and small, none that is right is told to have width and height exchanged, and 96 in 100 that
have it are. Numbers of 16 bits may be distances, which have no name of their own among the encodings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_Bytes = npt.NDArray[np.uint8]
_Numbers = npt.NDArray[Any]

OF_PIXEL_BYTES = {
    1: "mono8",
    2: "yuv422_yuy2, uyvy or mono16",
    3: "rgb8 or bgr8",
    4: "rgba8 or bgra8",
    6: "rgb16 or bgr16",
    8: "rgba16 or bgra16",
}
"""The usual encodings by the bytes of a pixel."""
_MOST_ROWS = 64
"""So many are looked at, all over the image."""
_FEWEST_COLUMNS = 32
"""Of fewer there are too few neighbours to tell."""
_CLEARLY = 0.7
"""The bytes differ by less than this share at the other encoding's distance where they are of it."""
_ASIDE = 8
"""So many pixels beside the one below it another is hardly like it; an even number, for mosaics."""
_LEAST_ZEROS = 0.01
"""Share of what a depth camera has not measured; it is more in nearly every image."""
_EDGES_OF_BORDER = 2.0
"""So many has a row of a picture that has a black border."""
_FEWEST_DISTANCES = 32
"""Drawings and label maps have fewer numbers."""
_STEPS_TO_FIRST = 64
"""Distances begin at least so many steps from 0: depth cameras measure from 7 cm on, in millimetres or less."""
_MOST_ROWS_OF_ORDER = 24
"""So many are looked at of every image that may be in another order: it takes a tenth of a millisecond."""


def other_pixel_bytes(data: bytes | memoryview, size: tuple[int, int], step: int, periods: Sequence[int]) -> int:
    """Returns how many bytes a pixel has by the image's rows; 0 where they are as its encoding says, or nothing tells.

    It costs a division where rows are not padded.

    Args:
        data: At least `height` rows of `step` bytes.
        size: (height, width) of the image.
        step: Bytes from one row to the next.
        periods: After how many bytes, by the encoding, the next pixel comes, and its pattern of colours begins again.

    Returns:
        A key of `OF_PIXEL_BYTES`, or 0.
    """
    height, width = size
    pixel_bytes, rest = divmod(step, width)
    if rest or pixel_bytes <= periods[0] or pixel_bytes not in OF_PIXEL_BYTES or width < _FEWEST_COLUMNS:
        return 0
    lines = np.frombuffer(data, np.uint8, count=height * step).reshape(height, step)[:: max(1, height // _MOST_ROWS)]
    pixels, padding = np.split(lines, [width * periods[0]], axis=1)
    if (padding == padding[:, :1]).all():  # zeros, or the last byte of each row
        return 0
    others = (pixel_bytes, 2 * pixel_bytes)  # the pattern of YUV and of mosaics begins again after two pixels
    return pixel_bytes if _difference(pixels, others) < _CLEARLY * _difference(pixels, periods) else 0


def is_luma_chroma(luma: _Numbers, chroma: _Numbers) -> bool:
    """Returns whether the luma of a YUV image with two bytes a pixel is its chroma, and the other way round.

    Chroma alternates between U and V, so that every second one resembles the first more than the next does.

    Args:
        luma: (H, W) what is taken for luma.
        chroma: (H, W) what is taken for U and V, in turn.
    """
    if luma.shape[1] < _FEWEST_COLUMNS:
        return False
    (of_luma, of_luma_next_but_one), (of_chroma, of_chroma_next_but_one) = map(_differences, (luma, chroma))
    return of_chroma * of_luma_next_but_one < _CLEARLY * of_luma * of_chroma_next_but_one


def are_bytes_swapped(numbers: _Numbers) -> bool:
    """Returns whether (H, W) numbers of 16 bits have their two bytes in the other order: as noise of all sizes."""
    rows = numbers[:: max(1, len(numbers) // _MOST_ROWS_OF_ORDER)].astype(np.uint16)
    if rows.shape[1] < _FEWEST_COLUMNS:
        return False
    swapped = rows.byteswap()
    # In a mosaic the next number but one is of the same colour.
    difference, of_swapped = min(_differences(rows)), min(_differences(swapped))
    return of_swapped * float(rows.std()) < _CLEARLY * difference * float(swapped.std())


def is_mosaic(grey: _Numbers) -> bool:
    """Returns whether of (H, W) pixels each resembles the next but one more than the next, in rows and in columns."""
    if min(grey.shape) < _FEWEST_COLUMNS:
        return False
    apart = max(1, len(grey) // _MOST_ROWS_OF_ORDER)
    first, second, third = (grey[start : len(grey) - 2 + start : apart].astype(np.int32) for start in range(3))
    across, across_next_but_one = _differences(first)
    if not across_next_but_one < _CLEARLY * across:
        return False
    return bool(np.abs(third - first).mean() < _CLEARLY * np.abs(second - first).mean())


def are_sides_exchanged(pixels: _Numbers) -> bool:
    """Returns whether (H, W) or (H, W, C) pixels of rows without padding are those of W rows of H pixels.

    The pixel below is as far away as a row is long: there pixels resemble each other most, and more than those a few
    pixels beside it. In stripes, which look the same at any distance along them, they do not. In a chessboard or a test
    pattern that begins again after the height, too, they do so at both lengths: then the one that is named is right.
    """
    height, width = pixels.shape[:2]
    row = np.ascontiguousarray(pixels).reshape(height * width, -1)
    # Pieces at even distances, none so near the end that what it is compared with lies behind it.
    apart = (len(row) - max(height, width) - _ASIDE) // _MOST_ROWS
    if min(height, width) < _FEWEST_COLUMNS or apart < _FEWEST_COLUMNS:
        return False
    if height % width == 0:  # there a pixel of the same column is, in mosaics perhaps of the same colour
        return False

    def pieces(far: int) -> npt.NDArray[np.int32]:
        found = row[far : far + _MOST_ROWS * apart].reshape(_MOST_ROWS, apart, -1)
        return found[:, :_FEWEST_COLUMNS].astype(np.int32)

    here = pieces(0)

    def difference(far: int) -> float:
        return float(np.abs(pieces(far) - here).mean())

    def is_length_of_row(length: int) -> bool:
        return difference(length) < _CLEARLY * min(difference(length - _ASIDE), difference(length + _ASIDE))

    if not difference(height) < _CLEARLY * difference(width):
        return False
    return is_length_of_row(height) and not is_length_of_row(width)


def are_distances(numbers: _Numbers) -> bool:
    """Returns whether (H, W) numbers of 16 bits are the distances that a depth camera measures, and no picture.

    Where it measures none it says 0, in holes all over the image, and no distance is near 0, for it has a least one. In
    a picture with black in it there are the darkest greys, too, whatever the steps between its numbers are. What is
    black around it, as after it was rectified, is no hole.
    """
    rows = numbers[:: max(1, len(numbers) // _MOST_ROWS)].astype(np.uint16)
    is_zero = rows == 0
    if rows.shape[1] < _FEWEST_COLUMNS or not _LEAST_ZEROS <= is_zero.mean() < 1.0:
        return False
    edges = float((is_zero[:, 1:] != is_zero[:, :-1]).sum(axis=1).mean())
    found = np.flatnonzero(np.bincount(rows.ravel()))[1:]
    if edges <= _EDGES_OF_BORDER or len(found) < _FEWEST_DISTANCES:
        return False
    # The steps of the smallest: a camera's gamma makes the first ones large and those of bright greys small.
    return bool(found[0] >= _STEPS_TO_FIRST * np.diff(found[:_FEWEST_DISTANCES]).min())


def _differences(numbers: _Numbers) -> tuple[float, float]:
    """Returns by how much the next number of a row differs from each, and the next but one, on an average."""
    rows = numbers[:: max(1, len(numbers) // _MOST_ROWS_OF_ORDER)].astype(np.int32)
    next_one, next_but_one = (float(np.abs(rows[:, far:] - rows[:, :-far]).mean()) for far in (1, 2))
    return next_one, next_but_one


def _difference(rows: _Bytes, distances: Sequence[int]) -> float:
    """Returns the mean difference of bytes that are so many apart in a row, of the distance where that is least."""
    wide = rows.astype(np.int16)
    return min(float(np.abs(wide[:, far:] - wide[:, :-far]).mean()) for far in distances)

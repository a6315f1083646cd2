"""Images that are in a data set more than once: byte for byte, or to the eye.

Two images are taken for the same picture if their difference hashes differ in at most `MAX_BITS` bits and their
thumbnails correlate by at least `MIN_CORRELATION`: re-encoded, resized, brightened, cropped by a hair, or taken by a
camera that stood still; or, with one of them mirrored, for its mirror image. Crops are found by `copies`.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.image.messages import RgbImage

Thumbnail = npt.NDArray[np.uint8]
"""(16, 18, 3) RGB."""
Pairs = npt.NDArray[np.int64]
"""(P, 2) indices of images, the lower first; none twice."""

ROWS, COLUMNS = 8, 9
"""A difference hash has a bit for each of 8 x 8 neighbours. Source: N. Krawetz, "Kind of Like That", 2013."""
MARGIN = 4
"""Grey levels by which a cell must be brighter than its neighbour: flat areas would otherwise be noise."""
MAX_BITS = 7
"""Of 64. Re-encoding photographs at quality 20, halving or brightening them changes up to 5."""
MIN_CORRELATION = 0.99
"""Of 864 values. No two of 396 photographs reach 0.91; 99 % of them stay above 0.995 at quality 20 or half the size."""
MIN_CONTRAST = 2.0
"""Standard deviation in grey levels below which a picture is flat, and its hash noise."""

MAX_PAIRS = 10

_BLOCK = 512
"""Images compared with as many others at a time: the products fit into a processor's cache."""


def thumbnail(image: RgbImage) -> Thumbnail:
    """Returns what near duplicates are found by: the mean colours of (16, 18) cells of an image."""
    return np.asarray(cv2.resize(image, (2 * COLUMNS, 2 * ROWS), interpolation=cv2.INTER_AREA), np.uint8)


def exact(digests: Sequence[bytes]) -> Pairs:
    """Pairs every image with the first that has the same digest."""
    first: dict[bytes, int] = {}
    pairs = [(first.setdefault(digest, index), index) for index, digest in enumerate(digests)]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)


def near(thumbnails: Sequence[Thumbnail], *, mirrored: bool = False) -> Pairs:
    """Finds the pairs of images that look the same; the time grows with the square of their number.

    Args:
        thumbnails: Of each image.
        mirrored: Whether the second image of a pair is to look like the first one's mirror image.

    Returns:
        The pairs, exact duplicates among them; each image with at most the first `MAX_PAIRS` that look like it, since a
        camera that stands still would fill the memory.
    """
    if not thumbnails:
        return np.empty((0, 2), np.int64)
    stack = np.stack(thumbnails)
    usable = np.flatnonzero(stack.reshape(len(stack), -1).std(axis=1) >= MIN_CONTRAST)
    # with bits as +1 and -1, a product of two hashes is 64 less twice the bits that differ
    signs = _signs(stack[usable])
    turned = np.ascontiguousarray(stack[:, :, ::-1]) if mirrored else stack
    others = _signs(turned[usable]) if mirrored else signs
    found = [np.empty((0, 2), np.int64)]
    room = np.full(len(stack), MAX_PAIRS)
    title = "comparing with mirror images" if mirrored else "comparing"
    for left in ProgressBar(range(0, len(signs), _BLOCK), title, unit="block", disable=len(signs) <= 8 * _BLOCK):
        for top in range(0, left + 1, _BLOCK):
            products = others[left : left + _BLOCK] @ signs[top : top + _BLOCK].T
            second, first = np.divmod(np.flatnonzero(products >= 64 - 2 * MAX_BITS), products.shape[1])
            pairs = np.stack([usable[top + first], usable[left + second]], axis=1)
            pairs = pairs[(pairs[:, 0] < pairs[:, 1]) & (room[pairs[:, 1]] > 0)]
            for start in range(0, len(pairs), _BLOCK):
                some = pairs[start : start + _BLOCK]
                same = some[_correlation(stack[some[:, 0]], turned[some[:, 1]]) >= MIN_CORRELATION]
                place = np.arange(len(same)) - np.searchsorted(same[:, 1], same[:, 1])
                found.append(same[place < room[same[:, 1]]])
                np.subtract.at(room, found[-1][:, 1], 1)
    return np.concatenate(found)


def difference_hashes(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns (N, 8) bytes: a bit says whether a cell is brighter than the one to its left, a byte is a row.

    Args:
        thumbnails: (N, 16, 18, 3).
    """
    cells = thumbnails.reshape(-1, ROWS, 2, COLUMNS, 2, 3).sum(axis=(2, 4, 5), dtype=np.int32)
    return np.packbits(cells[:, :, 1:] - cells[:, :, :-1] > MARGIN * 12, axis=2)[:, :, 0]  # 2 x 2 x 3 values a cell


def _signs(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The bits of each difference hash as +1 and -1, a row each."""
    return np.unpackbits(difference_hashes(thumbnails), axis=1).astype(np.float32) * 2 - 1


def _correlation(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Of each thumbnail with the one in the same row of the other stack."""
    first = _centred(one)
    second = _centred(other)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / lengths, np.float32)


def _centred(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The values of each thumbnail, a row each, without their mean."""
    values = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    return np.asarray(values - values.mean(axis=1, keepdims=True), np.float32)

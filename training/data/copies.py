"""Copies of a picture that were cropped, mirrored, or both: found by corners that look alike, proved by the pixels.

Corners of each picture, and of its mirror image, are described by 256 bits each (ORB). Pictures that share many exact
pieces of such descriptions are candidates, which takes a time that grows with their number, not with its square. A
candidate counts if one affine map explains the places of its corners, one picture then lies within the other, and there
the details of both are the same. So two pictures of one thing are no copies; two frames of a camera that hardly moved
are.

Sources: Rublee et al. 2011, ORB: an efficient alternative to SIFT or SURF; Indyk and Motwani 1998, Approximate nearest
neighbors; Fischler and Bolles 1981, Random sample consensus; Evangelidis and Psarakis 2008, Parametric image alignment
using enhanced correlation coefficient maximization.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.image.messages import RgbImage

Gray = npt.NDArray[np.uint8]
"""(H, W), about `SIDE` x `SIDE` pixels of any aspect ratio."""
Affine = npt.NDArray[np.float64]
"""(2, 3) map of (x, y, 1)."""
_Ints = npt.NDArray[np.int64]

SIDE = 256
"""Square root of the number of pixels at which pictures are compared."""
SMALLEST = 48
"""Pixels of the shorter side, in the file and as it is compared, below which a picture has no corners of use."""
CORNERS = 128
"""Most of a picture."""
MAX_IMAGES = 50_000
"""Pictures beyond which crops are not looked for: their corners take some 10 kB each."""

PIECES = 8
PIECE_BITS = 24
"""Of a description's 256 bits; a piece of corners that look alike, of which a tenth of the bits differ, is equal to
8 %, so that 128 corners share about 80 pieces; any two photographs share 5 in 1 of 100 cases."""
COMMON = 12
"""Pictures with the same piece beyond which it tells nothing."""
MIN_SHARED = 5
"""Equal pieces from which a pair is a candidate."""
PARTNERS = 6
"""Candidates of each picture that are looked at, those with the most equal pieces."""

MAX_DISTANCE = 64
"""Bits of 256 in which the descriptions of one corner may differ."""
MIN_CORNERS = 8
"""That one affine map has to explain."""
MIN_INSIDE = 0.9
"""Share of the one picture that lies within the other."""
MIN_SHARE = 0.2
"""Share of the larger picture that a crop keeps."""
WORTH_ALIGNING = 0.5
MIN_CORRELATION = 0.95
"""Of the details. Crops of 396 photographs to 60 %, re-encoded or not, stay above 0.98, those photographs brightened by
30 % above 0.95 in spite of what is cut off at white; no two of them reach 0.3."""
BLOCK = 32
"""Rows and columns of the pieces of a picture that are compared by themselves: a sign that is in both would else
outweigh its ground, which is not."""
BLOCK_CONTRAST = 2.0
"""Standard deviation in grey levels from which a block shows something."""
BLOCK_CORRELATION = 0.8
MIN_BLOCKS = 0.65
"""Share of the blocks that show something, and the same. In copies of photographs it is 0.74 to 1; in drawings of one
sign on different grounds at most 0.5."""
WHITE = 250
BLACK = 3


class Corners(NamedTuple):
    """Places (n, 2) float32 of corners in x, y, and their descriptions (n, 32) uint8."""

    places: npt.NDArray[np.float32]
    bits: npt.NDArray[np.uint8]


class Fingerprint(NamedTuple):
    """Corners of a picture, and of its mirror image."""

    plain: Corners
    mirrored: Corners


@dataclass(frozen=True)
class Copy:
    """Two pictures of which one is a copy of the other.

    Attributes:
        first: Index of the earlier one.
        second: Index of the later one.
        mirrored: Whether left and right are exchanged.
        cropped: Whether one shows only a part of the other.
    """

    first: int
    second: int
    mirrored: bool
    cropped: bool


class Candidate(NamedTuple):
    """Two pictures that share `pieces` pieces of their descriptions, or thumbnails; the second perhaps mirrored."""

    first: int
    second: int
    mirrored: bool
    pieces: int


def fingerprint(image: RgbImage) -> Fingerprint | None:
    """Returns what crops are found by; None for a picture too small or too narrow for it."""
    gray = compared(image)
    if min(*image.shape[:2], *gray.shape) < SMALLEST:
        return None
    return Fingerprint(_corners(gray), _corners(mirror(gray)))


def compared(image: RgbImage) -> Gray:
    """Returns a picture as it is compared: grey, and of about `SIDE` x `SIDE` pixels."""
    height, width = image.shape[:2]
    scale = SIDE / math.sqrt(height * width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8)


def mirror(gray: Gray) -> Gray:
    """Returns a picture with left and right exchanged."""
    return np.ascontiguousarray(gray[:, ::-1])


def _corners(gray: Gray) -> Corners:
    finder = cv2.ORB.create(CORNERS, scaleFactor=1.2, nlevels=5, edgeThreshold=20, fastThreshold=7)
    points, bits = finder.detectAndCompute(gray, None)
    if not points:
        return Corners(np.empty((0, 2), np.float32), np.empty((0, 32), np.uint8))
    return Corners(np.array([point.pt for point in points], np.float32), np.asarray(bits, np.uint8))


def find(
    prints: Sequence[Fingerprint | None],
    mirrored: npt.NDArray[np.int64],
    units: npt.NDArray[np.int64],
    parts: Sequence[str],
    picture: Callable[[int], RgbImage | None],
) -> list[Copy]:
    """Finds the pictures that are crops or mirror images of others.

    Args:
        prints: Of each picture.
        mirrored: Pairs of pictures (P, 2) whose thumbnails are each other's mirror image.
        units: Which belong together already, (n,); within one part they are not compared with each other.
        parts: What each is used for: copies in two parts are looked for first.
        picture: Reads one again; None where that fails.

    Returns:
        The copies. Of many candidates the `n` likeliest are looked at, but never fewer than 1000.
    """
    likely = candidates(prints) if len(prints) <= MAX_IMAGES else []
    usable = [p for p in likely if (units[p.first], parts[p.first]) != (units[p.second], parts[p.second])]
    whole = [Candidate(first, second, True, 0) for first, second in mirrored.tolist()]
    chosen = whole + _ranked(usable, parts)[: max(1000, len(prints))]

    @lru_cache(maxsize=256)
    def gray(index: int) -> Gray | None:
        image = picture(index)
        return None if image is None else compared(image)

    found = {}
    for pair in ProgressBar(chosen, "looking for crops and mirror images", unit="pair", disable=len(chosen) < 20):
        if (pair.first, pair.second) not in found and (copy := _proved(pair, prints, gray)) is not None:
            found[pair.first, pair.second] = copy
    return list(found.values())


def candidates(prints: Sequence[Fingerprint | None]) -> list[Candidate]:
    """Returns the pairs that share at least `MIN_SHARED` pieces of the descriptions of their corners."""
    there = [(row, found) for row, found in enumerate(prints) if found is not None]
    if not there:
        return []
    found = []
    plain = _gathered([(row, one.plain) for row, one in there])
    for mirrored in (False, True):
        other = _gathered([(row, one.mirrored) for row, one in there]) if mirrored else plain
        firsts, seconds, shared = _sharing(plain, other, len(prints))
        rows = zip(firsts.tolist(), seconds.tolist(), shared.tolist(), strict=True)
        found += [Candidate(first, second, mirrored, pieces) for first, second, pieces in rows]
    return found


def _gathered(corners: Sequence[tuple[int, Corners]]) -> tuple[npt.NDArray[np.uint8], _Ints]:
    """Descriptions of all pictures, (m, 32), and the picture of each, (m,)."""
    owners = np.repeat([row for row, _ in corners], [len(found.bits) for _, found in corners])
    return np.concatenate([found.bits for _, found in corners]), np.asarray(owners, np.int64)


def _sharing(
    one: tuple[npt.NDArray[np.uint8], _Ints], other: tuple[npt.NDArray[np.uint8], _Ints], count: int
) -> tuple[_Ints, _Ints, _Ints]:
    """Pairs of pictures, the first before the second, with how many pieces both share."""
    rng = np.random.default_rng(0)
    pairs = [np.empty(0, np.int64)]
    many = len(one[0]) > 200_000
    for _ in ProgressBar(range(PIECES), "comparing corners", leave=False, disable=not many):
        taken = rng.permutation(256)[:PIECE_BITS]
        left, first = np.divmod(_pieces(*one, taken, count), count)
        right, second = np.divmod(_pieces(*other, taken, count), count)
        start = np.searchsorted(left, right, "left")
        alike = np.searchsorted(left, right, "right") - start
        alike[alike > COMMON] = 0
        rows = np.repeat(np.arange(len(right)), alike)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(alike) - alike, alike)
        earlier = first[start[rows] + within]
        later = second[rows]
        pairs.append((earlier * count + later)[earlier < later])
    key, shared = np.unique(np.concatenate(pairs), return_counts=True)
    enough = shared >= MIN_SHARED
    firsts, seconds = np.divmod(key[enough], count)
    return firsts, seconds, np.asarray(shared[enough], np.int64)


def _pieces(bits: npt.NDArray[np.uint8], owners: _Ints, taken: _Ints, count: int) -> _Ints:
    """Piece x count + picture, sorted, each once."""
    piece = np.zeros(len(bits), np.int64)
    for place, bit in enumerate(taken.tolist()):
        piece |= ((bits[:, bit >> 3] >> np.uint8(7 - (bit & 7))) & 1).astype(np.int64) << place
    return np.unique(piece * count + owners)


def _ranked(pairs: Sequence[Candidate], parts: Sequence[str]) -> list[Candidate]:
    """The likeliest `PARTNERS` of each picture within its part and as many in others, those in two parts first."""
    seen: dict[tuple[int, bool], int] = {}
    kept = []
    for pair in sorted(pairs, key=lambda pair: -pair.pieces):
        within = parts[pair.first] == parts[pair.second]
        places = [seen.get((row, within), 0) for row in (pair.first, pair.second)]
        if min(places) < PARTNERS:
            kept.append((within, min(places), -pair.pieces, pair))
            seen.update({(row, within): seen.get((row, within), 0) + 1 for row in (pair.first, pair.second)})
    return [pair for *_, pair in sorted(kept)]


def _proved(pair: Candidate, prints: Sequence[Fingerprint | None], gray: Callable[[int], Gray | None]) -> Copy | None:
    """Whether a candidate is a copy, by its corners, where that is how it was found, and then by its pixels."""
    found = _map_of_corners(pair, prints) if pair.pieces else None
    if pair.pieces and found is None:
        return None
    one, other = gray(pair.first), gray(pair.second)
    if one is None or other is None:
        return None
    if found is None:
        found = np.array([[other.shape[1] / one.shape[1], 0, 0], [0, other.shape[0] / one.shape[0], 0]], np.float64)
    share = same_share(one, mirror(other) if pair.mirrored else other, found)
    return None if share is None else Copy(pair.first, pair.second, pair.mirrored, share < MIN_INSIDE)


def _map_of_corners(pair: Candidate, prints: Sequence[Fingerprint | None]) -> Affine | None:
    first, second = prints[pair.first], prints[pair.second]
    assert first is not None
    assert second is not None
    return _map(first.plain, second.mirrored if pair.mirrored else second.plain)


def _map(one: Corners, other: Corners) -> Affine | None:
    """The map from places in one picture to those in the other that explains enough corners; None without any."""
    if min(len(one.bits), len(other.bits)) < MIN_CORNERS:
        return None
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one.bits, other.bits)
    close = [match for match in matches if match.distance < MAX_DISTANCE]
    if len(close) < MIN_CORNERS:
        return None
    here = one.places[[match.queryIdx for match in close]]
    there = other.places[[match.trainIdx for match in close]]
    affine, agreeing = cv2.estimateAffine2D(here, there, ransacReprojThreshold=3.0, maxIters=500)
    if affine is None or int(agreeing.sum()) < MIN_CORNERS:
        return None
    return np.asarray(affine, np.float64)


def same_share(one: Gray, other: Gray, affine: Affine) -> float | None:
    """Returns the share of the larger picture that both show, in (0, 1]; None if they are no copies.

    Args:
        one: A picture.
        other: Perhaps a crop of it, or it a crop of this one.
        affine: The map from the first to the second, by and large.
    """
    aligned = _aligned(one, other, affine)
    if aligned is None:
        return None
    if _agreeing_blocks(one, other, aligned) < MIN_BLOCKS:
        return None
    overlap = float(_overlap(one, other, aligned).mean())
    zoom = abs(float(np.linalg.det(aligned[:, :2])))
    shares = overlap, overlap * other.size / (one.size * max(zoom, 1e-9))
    if max(shares) < MIN_INSIDE or min(shares) < MIN_SHARE:
        return None
    return min(1.0, *shares)


def _aligned(one: Gray, other: Gray, affine: Affine) -> Affine | None:
    """A map from one picture to the other under which their details agree, improved where it has to be, else None."""
    agreement = _correlation(one, other, affine)
    for size in (0.5, 1.0):
        if not WORTH_ALIGNING <= agreement < MIN_CORRELATION:
            break
        better = _improved(one, other, affine, size)
        if better is not None and (now := _correlation(one, other, better)) > agreement:
            affine = better
            agreement = now
    return affine if agreement >= MIN_CORRELATION else None


def _improved(one: Gray, other: Gray, affine: Affine, size: float) -> Affine | None:
    """The map that pictures of `size` times the pixels lead to from another one; None where they lead nowhere."""
    inverse = cv2.invertAffineTransform(_scaled(affine, size)).astype(np.float32)
    until = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    here, there = (np.asarray(cv2.resize(gray, None, fx=size, fy=size), np.uint8) for gray in (one, other))
    try:
        found = cv2.findTransformECC(there, here, inverse, cv2.MOTION_AFFINE, until, np.full_like(here, 255), 5)
        return _scaled(np.asarray(cv2.invertAffineTransform(found[1]), np.float64), 1 / size)
    except cv2.error:  # it does not converge
        return None


def _scaled(affine: Affine, factor: float) -> Affine:
    """The same map between pictures that are larger by a factor; places are centres of pixels."""
    shift = (factor - 1) / 2
    linear = affine[:, :2]
    moved = factor * affine[:, 2] + shift - linear @ [shift, shift]
    return np.column_stack([linear, moved])


def _overlap(one: Gray, other: Gray, affine: Affine) -> npt.NDArray[np.bool_]:
    size = other.shape[1], other.shape[0]
    return np.asarray(cv2.warpAffine(np.full_like(one, 255), affine, size) > 254, np.bool_)


def _correlation(one: Gray, other: Gray, affine: Affine) -> float:
    """Of the details of both pictures where they overlap and are not glaring or black; 0 where there are none."""
    both = _overlap(one, other, affine)
    moved = np.asarray(cv2.warpAffine(one, affine, both.shape[::-1]), np.uint8)
    told = both & _unclipped(moved) & _unclipped(other)
    if told.mean() < MIN_SHARE / 2:  # an object on white ground
        told = both
    if told.mean() < MIN_SHARE / 2:
        return 0.0
    ours = _details(moved)[told]
    theirs = _details(other)[told]
    spread = float(ours.std() * theirs.std())
    return float(((ours - ours.mean()) * (theirs - theirs.mean())).mean()) / spread if spread > 0.1 else 0.0


def _agreeing_blocks(one: Gray, other: Gray, affine: Affine) -> float:
    """Share of the overlap's blocks that show something in one picture and the same in the other; 1 without any."""
    both = _overlap(one, other, affine)
    moved = np.asarray(cv2.warpAffine(one, affine, both.shape[::-1]), np.uint8)
    told = both & _unclipped(moved) & _unclipped(other)
    ours, theirs = (cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1.5) for gray in (moved, other))
    agree = []
    for top in range(0, told.shape[0] - BLOCK + 1, BLOCK):
        for left in range(0, told.shape[1] - BLOCK + 1, BLOCK):
            place = slice(top, top + BLOCK), slice(left, left + BLOCK)
            inside = told[place]
            if inside.mean() < 0.5:
                continue
            here, there = ours[place][inside], theirs[place][inside]
            if max(here.std(), there.std()) < BLOCK_CONTRAST:
                continue
            product = float(((here - here.mean()) * (there - there.mean())).mean())
            agree.append(product >= BLOCK_CORRELATION * float(here.std() * there.std()))
    return float(np.mean(agree)) if agree else 1.0


def _unclipped(gray: Gray) -> npt.NDArray[np.bool_]:
    """Where a picture, and what is smoothed into it, is neither black nor white: brightening clips the rest."""
    inside = ((gray > BLACK) & (gray < WHITE)).astype(np.uint8)
    return np.asarray(cv2.erode(inside, np.ones((7, 7), np.uint8)), np.bool_)


def _details(gray: Gray) -> npt.NDArray[np.float32]:
    """A picture without its finest grain, which re-encoding changes, and without slow changes of brightness."""
    smooth = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1.5)
    return np.asarray(smooth - cv2.blur(smooth, (33, 33)), np.float32)

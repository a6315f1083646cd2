"""Images of a data set that are the same picture, or a part of it, and not the same file: by names or to the eye."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from training.data import copies, duplicates, scan
from training.data.copies import Copy
from training.data.duplicates import Pairs
from training.data.records import ImageFinding, Listing, Sample
from training.data.scan import Content
from training.data.split import in_recorded_order, unite
from training.tasks.by_name import task_of
from training.tasks.choices import By

AUGMENTED = "augmented copy"
ALIKE = "near duplicate"
MIRRORED = "mirrored copy"
CROPPED = "cropped copy"
CROPPED_MIRRORED = "cropped and mirrored copy"
LOOK_ALIKES = (AUGMENTED, ALIKE, MIRRORED, CROPPED, CROPPED_MIRRORED)
"""What two images may be to each other that are the same picture and not the same file."""
_AUGMENTERS = (
    re.compile(r"(?P<picture>.+)\.rf\.[0-9a-f]{32}\.[^.]+"),
    re.compile(r".+?_original_(?P<picture>.+)_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[^.]+", re.IGNORECASE),
)
"""Names that programs give to augmented copies, which are often turned and coloured until nothing is alike to the eye:
Roboflow NAME_jpg.rf.HASH.jpg, Augmentor CLASS_original_NAME.jpg_UUID.jpg (its
`Pipeline._execute`).
"""
ACROSS = "across parts"
NEIGHBOURS = 10
"""Places in the order of recording within which look-alikes are the frames of one camera."""
MIN_NEIGHBOURS = 20
"""Such pairs from which the images are taken for a recording, if they are most of the look-alikes."""


def find(listing: Listing, contents: Sequence[Content], same: Pairs) -> dict[str, Pairs]:
    """Returns the pairs of each of `LOOK_ALIKES` that are not the same file, each pair once."""
    thumbnails = [content.thumbnail for content in contents]
    near = duplicates.near(thumbnails)
    augmented = by_name(listing)
    units = unite(listing.samples, [same, augmented, near])
    found = {AUGMENTED: augmented.tolist(), ALIKE: near.tolist()}
    for copy in copies.find(
        [content.fingerprint for content in contents],
        duplicates.near(thumbnails, mirrored=True),
        units,
        [sample.part for sample in listing.samples],
        lambda row: scan.picture(listing.samples[row].path),
    ):
        found.setdefault(_kind_of(copy), []).append([copy.first, copy.second])
    seen = set[tuple[int, int]]()
    result = {}
    for kind in LOOK_ALIKES:
        new = [
            (a, b) for a, b in found.get(kind, []) if (a, b) not in seen and contents[a].pixels != contents[b].pixels
        ]
        result[kind] = np.array(list(dict.fromkeys(new)), np.int64).reshape(-1, 2)
        seen.update(new)
    return result


def by_name(listing: Listing) -> Pairs:
    """Pairs every image that an augmenter made, by its name, with the first of the same picture.

    Copies of one picture are of one class and lie in one folder or table of the data set: many a class has a 001.jpg.
    """
    one_class = task_of(listing.task).one_class
    copied = defaultdict[tuple[int, int, str], list[int]](list)
    plain = defaultdict[tuple[int, int, str], list[int]](list)
    for row, sample in enumerate(listing.samples):
        name = sample.path.name
        match = next(filter(None, (pattern.fullmatch(name) for pattern in _AUGMENTERS)), None)
        picture = re.sub(r"\.(?=[^.]+$)", "_", match["picture"] if match else name)  # as Roboflow writes its suffix
        (copied if match else plain)[sample.source, sample.label if one_class else 0, picture].append(row)
    pairs = []
    for key, rows in copied.items():
        original = plain.get(key, [])
        first, *others = sorted([*rows, *original] if len(original) == 1 else rows)
        pairs += [(first, other) for other in others]
    return np.array(pairs, np.int64).reshape(-1, 2)


def kept_together(listing: Listing, alike: Mapping[str, Pairs]) -> list[str]:
    """Says that names tell which images belong together, where these are divided here."""
    rows = [row for row in np.unique(alike[AUGMENTED]) if not listing.decides(listing.samples[row])]
    if not rows:
        return []
    return [
        f"{len(rows)} images are augmented copies by their names, such as {listing.samples[rows[0]].path.name}: those "
        "of one picture are held out together"
    ]


def _kind_of(copy: Copy) -> str:
    if copy.cropped:
        return CROPPED_MIRRORED if copy.mirrored else CROPPED
    return MIRRORED if copy.mirrored else ALIKE


def findings(listing: Listing, kept: Listing, alike: Mapping[str, Pairs]) -> list[ImageFinding]:
    """What is said of images that look the same, where both are kept."""
    there = {sample.path: sample for sample in kept.samples}
    found = []
    for kind, pairs in alike.items():
        for first, second in pairs.tolist():
            one = there.get(listing.samples[first].path)
            other = there.get(listing.samples[second].path)
            if one is not None and other is not None:
                found.append(_alike(kept, one, other, kind))
    return found


def _alike(listing: Listing, one: Sample, other: Sample, kind: str) -> ImageFinding:
    where = f" in {one.part}" if one.part != other.part else ""
    differs = task_of(listing.task).one_class and one.label != other.label
    what = f", there {listing.words(one)}" if differs else ""
    if where:
        kind = f"{kind} {ACROSS}"
    return ImageFinding(other.path, f"{kind} of {one.path}{where}{what}", "warning", one.path)


def not_sought(contents: Sequence[Content]) -> list[str]:
    """Says that there are too many images for copies to be looked for that show a part only."""
    if len(contents) <= copies.MAX_IMAGES:
        return []
    return [
        f"cropped copies are not looked for among more than {copies.MAX_IMAGES} images, and there are {len(contents)}: "
        "whole copies are; keep what belongs together in one part with --group-pattern"
    ]


def of_a_recording(listing: Listing, alike: Mapping[str, Pairs], split: By) -> list[str]:
    """Says what to do about look-alikes that are frames of one camera; nothing where that is done."""
    if split == "tail" or any(sample.group for sample in listing.samples):
        return []
    place = in_recorded_order(listing)
    pictures = unite(listing.samples, [alike[AUGMENTED]])
    pairs = np.concatenate([*alike.values()])
    pairs = pairs[pictures[pairs[:, 0]] != pictures[pairs[:, 1]]]
    near = np.abs(place[pairs[:, 0]] - place[pairs[:, 1]]) <= NEIGHBOURS
    if near.sum() < MIN_NEIGHBOURS or 2 * near.sum() < len(pairs):
        return []
    return [
        f"{near.sum()} pairs of look-alikes are neighbours in the order of the names, as the frames of a recording "
        "are: hold out its end with --split tail, or name what was recorded together with --group-pattern"
    ]

"""Images of a data set that are the same picture, or a part of it, and not the same file."""

from __future__ import annotations

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

ALIKE = "near duplicate"
MIRRORED = "mirrored copy"
CROPPED = "cropped copy"
CROPPED_MIRRORED = "cropped and mirrored copy"
LOOK_ALIKES = (ALIKE, MIRRORED, CROPPED, CROPPED_MIRRORED)
"""What two images may be to each other that are the same picture and not the same file."""
ACROSS = "across parts"
NEIGHBOURS = 10
"""Places in the order of recording within which look-alikes are the frames of one camera."""
MIN_NEIGHBOURS = 20
"""Such pairs from which the images are taken for a recording, if they are most of the look-alikes."""


def find(listing: Listing, contents: Sequence[Content], same: Pairs) -> dict[str, Pairs]:
    """Returns the pairs of each of `LOOK_ALIKES` that are not the same file, each pair once."""
    thumbnails = [content.thumbnail for content in contents]
    near = duplicates.near(thumbnails)
    units = unite(listing.samples, [same, near])
    found = {ALIKE: near.tolist()}
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
    pairs = np.concatenate([*alike.values()])
    near = np.abs(place[pairs[:, 0]] - place[pairs[:, 1]]) <= NEIGHBOURS
    if near.sum() < MIN_NEIGHBOURS or 2 * near.sum() < len(pairs):
        return []
    return [
        f"{near.sum()} pairs of look-alikes are neighbours in the order of the names, as the frames of a recording "
        "are: hold out its end with --split tail, or name what was recorded together with --group-pattern"
    ]

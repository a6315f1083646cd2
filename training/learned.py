"""Which images a network has learned from: known by their pixels, wherever they lie now and whatever they are called.

A checkpoint of before these were kept knows its images by their places alone. The same data set at another place is
known by its digest there, and by the names in it; otherwise what still lies at the old places is read. Of what is no
longer there, copies cannot be told.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training import config
from training.checkpoint import Checkpoint
from training.data import scan, sources
from training.data.records import LabelledImages, Sample

Flags = npt.NDArray[np.bool_]
_Name = tuple[int, str]
"""Number of a folder or table of a data set, and what an image is called below it."""


def among(saved: Checkpoint, samples: Sequence[Sample], data: LabelledImages | None = None) -> Flags:
    """Returns (n,) which of n images a network was trained on, with labels or without.

    Args:
        saved: The network's checkpoint.
        samples: The images; those that were not read yet are.
        data: The data set that they are of, if it was read.
    """
    if not saved.learned_images:
        return np.zeros(len(samples), np.bool_)
    places = _places(saved, data)
    there = [Path(path) for path in places if Path(path).is_file()]
    known = saved.learned_pixels if _are_known(saved) else ()
    pixels = {*known, *scan.pixels_of(there, "read")} - {None}
    real = {os.path.realpath(path) for path in places}
    names = _names_of(saved) if _is_same(saved, data) else frozenset[_Name]()
    return np.array(
        [
            sample.pixels in pixels
            or os.path.realpath(sample.path) in real
            or (data is not None and bool(names) and _name_in(data, sample) in names)
            for sample in with_pixels(samples)
        ],
        np.bool_,
    )


def untold(saved: Checkpoint, data: LabelledImages | None = None) -> int:
    """Returns how many of the images that a network was trained on can no longer be known again but at their old place.

    Args:
        saved: The network's checkpoint.
        data: The data set in which they are sought, if it was read.
    """
    return sum(not Path(path).is_file() for path in _places(saved, data))


def why_untold(count: int) -> str:
    """Says of so many images why it cannot be told whether copies of them are among others, and what to do."""
    return (
        f"{count} images of its training are no longer where they were, and its checkpoint is of an earlier version, "
        "which knows no copies of them; put them back, or train again"
    )


def with_pixels(samples: Sequence[Sample]) -> list[Sample]:
    """Returns images with the digest of their pixels, for which those that have none are read."""
    unread = [row for row, sample in enumerate(samples) if sample.pixels is None]
    found = list(samples)
    for row, pixels in zip(unread, scan.pixels_of([samples[row].path for row in unread], "read"), strict=True):
        found[row] = dataclasses.replace(samples[row], pixels=pixels)
    return found


def _are_known(saved: Checkpoint) -> bool:
    """Whether a checkpoint knows the pixels of all its images."""
    return len(saved.learned_pixels) == len(saved.learned_images)


def _places(saved: Checkpoint, data: LabelledImages | None) -> tuple[str, ...]:
    """The images of which nothing is known but where they lay; no digest of a data set covers those without labels."""
    if _are_known(saved):
        return ()
    return saved.unlabelled_images if _is_same(saved, data) else saved.learned_images


def _is_same(saved: Checkpoint, data: LabelledImages | None) -> bool:
    """Whether a data set is the one that a network was trained on, with the same names below as many folders."""
    if _are_known(saved) or data is None or saved.training.get("data_sha256") != data.sha256:
        return False
    return len(config.sources_of(saved.config)) == len(data.sources)


def _names_of(saved: Checkpoint) -> frozenset[_Name]:
    bases = [sources.base(Path(source)) for source in config.sources_of(saved.config)]
    return frozenset(
        (number, os.path.relpath(path, base)) for number, base in enumerate(bases) for path in saved.train_images
    )


def _name_in(data: LabelledImages, sample: Sample) -> _Name:
    source = data.sources[sample.source]
    return sample.source, os.path.relpath(sample.path, source.base or source.path)

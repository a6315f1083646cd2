"""Images -> what is said of their labels: measured and described once, then judged."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_perception.errors import DataError
from cnn_perception.label_table import ListedFiles, read_table
from training.data import scan
from training.data.duplicates import Pairs
from training.data.records import ImageFinding, Listing, Sample
from training.data.sources import table_of
from training.label_errors.checks import copies, doubts, giveaways, out_of_fold, unusual
from training.label_errors.checks.doubts import Doubts
from training.label_errors.features import Describe
from training.label_errors.measures import Measured, measure_all
from training.label_errors.record import Result, meaning_of
from training.tasks.by_name import task_of

FEWEST = 2 * out_of_fold.FOLDS
"""Images below which labels are not judged."""
_NAMED = 3


@dataclass(frozen=True, eq=False)
class Prepared:
    """Images that can be judged, whatever their labels.

    Attributes:
        listing: The n images that could be read.
        measured: What was measured of each.
        features: (n, D) as they were computed.
        compact: The same as `out_of_fold.compact` returns them.
        pairs: Of images that are one picture, by how.
        source: What the features are.
        notes: What has to be said of them, a line each.
    """

    listing: Listing
    measured: tuple[Measured, ...]
    features: npt.NDArray[np.float32]
    compact: npt.NDArray[np.floating[Any]]
    pairs: Mapping[str, Pairs]
    source: str
    notes: tuple[str, ...]


def prepare(listing: Listing, describe: Describe) -> Prepared:
    """Reads the images, and computes all that does not depend on their labels.

    Raises:
        DataError: If there are too few images or classes to judge labels by.
    """
    measured, usable, left_out = _measured(_once(_of_classes(listing)))
    described = describe(meaning_of(usable))
    known = np.flatnonzero(described.known).tolist()
    kept = usable.keep(tuple(usable.samples[row] for row in known))
    _check(kept)
    there = tuple(measured[row] for row in known)
    features = described.rows[known]
    compact = out_of_fold.compact(features)
    notes = (*listing.notes, *_of_left_out(left_out), *described.notes)
    return Prepared(kept, there, features, compact, copies.find(there, compact), described.source, notes)


def judge(prepared: Prepared, seed: int) -> Doubts:
    """Finds the labels that contradict what was learned from the others."""
    return doubts.find(prepared.listing, prepared.compact, list(prepared.pairs.values()), seed)


def examine(prepared: Prepared, seed: int) -> Result:
    """Finds all that is to be said of images and their labels.

    Args:
        prepared: The images.
        seed: Of what is drawn at random.
    """
    listing = prepared.listing
    doubted = judge(prepared, seed)
    findings = (
        *doubted.findings,
        *copies.with_other_labels(listing, prepared.pairs),
        *unusual.outliers(prepared.features),
        *unusual.poor_pictures(prepared.measured),
    )
    told = giveaways.find(listing, prepared.measured, _cells(listing), seed)
    notes = (*prepared.notes, *_of_judged(doubted.not_judged), *doubted.notes)
    return Result(listing, findings, tuple(told), doubted.noise, prepared.source, notes)


def _measured(listing: Listing) -> tuple[list[Measured], Listing, list[ImageFinding]]:
    """What was measured of the images that can be read, these, and the others."""
    found = list(measure_all([sample.path for sample in listing.samples]))
    measured = [one for one in found if isinstance(one, Measured)]
    left_out = [one for one in found if isinstance(one, ImageFinding)]
    usable = tuple(
        dataclasses.replace(sample, pixels=scan.short(one.pixels))
        for sample, one in zip(listing.samples, found, strict=True)
        if isinstance(one, Measured)
    )
    return measured, listing.keep(usable), left_out


def _of_classes(listing: Listing) -> Listing:
    """The images that show one of the classes, where each has one: nothing can be said of the others' labels."""
    if not task_of(listing.task).one_class:
        return listing
    return listing.keep(tuple(sample for sample in listing.samples if sample.label < len(listing.class_names)))


def _once(listing: Listing) -> Listing:
    """The same without the images that several tables list with the same label, but for the first of each."""
    found: dict[tuple[object, ...], Sample] = {}
    for sample in listing.samples:
        found.setdefault((sample.path.resolve(), sample.label, sample.values), sample)
    return listing.keep(tuple(found.values()))


def _check(listing: Listing) -> None:
    """Raises DataError if there is nothing to be judged."""
    if len(listing.samples) < FEWEST:
        raise DataError(
            f"{listing.source}: {len(listing.samples)} usable images are too few to judge labels by; at least {FEWEST}"
        )
    there = Counter(sample.label for sample in listing.samples)
    if task_of(listing.task).one_class and len(there) < 2:
        only = listing.class_names[next(iter(there))]
        raise DataError(f"{listing.source}: one class only ({only!r}), at least 2 are needed")


def _of_left_out(left_out: Sequence[ImageFinding]) -> list[str]:
    if not left_out:
        return []
    named = "; ".join(f"{one.path} ({one.reason})" for one in left_out[:_NAMED])
    return [f"{len(left_out)} images cannot be read and are left out: {named}{'; ...' * (len(left_out) > _NAMED)}"]


def _of_judged(count: int) -> list[str]:
    if not count:
        return []
    return [f"{count} images are of classes with too few other images to be judged by: they are not judged"]


def _cells(listing: Listing) -> list[Mapping[str, str]]:
    """What the tables say of each image, all of them in the same columns; nothing of folders."""
    tables = [table for source in listing.sources if (table := table_of(source.path)) is not None]
    found: dict[Path, Mapping[str, str]] = {}
    for file in tables:
        found = {**_cells_of(file), **found}
    if not found:
        return []
    empty = dict.fromkeys((name for cells in found.values() for name in cells), "")
    return [{**empty, **found.get(sample.path.resolve(), {})} for sample in listing.samples]


def _cells_of(file: Path) -> dict[Path, Mapping[str, str]]:
    table = read_table(file, "mend --data").naming("path")
    files = ListedFiles((file.parent,))
    return {path.resolve(): row.cells for row in table.rows if (path := files.find(row)) is not None}

"""Which image is trained on and which is held out.

Images that belong together (one group, the same picture, near duplicates) form a unit, and a unit is never divided:
what is held out would otherwise have been seen in training.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_perception.errors import ConfigError, DataError
from training.data.duplicates import Pairs
from training.data.records import PARTS, Listing, Part, Sample
from training.tasks.by_name import task_of
from training.tasks.choices import By

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Division:
    """How images are divided where the data set does not say it.

    Attributes:
        val_fraction: Share held out for validation, in (0, 1).
        test_fraction: Share held out for the test, in [0, 1).
        seed: Of the random choice.
        by: random: stratified by class; tail: the last images in the order of recording, as at the next drive.
        folds: Validation is one of this many parts of the training images; val and test are left out.
        fold: Which of them, from 1; the first by default.
    """

    val_fraction: float
    test_fraction: float
    seed: int
    by: By = "random"
    folds: int | None = None
    fold: int | None = None


def with_groups(listing: Listing, pattern: str | None) -> Listing:
    """Reads the group of each image from its file name.

    Args:
        listing: The images.
        pattern: Regular expression to be found in every file name; the group is what its group named `group` matches,
            or its first group, or all of it. None leaves the groups as they are, as do sources that name them.

    Raises:
        ConfigError: If it is no regular expression, or all of the data set names groups itself.
        DataError: If a file name does not match.
    """
    if pattern is None:
        return listing
    named = {sample.source for sample in listing.samples if sample.group}
    if len(named) == len(listing.sources):
        raise ConfigError(f"--group-pattern: {listing.where} names groups itself; leave it out or remove the column")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--group-pattern: {pattern!r} is no regular expression ({error}); mend it") from None
    samples = listing.samples
    return listing.keep(
        tuple(s if s.source in named else dataclasses.replace(s, group=_group(s.path, compiled)) for s in samples)
    )


def _group(path: Path, pattern: re.Pattern[str]) -> str:
    match = pattern.search(path.name)
    which: str | int = "group" if "group" in pattern.groupindex else min(1, pattern.groups)
    if match is None or not match[which]:
        raise DataError(f"{path}: its name has no group by --group-pattern {pattern.pattern!r}; mend the pattern")
    return match[which]


def divide(
    listing: Listing, together: Pairs, alike: Pairs, division: Division, augmented: Pairs | None = None
) -> tuple[Sample, ...]:
    """Holds out validation and test images where the data set does not do so itself.

    Every class gives round(n x fraction) images, at least one and never all, as nearly as the units allow. A random
    division keeps near duplicates together too, unless a class then has nothing to hold out.

    Args:
        listing: The usable images.
        together: Indices of samples that must not be parted.
        alike: Indices of samples that should not be.
        division: The shares; with folds, only the images of the training part are returned.
        augmented: Those of `alike` that should not be parted at the end of a recording either, whose other frames all
            look alike.

    Returns:
        The samples with their parts.

    Raises:
        DataError: If the groups leave a class without images to train with or to hold out.
    """
    kept = alike if division.by == "random" else augmented
    try:
        return _divide(listing, [together] if kept is None else [together, kept], division)
    except DataError:
        return _divide(listing, [together], division)


def _divide(listing: Listing, bonds: Sequence[Pairs], division: Division) -> tuple[Sample, ...]:
    samples = listing.samples
    units = unite(listing.samples, bonds)
    parts = _followed(listing, units)
    before = np.array([i for i, part in enumerate(parts) if part == "train"], np.int64)
    wanted: dict[Part, float] = {"test": division.test_fraction, "val": 0 if division.folds else division.val_fraction}
    shares = {part: share for part, share in wanted.items() if share and part not in listing.given}
    free = {part: _free(listing, units, before, part) for part in shares}
    for part, rows in (_tail if division.by == "tail" else _random)(listing, free, units, shares, division.seed):
        for row in rows:
            parts[row] = part
    _require(listing, np.arange(len(samples)), parts, {"train", *shares}, division)
    if not division.folds:
        return tuple(dataclasses.replace(s, part=part) for s, part in zip(samples, parts, strict=True))
    rows = np.array([row for row in before if parts[row] == "train"], np.int64)
    for row in rows[_folds(listing, rows, units, division) == (division.fold or 1) - 1]:
        parts[row] = "val"
    _require(listing, rows, parts, {"train", "val"}, division)
    return tuple(dataclasses.replace(samples[row], part=parts[row]) for row in rows)


def _followed(listing: Listing, units: _Ints) -> list[Part]:
    """The part of each image: its own, or that of what it belongs to where only that one's source names parts."""
    parts: list[Part] = [sample.part for sample in listing.samples]
    decided: dict[int, Part] = {}
    for row, sample in enumerate(listing.samples):
        if listing.decides(sample):
            unit = int(units[row])
            decided[unit] = min(decided.get(unit, sample.part), sample.part, key=PARTS.index)
    for row, sample in enumerate(listing.samples):
        if not listing.decides(sample):
            parts[row] = decided.get(int(units[row]), sample.part)
    return parts


def _free(listing: Listing, units: _Ints, rows: _Ints, part: Part) -> _Ints:
    """Those of some rows that may be held out for a part: no source says this of them or of what belongs to them."""
    is_given = np.array([listing.gives(sample, part) for sample in listing.samples])
    return rows[~np.isin(units[rows], units[is_given])]


def unite(samples: Sequence[Sample], bonds: Iterable[Pairs]) -> _Ints:
    """Returns the unit of each sample: that of its group and of every sample it is bound to.

    Args:
        samples: With their groups.
        bonds: Pairs of their indices.
    """
    parent = list(range(len(samples)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    first: dict[str, int] = {}
    for row, sample in enumerate(samples):
        if sample.group:
            parent[root(row)] = root(first.setdefault(sample.group, row))
    for pairs in bonds:
        for one, other in pairs.tolist():
            parent[root(one)] = root(other)
    return np.unique([root(row) for row in range(len(samples))], return_inverse=True)[1].reshape(-1)


def fill(counts: _Ints, wanted: _Ints, rng: np.random.Generator) -> _Ints:
    """Gives each unit to the part where it fits, and of those to the one that lacks most images of its classes.

    Large units come first, equal ones in random order; units of one image and one class meet `wanted` exactly. Source
    of the greedy order: scikit-learn's StratifiedGroupKFold.

    Args:
        counts: (U, L) images of each class in each unit.
        wanted: (P, L) images of each class in each part; the parts add up to all images.
        rng: Decides among equals.

    Returns:
        (U,) the part of each unit.
    """
    result = np.zeros(len(counts), np.int64)
    need = wanted.astype(np.float64)
    total = np.maximum(1, counts.sum(axis=0))
    order = rng.permutation(len(counts))
    for unit in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        excess = (np.maximum(0, counts[unit] - np.maximum(0, need)) / total).sum(axis=1)
        lack = need @ (counts[unit] / total)
        result[unit] = np.argmax(np.where(excess <= excess.min() + 1e-12, lack, -np.inf))
        need[result[unit]] -= counts[unit]
    return result


def _counts(listing: Listing) -> _Ints:
    """What is to be shared out evenly, a column each: the images of a class, and all of them unless that follows."""
    classes = len(listing.class_names) + any(map(listing.is_outside, listing.samples))
    return task_of(listing.task).strata(listing.samples, classes)


def _held(left: _Ints, total: _Ints, fraction: float) -> _Ints:
    """How many images to hold out of those that are left of a total: a share, at least one, never all."""
    return np.maximum(0, np.minimum(left - 1, np.maximum(1, np.round(fraction * total).astype(np.int64))))


def _random(
    listing: Listing, free: Mapping[Part, _Ints], units: _Ints, shares: dict[Part, float], seed: int
) -> Iterator[tuple[Part, _Ints]]:
    """Yields each part to hold out and its rows, of those that are free for it, stratified by class."""
    counts = _counts(listing)
    taken = np.empty(0, np.int64)
    for stream, (part, fraction) in enumerate(shares.items()):
        rows = np.setdiff1d(free[part], taken)
        if not len(rows):
            continue
        sums, unit = _sums(counts, units, rows)
        held = _held(sums.sum(axis=0), counts[free[part]].sum(axis=0), fraction)
        chosen = fill(sums, np.stack([sums.sum(axis=0) - held, held]), np.random.default_rng((seed, stream)))
        _complete(sums, chosen, held)
        yield part, rows[chosen[unit] == 1]
        taken = np.concatenate([taken, rows[chosen[unit] == 1]])


def _sums(counts: _Ints, units: _Ints, rows: _Ints) -> tuple[_Ints, _Ints]:
    """Returns the images of each class in each unit (U, L), and which of these units each row is in."""
    unit = np.unique(units[rows], return_inverse=True)[1].reshape(-1)
    sums = np.zeros((int(unit.max()) + 1, counts.shape[1]), np.int64)
    np.add.at(sums, unit, counts[rows])
    return sums, unit


def _complete(sums: _Ints, chosen: _Ints, held: _Ints) -> None:
    """Where nothing of a class is held out, moves the smallest unit there that leaves every class in training."""
    for column in np.flatnonzero(held):
        if not sums[chosen == 1, column].sum():
            kept = sums[chosen == 0].sum(axis=0)
            able = np.flatnonzero((chosen == 0) & (sums[:, column] > 0) & ~np.any((kept > 0) & (kept == sums), axis=1))
            if len(able):
                chosen[able[np.argmin(sums[able].sum(axis=1))]] = 1


def _tail(
    listing: Listing, free: Mapping[Part, _Ints], units: _Ints, shares: dict[Part, float], _seed: int
) -> Iterator[tuple[Part, _Ints]]:
    """Yields each part to hold out and its rows: the last ones; a unit goes where most of its images belong."""
    rows = np.unique(np.concatenate([np.empty(0, np.int64), *free.values()]))
    if not len(rows):
        return
    rank, total = _ranks(listing, rows)
    choices = np.zeros(len(rows), np.int64)
    left = total
    for number, (part, fraction) in enumerate(shares.items(), 1):
        held = _held(left, total, fraction)
        choices[(rank >= left - held) & (rank < left) & np.isin(rows, free[part])] = number
        left = left - held
    chosen = _majority(units[rows], choices)
    for number, part in enumerate(shares, 1):
        yield part, rows[chosen == number]


def _folds(listing: Listing, rows: _Ints, units: _Ints, division: Division) -> _Ints:
    """Returns the fold, from 0, of each of the rows."""
    assert division.folds
    if division.by == "tail":
        rank, total = _ranks(listing, rows)
        return _majority(units[rows], rank * division.folds // total)
    sums, unit = _sums(_counts(listing), units, rows)
    base, rest = np.divmod(sums.sum(axis=0), division.folds)
    first = np.cumsum(rest) - rest  # the folds take turns with what cannot be shared evenly
    extra = (np.arange(division.folds)[:, None] - first) % division.folds < rest
    return fill(sums, base + extra, np.random.default_rng((division.seed, len(PARTS))))[unit]


def _by_class(listing: Listing) -> bool:
    return task_of(listing.task).one_class and not listing.in_time


def _ranks(listing: Listing, rows: _Ints) -> tuple[_Ints, _Ints]:
    """The place of each of the rows in the order of recording, and of how many; of its class, in an image folder."""
    names = [_natural(listing.samples[row].path) for row in rows]
    order = range(len(rows)) if listing.in_time else sorted(range(len(rows)), key=names.__getitem__)
    seen: Counter[int] = Counter()
    rank = np.empty(len(rows), np.int64)
    keys = [0] * len(rows)
    for place in order:
        keys[place] = listing.samples[rows[place]].label if _by_class(listing) else 0
        rank[place] = seen[keys[place]]
        seen[keys[place]] += 1
    return rank, np.array([seen[key] for key in keys], np.int64)


def in_recorded_order(listing: Listing) -> _Ints:
    """Returns the place of each sample, (n,): that of its row, or of its name among all, where frame 9 is before 10."""
    if listing.in_time:
        return np.arange(len(listing.samples))
    names = [_natural(Path(sample.path.name)) for sample in listing.samples]
    places = np.empty(len(names), np.int64)
    places[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return places


def _natural(path: Path) -> list[tuple[int, str]]:
    """A sort key in which frame 9 comes before frame 10."""
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def _majority(units: _Ints, choices: _Ints) -> _Ints:
    """Gives all rows of a unit what most of them say."""
    tally = np.zeros((int(units.max()) + 1, int(choices.max()) + 1), np.int64)
    np.add.at(tally, (units, choices), 1)
    return np.asarray(tally.argmax(axis=1)[units], np.int64)


def _require(listing: Listing, rows: _Ints, parts: Sequence[Part], asked: set[Part], division: Division) -> None:
    """Raises DataError if a part has no image, or none of a class where that could have been."""
    counts = _counts(listing)
    known = [row for row in rows if not listing.is_outside(listing.samples[row])]
    for part in sorted(asked):
        inside = [row for row in known if parts[row] == part]
        found = counts[inside].sum(axis=0)[: len(listing.class_names)]
        # neither the end of a recording nor a fold of a rare class need show every class
        free = part != "train" and (bool(division.folds) or (division.by == "tail" and not _by_class(listing)))
        lacking: _Ints = np.flatnonzero((found == 0) & (task_of(listing.task).one_class and not free))
        if inside and not len(lacking):
            continue
        what = f"of class {listing.class_names[lacking[0]]!r}" if inside else "at all"
        raise DataError(
            f"{listing.where}: {part} would have no image {what}, since groups and duplicates stay together; "
            f"record more groups, or give the data set a part {'val' if part == 'train' else part} of its own"
        )

"""Gives each candidate its part: with its whole recording, or by its time in the only one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.collect import parts
from training.collect.choice import look_alikes
from training.collect.parts import Division, Place
from training.collect.set_folder import Fingerprint
from training.collect.survey import Survey
from training.data.names import part_of
from training.data_set import columns
from training.data_set.table import DataSetTable

if TYPE_CHECKING:  # it imports torch
    from training.data.records import Part


@dataclass(frozen=True)
class Placement:
    """Where the candidates belong.

    Attributes:
        places: Of each; None in a gap between two parts of one recording.
        how: How recordings were divided, in words.
    """

    places: tuple[Place | None, ...]
    how: str


def place(found: Survey, table: DataSetTable, division: Division, budget: int | None) -> Placement:
    """Returns where the candidates belong; recordings that the data set has already stay where they are.

    Args:
        found: The candidates, and when all frames came.
        table: Of the data set.
        division: The shares.
        budget: How many candidates are going to be chosen; None for all.
    """
    known = _parts_of(table)
    divided = [bag for bag in found.times_ns if _is_divided(bag, known)]
    if not known and len(found.times_ns) == 1 and len(division.shares) > 1:
        divided = list(found.times_ns)
    counts = Counter(row[columns.BAG] for row in table.rows if row[columns.BAG] in known)
    counts.update(_expected(found, set(found.times_ns) - set(divided), budget))
    of_bag = parts.whole_bags(counts, known, division)
    places: dict[int, Place | None] = {
        index: Place(of_bag[one.origin.bag], one.origin.bag)
        for index, one in enumerate(found.candidates)
        if one.origin.bag not in divided
    }
    for bag in divided:
        places |= _within(bag, found, division)
    new = {bag: of_bag[bag] for bag in found.times_ns if bag not in divided and bag not in known}
    how = _in_words(new, divided, found)
    return Placement(tuple(places[index] for index in range(len(found.candidates))), how)


def as_known(found: Survey, table: DataSetTable, bags: Mapping[Fingerprint, str]) -> Survey:
    """Returns the survey with the names that its recordings have in the data set, told by their frames.

    A name on the disk is that of a folder: the same recording has another one where it was moved, or where more of the
    path has to be told, and other recordings have the same. Its frames would then come into several parts, as those
    of a recording of which a clip was read before it.

    Args:
        found: What the sources hold.
        table: Of the data set.
        bags: The recording that each of its images is of, by its fingerprint.
    """
    parts_of = _parts_of(table)
    there = {one: _whole(bag, parts_of) for one, bag in bags.items() if bag}
    whose = {one: (bag, False) for one, bag in found.taken.items()} | {one: (bag, True) for one, bag in there.items()}
    images = Counter(one for (stamp_ns, _), one in whose.items() if (stamp_ns or 0) > 0)
    names: dict[str, str] = {}
    for own in found.stamps_ns:
        hits = Counter(whose[one] for one in found.met.get(own, ()) if one in whose)
        same = [one for one, count in hits.most_common() if 2 * count > images[one] and one != (own, False)]
        if same and (own, True) not in same:
            bag, is_there = same[0]
            names[own] = bag if is_there else names.get(bag, bag)
        elif (
            not same
            and own in there.values()
            and not (found.interrupted or _shares_stamps(own, found, table, parts_of))
        ):
            names[own] = _free_name(own, {*parts_of, *there.values(), *found.times_ns, *names.values()})
    return found.named(names) if names else found


def _whole(bag: str, known: Mapping[str, Part]) -> str:
    """Returns what a recording is called of which a group of the table is the end, or all."""
    part = known.get(bag, "train")
    start = bag.removesuffix(parts.part_of_bag("", part))
    return start if part in parts.HELD_OUT and known.get(start) == "train" else bag


def _shares_stamps(own: str, found: Survey, table: DataSetTable, known: Mapping[str, Part]) -> bool:
    """Returns whether images of a recording have stamps of a source of its name: it may be it, in other pixels."""
    stamps = {row[columns.STAMP] for row in table.rows if _whole(row[columns.BAG], known) == own}
    return any(str(stamp_ns) in stamps for stamp_ns in found.stamps_ns[own])


def _free_name(name: str, taken: Collection[str]) -> str:
    """Returns a name with the first number from 2 on with which nothing is called so."""
    return next(free for free in (f"{name}_{number}" for number in itertools.count(2)) if free not in taken)


def part_of_new(bag: str, table: DataSetTable, division: Division) -> Part | None:
    """Returns the part of a recording that begins now; None if it is the only one, whose end will be held out.

    Args:
        bag: Its name.
        table: Of the data set that it is added to.
        division: The shares.
    """
    known = _parts_of(table)
    if not known:
        return None
    counts = Counter(row[columns.BAG] for row in table.rows if row[columns.BAG] in known)
    return parts.whole_bags({**counts, bag: 1}, known, division)[bag]


def _parts_of(table: DataSetTable) -> dict[str, Part]:
    """Returns the part of each group of the table."""
    found: dict[str, Part] = {}
    for row in table.rows:
        part = part_of(row[columns.PART]) if row[columns.PART] else None
        if row[columns.BAG] and part is not None:
            found.setdefault(row[columns.BAG], part)
    return found


def _is_divided(bag: str, known: Mapping[str, Part]) -> bool:
    """Returns whether a recording was the only one of the data set before; others may have names of its ends."""
    held_out = any(known.get(parts.part_of_bag(bag, part)) == part for part in parts.HELD_OUT)
    return held_out and known.get(bag, "train") == "train"


def _expected(found: Survey, bags: Collection[str], budget: int | None) -> dict[str, int]:
    """Returns how many frames of each recording are going to be chosen, about; at least one."""
    share = 1.0 if budget is None else min(1.0, budget / max(1, len(found.candidates)))
    counts = Counter(one.origin.bag for one in found.candidates)
    return {bag: max(1, round(share * counts[bag])) for bag in bags}


def _within(bag: str, found: Survey, division: Division) -> dict[int, Place | None]:
    """Returns the place of each candidate of a recording that is divided; of files without times by look-alikes."""
    rows = [index for index, one in enumerate(found.candidates) if one.origin.bag == bag]
    if not rows:
        return {}
    if found.times_ns[bag]:
        ends = parts.ends_of(bag, found.times_ns[bag], division)
        return {row: ends.place(found.candidates[row].origin.time_ns or 0) for row in rows}
    groups = look_alikes(np.stack([found.candidates[row].vector for row in rows]), [""] * len(rows))
    drawn = parts.by_groups(groups.tolist(), division)
    return {row: Place(part, parts.part_of_bag(bag, part)) for row, part in zip(rows, drawn, strict=True)}


def _in_words(new: Mapping[str, Part], divided: Sequence[str], found: Survey) -> str:
    """Returns how recordings were divided."""
    counts = Counter(new.values())
    told = [f"{count} whole {'recording' if count == 1 else 'recordings'} to {part}" for part, count in counts.items()]
    for bag in divided:
        is_timed = bool(found.times_ns[bag])
        told.append(f"{bag} by time, its end is held out" if is_timed else f"{bag} by chance, look-alikes together")
    return ", ".join(told) or "the recordings stay in their parts"

"""Which frames are learned from and which are held out: whole recordings, or the end of the only one."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnn_perception.errors import ConfigError

if TYPE_CHECKING:  # it imports torch
    from training.data.records import Part

HELD_OUT: tuple[Part, ...] = ("val", "test")
_MOST_HELD_OUT = 0.9
_LARGEST_GAP = 0.05
"""Share of the only recording that is left out before each part that is held out."""


@dataclass(frozen=True)
class Division:
    """How recordings are divided.

    Attributes:
        val_fraction: Share of the frames that is held out for validation.
        test_fraction: Share that is held out for the test.
        gap_s: Seconds that are left out between parts of one recording.
        seed: Decides among recordings of equal length.

    Raises:
        ConfigError: If a value is out of range; names the option.
    """

    val_fraction: float = 0.2
    test_fraction: float = 0.0
    gap_s: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, share in (("--val-fraction", self.val_fraction), ("--test-fraction", self.test_fraction)):
            if not 0.0 <= share <= _MOST_HELD_OUT:
                raise ConfigError(f"{name} is {share}; choose 0 to {_MOST_HELD_OUT}")
        if self.val_fraction + self.test_fraction > _MOST_HELD_OUT:
            raise ConfigError("--val-fraction and --test-fraction leave less than a tenth for training; lower them")
        if not 0.0 <= self.gap_s < math.inf:
            raise ConfigError(f"--gap is {self.gap_s}; choose 0 or more seconds")
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}; choose 0 or more")

    def without_gap(self) -> Division:
        """Returns the same without anything left out."""
        return dataclasses.replace(self, gap_s=0.0)

    @property
    def shares(self) -> dict[Part, float]:
        """The share of each part that there is."""
        held = {"val": self.val_fraction, "test": self.test_fraction}
        shares: dict[Part, float] = {"train": 1.0 - sum(held.values())}
        return shares | {part: held[part] for part in HELD_OUT if held[part] > 0}


@dataclass(frozen=True)
class Place:
    """Where a frame belongs: its part, and the group that lies in this part as a whole."""

    part: Part
    bag: str


@dataclass(frozen=True)
class Ends:
    """The parts of one recording, one after the other in time.

    Attributes:
        bag: Its name.
        starts_ns: When each part that is held out begins, in order.
        gap_ns: What is left out before each.
    """

    bag: str
    starts_ns: tuple[tuple[Part, int], ...]
    gap_ns: int

    def place(self, time_ns: int) -> Place | None:
        """Returns where a frame belongs; None in a gap."""
        part: Part = "train"
        for held, start_ns in self.starts_ns:
            if start_ns - self.gap_ns <= time_ns < start_ns:
                return None
            part = held if time_ns >= start_ns else part
        return Place(part, part_of_bag(self.bag, part))


def part_of_bag(bag: str, part: Part) -> str:
    """Returns the group of the frames of the only recording that belong to a part."""
    return bag if part == "train" else f"{bag}_{part}"


def ends_of(bag: str, times_ns: Sequence[int], division: Division) -> Ends:
    """Divides one recording in time, by shares of its frames; what has no frames of its own is left out.

    Args:
        bag: Its name.
        times_ns: When its frames came, in any order; at least one.
        division: The shares.
    """
    times_ns = sorted(times_ns)
    before = 0.0
    starts: list[tuple[Part, int]] = []
    for (_, share), (held, _) in itertools.pairwise(division.shares.items()):
        before += share
        start_ns = times_ns[min(round(before * len(times_ns)), len(times_ns) - 1)]
        if start_ns > times_ns[0]:
            starts.append((held, start_ns))
    length_ns = times_ns[-1] - times_ns[0]
    return Ends(bag, tuple(starts), min(round(division.gap_s * 1e9), round(_LARGEST_GAP * length_ns)))


def whole_bags(counts: Mapping[str, int], known: Mapping[str, Part], division: Division) -> dict[str, Part]:
    """Gives each recording to the part that lacks most frames, the longest recordings first; none stays empty.

    Args:
        counts: Frames of each recording, of those that are in the data set already, too.
        known: The part of each that has one, which stays.
        division: The shares.

    Returns:
        The part of each recording.
    """
    parts = {bag: known[bag] for bag in counts if bag in known}
    total = sum(counts.values())
    lacking = {part: share * total for part, share in division.shares.items()}
    for bag, part in parts.items():
        lacking[part] = lacking.get(part, 0.0) - counts[bag]
    rank = dict(zip(sorted(counts), np.random.default_rng(division.seed).permutation(len(counts)), strict=True))
    waiting = sorted((bag for bag in counts if bag not in parts), key=lambda bag: (-counts[bag], rank[bag]))
    for index, bag in enumerate(waiting):
        empty = [part for part in division.shares if part not in parts.values()]
        choices = empty if empty and len(waiting) - index <= len(empty) else list(division.shares)
        parts[bag] = max(choices, key=lambda part: lacking[part])
        lacking[parts[bag]] -= counts[bag]
    return parts


def by_groups(groups: Sequence[int], division: Division) -> list[Part]:
    """Draws parts for pictures without times, groups of look-alikes as a whole.

    Args:
        groups: Of each picture.
        division: The shares, and the seed.
    """
    of_group = whole_bags(Counter(map(str, groups)), {}, division)
    return [of_group[str(group)] for group in groups]

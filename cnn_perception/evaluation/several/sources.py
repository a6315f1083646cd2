"""Which bags are meant: paths of bags, folders of bags, and patterns, each bag once and under a name of its own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.errors import ConfigError
from cnn_perception.evaluation.labels import bag_name
from cnn_perception.evaluation.several.bag_search import bags_in, bags_matching, is_folder_of_bags

_TAKEN = ("report.json", "report.html", "bags.csv")
"""Names beside the folders of the bags."""


@dataclass(frozen=True)
class BagSource:
    """A bag that is evaluated.

    Attributes:
        path: Where it is.
        name: Of its own among those that are evaluated; its report's folder and its labels are called so.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class FoundBags:
    """The bags that are meant.

    Attributes:
        bags: In the order in which they were given, those of a folder or pattern by name.
        is_single: Whether one bag was named, and neither a folder of bags nor a pattern.
        left_out: What a pattern matched beside bags.
        searched: Folders of bags.
    """

    bags: tuple[BagSource, ...]
    is_single: bool
    left_out: tuple[Path, ...] = ()
    searched: tuple[Path, ...] = ()


def find_bags(given: Sequence[Path]) -> FoundBags:
    """Returns the bags that paths, folders of bags and patterns such as `drives/2026-*` mean.

    A folder without metadata.yaml that has bags in its folders is a folder of bags, at any depth. What is neither a bag
    nor a folder of bags is kept as if it were a bag: opening it says what it is.

    Raises:
        ConfigError: If a pattern matches no bag, or a bag is meant twice, also by a link or by one of its files.
        DataError: If a folder cannot be listed.
    """
    paths: list[Path] = []
    left_out: list[Path] = []
    searched: list[Path] = []
    is_single = len(given) == 1
    for one in given:
        matches, others = bags_matching(one)
        left_out += others
        for match in matches:
            inner = bags_in(match) if is_folder_of_bags(match) else []
            searched += [match] if inner else []
            is_single = is_single and match == one and not inner
            paths += inner or [match]
    _require_once(paths)
    names = distinct_names(paths)
    bags = tuple(BagSource(path, name) for path, name in zip(paths, names, strict=True))
    return FoundBags(bags, is_single, tuple(left_out), tuple(searched))


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Returns a name for each bag: its own, and the folders above it as far as others have the same."""
    names = [bag_name(path) for path in paths]
    for depth in range(2, max((len(path.absolute().parts) for path in paths), default=0)):
        count = Counter(name.casefold() for name in names)
        if max(count.values()) == 1:
            break
        names = [
            "_".join(_parts(path, depth)) if count[name.casefold()] > 1 else name
            for path, name in zip(paths, names, strict=True)
        ]
    return [f"{name}_{number}" if number else name for name, number in _numbered(names)]


def _parts(path: Path, depth: int) -> tuple[str, ...]:
    above = Path(os.path.abspath(path)).parts[-depth:-1]  # noqa: PTH100 a link keeps its own name
    return (*(part for part in above if part != os.sep), bag_name(path))


def _numbered(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yields each name with 0, or with a number where it is taken."""
    taken = set(_TAKEN)
    for name in names:
        number = 0
        while (f"{name}_{number}" if number else name).casefold() in taken:
            number += 1
        taken.add((f"{name}_{number}" if number else name).casefold())
        yield name, number


def _require_once(paths: Sequence[Path]) -> None:
    """Refuses a bag that is meant twice.

    Raises:
        ConfigError: Names both ways.
    """
    places: dict[Path, Path] = {}
    for path in paths:
        real = Path(os.path.realpath(path))
        above = next((folder for folder in (real, *real.parents) if folder in places), None)
        below = next((place for place in places if real in place.parents), None)
        twin = above or below
        if twin is not None:
            raise ConfigError(f"--bag {path} is given twice: it is {places[twin]} again; evaluate each bag once")
        places[real] = path

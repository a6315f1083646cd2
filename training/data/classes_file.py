"""A file of class names: their order, and their words where the data only number them."""

from __future__ import annotations

import codecs
import difflib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cnn_perception.errors import ConfigError
from cnn_perception.label_table import composed
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.mistaken_files import what_instead
from training.class_names import of_lists
from training.data.names import as_seen
from training.data.records import Listing
from training.tasks.by_name import task_of

_SHOWN = 3
_NUMBER = re.compile(r"([0-9]{1,9})(?:\.0*)?")
"""A class that is only numbered, perhaps as a spreadsheet or pandas writes it: 1.0."""


def read(text: str) -> tuple[str, ...]:
    """Reads the names in a file: one a line, or another of the forms of `class_names.of_lists`.

    Args:
        text: Its path as it was given.

    Returns:
        The names in order, without the blanks around them; at least one. Two may be the same.

    Raises:
        ConfigError: If it is none of them, or a line in the midst is empty.
    """
    try:
        data = Path(text).read_bytes()  # once: it may be a pipe
        content = data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text in UTF-8"
        raise ConfigError(f"--classes {text}: neither a number nor a readable file of names ({reason})") from None
    if what := what_instead(data, "file of names"):
        raise ConfigError(f"--classes {text}: {what}")
    try:
        names = of_lists.read(content)
    except ValueError as error:
        raise ConfigError(f"--classes {text}: {error}") from None
    if "" in names:
        raise ConfigError(f"--classes {text}: name {names.index('') + 1} is empty; write one")
    if NONE_OF_THESE in names:
        raise ConfigError(
            f"--classes {text}: a class cannot be called {NONE_OF_THESE!r}, which says of an image that it shows no "
            "class; remove the line, or rename the class"
        )
    return tuple(names)


def ordered(listing: Listing, names: Sequence[str], said: str = "--classes") -> Listing:
    """Returns a listing with its classes in a given order.

    Args:
        listing: Of classes, not of numbers.
        names: All its classes, in the order of the logits; or as many names, where the classes in the data are just
            the numbers from 0 or from 1.
        said: Where these names are from, for errors.

    Raises:
        ConfigError: If it has no classes, or they are not these; says which are on one side only.
    """
    if listing.units:
        raise ConfigError(f"{said}: names classes, but numbers are learned; leave it out")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(f"{said}: names {twice[0]!r} twice; name each class once")
    known = _places(names)
    if len(known) == len(names) and {*known} == {*map(composed, listing.class_names)}:
        places: tuple[int, ...] | None = tuple(known[composed(name)] for name in listing.class_names)
    elif {*names} == {*listing.class_names}:
        places = tuple(names.index(name) for name in listing.class_names)
    else:
        places = _numbers(listing.class_names, len(names))
    if places is None:
        raise ConfigError(f"{said}: are not those of {listing.where}: {_difference(names, listing)}")
    return listing.renamed(tuple(names), places)


def among(listing: Listing, names: Sequence[str]) -> Listing:
    """Returns a listing with its classes in the order of a model's, of which it may lack some.

    Args:
        listing: Of classes, not of numbers. One that none of its images shows is left out, where an image shows one.
        names: Of the model's classes, each once, in the order of its outputs. They are found where the classes in the
            data are just their numbers, too, from 0 or from 1, as the first or the last of them tells.

    Raises:
        ConfigError: If one of its classes is none of these; names it, and one that is written alike.
    """
    found = listing.class_names
    known = _places(names)
    same = [composed(name) for name in found]
    places = (
        [known[name] for name in same]
        if known.keys() >= {*same} and len({*same}) == len(same)
        else _some_numbers(found, len(names))
    )
    if places is None:
        raise ConfigError(f"{listing.where}: {_stranger(found, names)}")
    shown = {sample.label for sample in listing.samples} if task_of(listing.task).one_class else range(len(found))
    kept = sorted(places[label] for label in shown if label < len(found))  # the next number is that of no class
    to = {place: row for row, place in enumerate(kept)}
    return listing.renamed(tuple(names[place] for place in kept), [to.get(place, -1) for place in places])


def _places(names: Sequence[str]) -> dict[str, int]:
    """Returns the place of each name, whose accents a file system or an archive may have composed otherwise."""
    return {composed(name): place for place, name in enumerate(names)}


def _numbers(found: Sequence[str], count: int) -> tuple[int, ...] | None:
    """Returns the line that each class means which is only a number; None if they are not the numbers of all lines."""
    numbers = _as_numbers(found)
    if numbers is None:
        return None
    first = min(numbers)
    if first > 1 or sorted(numbers) != list(range(first, first + count)):
        return None
    return tuple(number - first for number in numbers)


def _some_numbers(found: Sequence[str], count: int) -> list[int] | None:
    """Returns the same of numbers of some lines; None where nothing tells whether they begin with 0 or with 1."""
    numbers = _as_numbers(found)
    if numbers is None or len({*numbers}) < len(numbers):
        return None
    first = 0 if 0 in numbers else 1
    is_told = 0 in numbers or max(numbers) == count
    return [number - first for number in numbers] if is_told and max(numbers) - first < count else None


def _as_numbers(found: Sequence[str]) -> list[int] | None:
    """Returns classes that are only numbered as numbers; None of others, and of none."""
    matches = [_NUMBER.fullmatch(name) for name in found]
    numbers = [int(match[1]) for match in matches if match]
    return numbers if found and len(numbers) == len(found) else None


def _stranger(found: Sequence[str], names: Sequence[str]) -> str:
    """Says which class of the data is none of the model's, and what to do."""
    numbers = _as_numbers(found)
    if numbers is not None and 0 not in numbers and max(numbers) < len(names):
        return (
            f"its classes are numbers such as {found[0]!r}, of which nothing tells whether the model's begin with 0 or "
            "with 1; call them as the model calls its classes"
        )
    strange = [(place, name) for place, name in enumerate(found) if name not in names]
    if numbers is not None:  # such as 0 and 5 of five classes: 0 can be one of them, 5 beside it cannot
        first_number = 0 if 0 in numbers else 1
        last = len(names) - 1 + first_number
        if beyond := [name for place, name in strange if numbers[place] > last]:
            return (
                f"its class {beyond[0]!r} is none of the model's, which counted from {first_number} end with {last}; "
                "rename it, or leave its images out"
            )
    first = strange[0][1]
    close = difflib.get_close_matches(first, names, n=1)
    hint = f", which has {close[0]!r}" if close else ""
    return f"its class {first!r} is none of the model's{hint}; rename it, or leave its images out"


def _difference(names: Sequence[str], listing: Listing) -> str:
    lacking = sorted(set(listing.class_names) - set(names))
    added = sorted(set(names) - set(listing.class_names))
    alike = {*map(as_seen, lacking)} & {*map(as_seen, added)}
    sides = (("it lacks", lacking), ("without images are", added))
    told = [
        f"{what} {', '.join(ascii(name) if as_seen(name) in alike else repr(name) for name in some[:_SHOWN])}"
        f"{', ...' * (len(some) > _SHOWN)}"
        for what, some in sides
        if some
    ]
    return f"{'; '.join(told)}; mend one of the two"

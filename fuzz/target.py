"""What is fuzzed: a part of the project that reads what strangers wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

Files = dict[str, bytes]
"""An input: contents by file name."""


@dataclass(frozen=True)
class Sample:
    """An input, and the name of the valid one that it was made from."""

    origin: str
    files: Files


@dataclass(frozen=True)
class Target:
    """A part of the project that reads what strangers wrote.

    Attributes:
        name: Short, one word.
        samples: Returns the valid inputs.
        mutate: Returns a damaged copy; takes pieces of the others.
        check: Reads an input. Returns what became of it in a few words, raises a PerceptionError where the input is
            refused, and a `ViolationError` where the reader broke a promise; any other exception is a failure, too.
        batch: How many inputs are made from one random number: some tenths of a second of them.
        share: Of the time, in relation to the other targets.
    """

    name: str
    samples: Callable[[], list[Sample]]
    mutate: Callable[[Random, Sample, Sequence[Sample]], Files]
    check: Callable[[Sample], str]
    batch: int
    share: int = 1


class ViolationError(AssertionError):
    """A promise that an input broke; the text begins with words that are the same for all inputs that break it."""


def content_of(sample: Sample) -> bytes:
    """Returns the content of an input of one file."""
    (content,) = sample.files.values()
    return content

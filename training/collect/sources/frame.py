"""A frame that may be chosen, and what is known of it before any model sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from cnn_perception.errors import FrameError
from cnn_perception.image.messages import EncodedFile, EncodedImage

Cause = Literal["unknown", "disagreement", "margin"]
"""Why an answer is in doubt: it is none of the classes, a second model answers otherwise, or another one is near."""


@dataclass(frozen=True)
class Answer:
    """What a model says of a frame.

    Attributes:
        guess: The answer as its label would be written.
        doubt: How little sure the model is, in [0, 1]; for numbers how far another model is away, in any unit. None
            where nothing tells.
        cause: Why.
        model: SHA-256 of the model file.
    """

    guess: str
    doubt: float | None
    cause: Cause
    model: str


@dataclass(frozen=True)
class Origin:
    """Where a frame comes from.

    Attributes:
        index: Its place in its source, from 0.
        bag: Name of what it was recorded with.
        topic: Image topic; empty for a file.
        camera: Name of the camera; empty where none is known.
        stamp_ns: Of the header, nanoseconds; None for a file.
        time_ns: When it was received, nanoseconds, which orders the frames of a source; None for a file.
        stem: Path of its image in the data set's folder of images, without a suffix; parts are safe as file names.
    """

    index: int
    bag: str
    topic: str
    camera: str
    stamp_ns: int | None
    time_ns: int | None
    stem: str

    def named(self, bag: str) -> Origin:
        """Returns the same in a recording of another name."""
        stem = safe_name(bag) + self.stem.removeprefix(safe_name(self.bag))
        return dataclasses.replace(self, bag=bag, stem=stem)


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """A frame of a source.

    Attributes:
        origin: Where it comes from.
        content: The image as it came, or why there is none.
        answer: What a model said of it when it was recorded; None if nothing is known.
    """

    origin: Origin
    content: EncodedImage | EncodedFile | FrameError
    answer: Answer | None = None


@dataclass(frozen=True)
class OpenSource:
    """A source that is being read.

    Attributes:
        count: How many frames there are.
        frames: Those that were asked for, once, in order.
        damage: What cannot be read, a line each; complete once all frames were read.
        warnings: What is odd about it, though it can be read; likewise.
        rows: Of the source's own table, in which a person may have labelled the frames, by index; none without one.
    """

    count: int
    frames: Iterator[SourceFrame]
    damage: Sequence[str] = ()
    warnings: Sequence[str] = ()
    rows: Sequence[Mapping[str, str]] = ()


class Source(Protocol):
    """A recording or folder.

    Attributes:
        path: Where it is.
        bag: Its name in the data set.
    """

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def bag(self) -> str:
        """Its name in the data set."""

    def opened(self, only: Collection[int] | None = None) -> AbstractContextManager[OpenSource]:
        """Opens it for reading once.

        Args:
            only: Indices of the frames that are wanted; None for all.

        Raises:
            DataError: If nothing of it can be read.
        """

    def named(self, bag: str) -> Source:
        """Returns the same under another name in the data set."""


def safe_name(text: str) -> str:
    """Returns a name that is safe as a part of a path on any system and in a page's address."""
    kept = "".join(one if one.isalnum() or one in "-_+=@." else "_" for one in text.strip())
    return kept.lstrip(".")[:_LONGEST_NAME] or "_"


_LONGEST_NAME = 100
"""Characters; of four bytes each they are still short enough for a file system beside a stamp."""

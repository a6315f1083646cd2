"""What a person may say of an image, for each kind of labels: one class, several, or numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from cnn_perception.errors import DataError
from cnn_perception.label_text import NONE_OF_THESE, SEPARATOR
from training.data_set.columns import CLASS, CLASSES

Form = Literal["one", "several", "numbers"]
"""What the page asks for."""


class Answers(Protocol):
    """A kind of labels. An answer is a list of texts: class names, or a number for each column."""

    @property
    def form(self) -> Form:
        """What the page asks for."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of a table that hold the label."""

    @property
    def units(self) -> tuple[str, ...]:
        """Of the numbers; empty for classes."""

    def cells(self, answer: Sequence[str], classes: Collection[str]) -> dict[str, str]:
        """Returns what is written for an answer.

        Raises:
            DataError: If it is no such answer.
        """

    def read(self, cells: Mapping[str, str]) -> list[str]:
        """Returns the answer that a row holds; empty if there is none."""

    def guessed(self, text: str) -> list[str]:
        """Returns the answer that a model's guess says; empty if there is none."""


@dataclass(frozen=True)
class OneClass:
    """See `Answers`; `none of these` is an answer, too."""

    form: Form = "one"
    columns: tuple[str, ...] = (CLASS,)
    units: tuple[str, ...] = ()

    def cells(self, answer: Sequence[str], classes: Collection[str]) -> dict[str, str]:
        """Returns the name of the class."""
        if len(answer) != 1:
            raise DataError(f"an image has one class here, not {len(answer)}; choose one")
        if answer[0] != NONE_OF_THESE:
            _require_known(answer, classes)
        return {CLASS: answer[0]}

    def read(self, cells: Mapping[str, str]) -> list[str]:
        """Returns the class, if there is one."""
        return [cells[CLASS]] if cells[CLASS] else []

    def guessed(self, text: str) -> list[str]:
        """Returns the class that was guessed."""
        return [text] if text else []


@dataclass(frozen=True)
class SeveralClasses:
    """See `Answers`; that no class is shown is an empty answer."""

    form: Form = "several"
    columns: tuple[str, ...] = (CLASSES,)
    units: tuple[str, ...] = ()

    def cells(self, answer: Sequence[str], classes: Collection[str]) -> dict[str, str]:
        """Returns the names in the order of the classes."""
        _require_known(answer, classes)
        return {CLASSES: SEPARATOR.join(name for name in classes if name in answer)}

    def read(self, cells: Mapping[str, str]) -> list[str]:
        """Returns the classes."""
        return self.guessed(cells[CLASSES])

    def guessed(self, text: str) -> list[str]:
        """Returns the classes that were guessed."""
        names = (name.strip() for name in re.split("[;|]", text))
        return [name for name in names if name and name != NONE_OF_THESE]


@dataclass(frozen=True)
class Numbers:
    """See `Answers`; a column for each number, in its unit."""

    columns: tuple[str, ...]
    units: tuple[str, ...]
    form: Form = "numbers"

    def cells(self, answer: Sequence[str], classes: Collection[str]) -> dict[str, str]:
        """Returns the numbers as they were typed."""
        if len(answer) != len(self.columns):
            raise DataError(f"{len(self.columns)} numbers are asked for ({', '.join(self.columns)}); fill them all in")
        for name, text in zip(self.columns, answer, strict=True):
            _require_number(name, text)
        return {name: text.strip() for name, text in zip(self.columns, answer, strict=True)}

    def read(self, cells: Mapping[str, str]) -> list[str]:
        """Returns the numbers, if any of them is there."""
        found = [cells[name] for name in self.columns]
        return found if any(found) else []

    def guessed(self, text: str) -> list[str]:
        """Returns the numbers that were guessed; none if there are more or fewer of them."""
        found = [number.strip() for number in text.split(SEPARATOR)]
        return found if len(found) == len(self.columns) and all(found) else []


def _require_known(answer: Sequence[str], classes: Collection[str]) -> None:
    for name in answer:
        if name not in classes:
            raise DataError(f"{name[:80]!r} is no class of this set; add it first")


def _require_number(name: str, text: str) -> None:
    try:
        is_finite = text.isascii() and "_" not in text and math.isfinite(float(text))
    except ValueError:
        is_finite = False
    if not is_finite:
        raise DataError(f"{name}: {text.strip()[:40]!r} is no number; write it as 0.5 or -2")

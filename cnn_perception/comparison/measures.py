"""What is compared: for each frame how well both models did, by the kind of what is known of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cnn_perception.comparison.compared_frame import Answer, ComparedFrame, is_right
from cnn_perception.comparison.difference import Values
from cnn_perception.label_text import Truth

Scale = Literal["share", "part", "error"]
"""What a figure is: 1 for a right answer and 0 for a wrong one; an error as a part of the baseline's mean error; an
error in its unit."""


@dataclass(frozen=True, eq=False)
class FrameValues:
    """A figure before it is averaged: how well each frame was answered, more is better.

    Attributes:
        name: What it is, for a reader.
        unit: Of an error that has one; empty otherwise.
        scale: What it is measured in; errors are negative.
        theirs: (n,) of the baseline.
        ours: (n,) of the model that is judged.
    """

    name: str
    unit: str
    scale: Scale
    theirs: Values
    ours: Values

    @property
    def gains(self) -> Values:
        """(n,) by how much each frame is better answered, below 0 worse."""
        return self.ours - self.theirs


def is_usable(frame: ComparedFrame) -> bool:
    """Whether a frame can be compared: one answer is enough for classes, of which none is wrong; numbers need both."""
    answers = [answer for answer in (frame.ours.given, frame.theirs.given) if answer is not None]
    if not isinstance(frame.truth, tuple):
        return bool(answers)
    return len(answers) == 2 and all(np.isfinite(np.array(one, np.float64)).all() for one in (frame.truth, *answers))


def measured(frames: Sequence[ComparedFrame], names: Sequence[str], units: Sequence[str]) -> list[FrameValues]:
    """Returns the figures of frames, the one that decides first.

    Args:
        frames: At least one.
        names: The classes, or what the numbers are called.
        units: Of the numbers; empty for none.
    """
    truth = frames[0].truth
    if isinstance(truth, tuple):
        return _errors(frames, names, units)
    if isinstance(truth, frozenset):
        return _rights("exactly the right classes", frames) + [_presence(frames, name) for name in names]
    return _rights("right answers", frames)


def has_class(truth: Truth | None, name: str) -> bool | None:
    """Returns whether a class is among several; None where nothing is known or answered."""
    return None if truth is None else isinstance(truth, frozenset) and name in truth


def classes_of(frames: Sequence[ComparedFrame]) -> list[str]:
    """Returns the classes that are known to occur, in the order of the alphabet."""
    truths = [one.truth for one in frames]
    several = itertools.chain.from_iterable(truth for truth in truths if isinstance(truth, frozenset))
    return sorted({truth for truth in truths if isinstance(truth, str)} | set(several))


def _rights(name: str, frames: Sequence[ComparedFrame]) -> list[FrameValues]:
    """Returns in which frames each model is right; where an unknown rule made a difference, also without it."""
    given = _right(name, frames, _given)
    if not any(answer.given != answer.best for one in frames for answer in (one.ours, one.theirs)):
        return [given]
    with_rule = _right(f"{name}, by the unknown rule", frames, _given)
    return [with_rule, _right(f"{name}, without that rule", frames, _best)]


def _given(answer: Answer) -> Truth | None:
    return answer.given


def _best(answer: Answer) -> Truth | None:
    return answer.best


def _right(name: str, frames: Sequence[ComparedFrame], read: Callable[[Answer], Truth | None]) -> FrameValues:
    theirs = np.array([is_right(read(one.theirs), one.truth) for one in frames], np.float64)
    ours = np.array([is_right(read(one.ours), one.truth) for one in frames], np.float64)
    return FrameValues(name, "", "share", theirs, ours)


def _presence(frames: Sequence[ComparedFrame], name: str) -> FrameValues:
    """Returns in which frames each model is right about whether a class is there."""
    known = [has_class(one.truth, name) for one in frames]
    theirs = [has_class(one.theirs.given, name) for one in frames]
    ours = [has_class(one.ours.given, name) for one in frames]
    return FrameValues(f"right about {name}", "", "share", _equal(theirs, known), _equal(ours, known))


def _equal(found: Sequence[bool | None], known: Sequence[bool | None]) -> Values:
    return np.array([one == other for one, other in zip(found, known, strict=True)], np.float64)


def _errors(frames: Sequence[ComparedFrame], names: Sequence[str], units: Sequence[str]) -> list[FrameValues]:
    """Returns the absolute errors, negative: of all numbers as shares of the baseline's, and of each in its unit."""
    truth = np.array([one.truth for one in frames], np.float64)
    theirs = np.abs(np.array([one.theirs.given for one in frames], np.float64) - truth)
    ours = np.abs(np.array([one.ours.given for one in frames], np.float64) - truth)
    scale = theirs.mean(axis=0)
    scale = np.where(scale > 0, scale, ours.mean(axis=0))  # beside a perfect baseline the whole error is new
    scale = np.where(scale > 0, scale, 1.0)
    every = FrameValues("error", "", "part", -(theirs / scale).mean(axis=1), -(ours / scale).mean(axis=1))
    named = enumerate(zip(names, units or [""] * len(names), strict=True))
    return [every] + [
        FrameValues(f"error of {name}", unit, "error", -theirs[:, k], -ours[:, k]) for k, (name, unit) in named
    ]

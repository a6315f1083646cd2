"""By what frames are divided: recording, camera, how the picture looks, and class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cnn_perception.comparison.compared_frame import ComparedFrame
from cnn_perception.comparison.measures import classes_of, has_class

Kind = Literal["bag", "topic", "picture", "class"]
Flags = npt.NDArray[np.bool_]

_QUARTER = 0.25


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the frames.

    Attributes:
        kind: By what they were divided.
        name: Which part it is, in words.
        chosen: (n,) bool, which of all frames it has; at least one.
    """

    kind: Kind
    name: str
    chosen: Flags


def parts_of(frames: Sequence[ComparedFrame], names: Sequence[str]) -> list[Part]:
    """Returns the parts of at least one frame; where all frames are alike there is none.

    Args:
        frames: All of them.
        names: The classes, in the order of the parts.
    """
    found = [
        *_by_text("bag", [one.bag for one in frames]),
        *_by_text("topic", [one.topic for one in frames]),
        *_by_look(frames),
        *_by_class(frames, names),
    ]
    return [part for part in found if part.chosen.any()]


def _by_text(kind: Kind, texts: Sequence[str]) -> list[Part]:
    different = sorted(set(texts))
    if len(different) < 2:
        return []
    return [Part(kind, text, np.array([one == text for one in texts])) for text in different]


def _by_class(frames: Sequence[ComparedFrame], names: Sequence[str]) -> Iterator[Part]:
    truths = np.array([one.truth if isinstance(one.truth, str) else "" for one in frames])
    several = any(isinstance(one.truth, frozenset) for one in frames)
    for name in dict.fromkeys((*names, *classes_of(frames))):
        has = np.array([bool(has_class(one.truth, name)) for one in frames]) if several else truths == name
        yield Part("class", name, has)


def _by_look(frames: Sequence[ComparedFrame]) -> list[Part]:
    """Returns the darkest and the most blurred quarter; a recording whose pictures are alike has neither."""
    rows = np.array([row for row, one in enumerate(frames) if one.look is not None], np.intp)
    looks = [one.look for one in frames if one.look is not None]
    brightness = np.array([look.brightness for look in looks])
    sharpness = np.array([look.sharpness for look in looks])
    found = []
    for name, values in (("darkest quarter: brightness", brightness), ("most blurred quarter: sharpness", sharpness)):
        lowest = _lowest(values)
        if lowest.any():
            chosen = np.zeros(len(frames), np.bool_)
            chosen[rows[lowest]] = True
            found.append(Part("picture", f"{name} up to {values[lowest].max():.3g}", chosen))
    return found


def _lowest(values: npt.NDArray[np.float64]) -> Flags:
    """Returns which values are the lowest quarter, with those that are equal; none where that is more than half."""
    if not len(values):
        return np.zeros(0, np.bool_)
    lowest = np.asarray(values <= np.quantile(values, _QUARTER))
    return lowest if lowest.mean() <= 2 * _QUARTER else np.zeros(len(values), np.bool_)

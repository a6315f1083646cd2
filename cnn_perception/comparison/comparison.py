"""Two models on the same frames: how much they differ, in all frames and in parts of them, and which frames changed.

Works on records of frames alone, of one recording or of many, whoever made them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception.comparison.compared_frame import ComparedFrame
from cnn_perception.comparison.difference import Difference, Series, Unit, Values, difference, holm
from cnn_perception.comparison.measures import FrameValues, Scale, is_usable, measured
from cnn_perception.comparison.parts import Flags, Kind, parts_of
from cnn_perception.comparison.verdict import Change, Verdict, change_of, is_loss_proven, judge
from cnn_perception.errors import DataError

LEAST_BAGS = 10
"""From so many recordings on each is drawn as a whole: what is said then holds for further ones like them."""
POINTS = "points"
"""What hundredths of a share of right answers are called,"""
OF_ERROR = "% of the baseline's error"
"""and of an error."""


@dataclass(frozen=True)
class Measure:
    """One figure of both models.

    Attributes:
        name: What it is, for a reader.
        unit: Of an error that has one; empty otherwise.
        scale: Whether it is a share of right answers, of which more is better, or a mean absolute error.
        theirs: Of the baseline.
        ours: Of the model that is judged.
        difference: By how much that is better, below 0 worse; of shares, or in the unit.
    """

    name: str
    unit: str
    scale: Scale
    theirs: float
    ours: float
    difference: Difference


@dataclass(frozen=True)
class Slice:
    """A part of the frames, compared by the headline as all of them are.

    Attributes:
        kind: By what frames were divided.
        name: Which part it is, in words.
        measure: The figures.
        chance: That of its difference, corrected for the number of slices by Holm's procedure.
        change: Whether a difference is proven after that correction.
        is_loss_proven: Whether more than the allowed loss is.
    """

    kind: Kind
    name: str
    measure: Measure
    chance: float
    change: Change
    is_loss_proven: bool


@dataclass(frozen=True)
class ChangedFrame:
    """A frame to which one model answered better than the other, and by how much; below 0 the baseline was better."""

    frame: ComparedFrame
    gain: float


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        frames: How many were compared.
        bags: Of how many recordings or folders.
        max_loss: The loss that is allowed, as a share.
        points: What hundredths of the headline are called.
        verdict: On all frames.
        headline: The figure that decides: right answers with the unknown rule, exactly the right classes, or the error
            of all numbers as a share of the baseline's.
        measures: Further figures: without the unknown rule, of each class, or of each number in its unit.
        slices: By recording, camera, look and class; the proven losses first, then by size.
        lost: Frames that the baseline answered better: those newly wrong, or of a larger error; in order of time.
        gained: Frames that are answered better now, likewise.
        left_out: What could not be compared, a line each.
    """

    frames: int
    bags: int
    max_loss: float
    points: str
    verdict: Verdict
    headline: Measure
    measures: tuple[Measure, ...]
    slices: tuple[Slice, ...]
    lost: tuple[ChangedFrame, ...]
    gained: tuple[ChangedFrame, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Method:
    """How differences are computed: what is independent, and which loss is allowed."""

    unit: Unit
    max_loss: float

    def measure(self, frames: Sequence[ComparedFrame], values: FrameValues, chosen: Flags | None = None) -> Measure:
        """Returns a figure of the chosen frames, of all by default."""
        rows = np.arange(len(frames)) if chosen is None else np.flatnonzero(chosen)
        series = _series(frames, values.gains, rows.tolist())
        found = difference(series, self.unit, max_loss=self.max_loss, is_share=values.scale == "share")
        sign = 1.0 if values.scale == "share" else -1.0
        theirs = sign * float(values.theirs[rows].mean())
        ours = sign * float(values.ours[rows].mean())
        return Measure(values.name, values.unit, values.scale, theirs, ours, found)


def compare(
    frames: Sequence[ComparedFrame],
    names: Sequence[str] = (),
    units: Sequence[str] = (),
    *,
    max_loss: float = 0.0,
    independent: Unit | None = None,
    is_same_model: bool = False,
) -> Comparison:
    """Returns how two models differ on the same frames.

    Args:
        frames: Of any number of recordings; what is known of them is all of one kind: a class, classes or numbers.
        names: The classes, in the order in which they are shown, or what the numbers are called.
        units: Of the numbers; empty for none.
        max_loss: The loss that is allowed, as a share: of right answers, or of the baseline's mean error.
        independent: What is taken for independent; None decides by the frames: each image of a folder, stretches of
            time of recordings, and each recording from `LEAST_BAGS` on.
        is_same_model: Whether both models are the same file.

    Raises:
        DataError: If there is nothing to compare.
    """
    usable = sorted(filter(is_usable, frames), key=lambda one: (one.bag, one.time_ns, one.topic, one.index))
    if not usable:
        raise DataError("there is nothing to compare: no frame has a label and an answer of both models")
    bags = len({one.bag for one in usable})
    unit = independent or _independent(usable, bags)
    deciding, *others = measured(usable, names, units)
    headline = _Method(unit, max_loss).measure(usable, deciding)
    points = POINTS if deciding.scale == "share" else OF_ERROR
    is_alike = is_same_model and not deciding.gains.any()
    return Comparison(
        frames=len(usable),
        bags=bags,
        max_loss=max_loss,
        points=points,
        verdict=judge(headline.difference, max_loss, points, is_same_model=is_alike),
        headline=headline,
        measures=tuple(_Method(unit, 0.0).measure(usable, one) for one in others),
        slices=_slices(usable, names, deciding, _Method(unit, max_loss)),
        lost=tuple(_changed(usable, deciding.gains, -1)),
        gained=tuple(_changed(usable, deciding.gains, 1)),
        left_out=_left_out(len(frames) - len(usable), is_share=deciding.scale == "share"),
    )


def _independent(frames: Sequence[ComparedFrame], bags: int) -> Unit:
    if not any(one.time_ns for one in frames):
        return "frame"
    return "bag" if bags >= LEAST_BAGS else "time"


def _left_out(count: int, *, is_share: bool) -> tuple[str, ...]:
    if not count:
        return ()
    return (f"{count} frames that {'neither model could' if is_share else 'one of the models could not'} answer",)


def _series(frames: Sequence[ComparedFrame], gains: Values, rows: Sequence[int]) -> list[Series]:
    """Returns the differences of some frames by recording; all frames are in the order of time."""
    parts = []
    for _, group in itertools.groupby(rows, key=lambda row: frames[row].bag):
        own = list(group)
        start_ns = frames[own[0]].time_ns
        times_s = np.array([(frames[row].time_ns - start_ns) / 1e9 for row in own])
        parts.append(Series(gains[own], times_s))
    return parts


def _slices(
    frames: Sequence[ComparedFrame], names: Sequence[str], values: FrameValues, method: _Method
) -> tuple[Slice, ...]:
    """Returns all parts of the frames, the proven losses first, then by size."""
    parts = parts_of(frames, names)
    found = [method.measure(frames, values, part.chosen) for part in parts]
    chances = holm([one.difference.chance for one in found])
    slices = []
    for part, measure, chance in zip(parts, found, chances, strict=True):
        change = change_of(measure.difference, chance, method.max_loss)
        is_proven = is_loss_proven(measure.difference, chance, method.max_loss)
        slices.append(Slice(part.kind, part.name, measure, chance, change, is_proven))
    return tuple(sorted(slices, key=lambda one: (not one.is_loss_proven, one.measure.difference.value)))


def _changed(frames: Sequence[ComparedFrame], gains: Values, sign: int) -> Iterator[ChangedFrame]:
    for row in np.flatnonzero(sign * gains > 0).tolist():
        yield ChangedFrame(frames[row], float(gains[row]))

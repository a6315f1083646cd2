"""Parts of the frames of several bags, and those in which the model does worst."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.recording.sampling import outcomes, scored
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.registry import task_of
from cnn_perception.time_blocks import TimeBlocks

FEWEST_FRAMES = 20
"""A slice of fewer scored frames says nothing."""
_QUARTER = 0.25

_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SliceScore:
    """How good the answers are in a part of the frames.

    Attributes:
        kind: By what the frames are told apart, such as `hour`.
        name: Of this part.
        frames: Scored frames in it.
        independent_frames: So many independent ones would say as much.
        value: Their share of right answers, in [0, 1], or of numbers the mean of the largest error.
        low: Where its interval begins; those of all slices hold together in 95 of 100 such measurements (Bonferroni).
        high: Where it ends.
        is_worse: Whether all of the interval is on the bad side of the figure of all frames.
    """

    kind: str
    name: str
    frames: int
    independent_frames: float
    value: float
    low: float
    high: float
    is_worse: bool


@dataclass(frozen=True)
class EvaluatedBag:
    """The frames of a bag: its name, its image topic, and what became of each."""

    name: str
    topic: str
    records: Sequence[FrameRecord]


def slice_scores(bags: Sequence[EvaluatedBag], spec: ModelSpec, blocks: TimeBlocks) -> tuple[SliceScore, ...]:
    """Returns the slices of all frames with at least `FEWEST_FRAMES`, the worst first.

    Args:
        bags: Those with scored frames, in the order of the blocks.
        spec: The model.
        blocks: Of their scored frames.
    """
    frames = [record for bag in bags for record in scored(bag.records)]
    values = outcomes(frames, spec)
    found = [one for one in _slices(bags, frames, spec) if FEWEST_FRAMES <= one[2].sum() < len(frames)]
    has_classes = task_of(spec.task).has_classes
    overall = float(values.mean())
    scores = []
    for kind, name, inside in found:
        measured = blocks.share(values > 0.5, inside, len(found)) if has_classes else None
        estimate = measured or blocks.mean(values, inside, len(found))
        is_worse = estimate.high < overall if has_classes else estimate.low > overall
        worth = blocks.independent(values, inside)
        ends = (estimate.value, estimate.low, estimate.high)
        scores.append(SliceScore(kind, name, int(inside.sum()), worth, *ends, is_worse))
    return tuple(sorted(scores, key=lambda one: one.value if has_classes else -one.value))


def _slices(
    bags: Sequence[EvaluatedBag], frames: Sequence[FrameRecord], spec: ModelSpec
) -> Iterator[tuple[str, str, _Flags]]:
    """Yields (kind, name, (n,) which frames are in it) of every slice."""
    counts = [len(scored(bag.records)) for bag in bags]
    yield from _by_name("bag", np.repeat([bag.name for bag in bags], counts))
    yield from _by_name("topic", np.repeat([bag.topic for bag in bags], counts))
    yield from _by_name("hour (UTC)", np.array([_hour(record.received_ns) for record in frames]))
    yield from _by_class(frames, spec)
    looks = [record.look for record in frames]
    if all(look is not None for look in looks):
        brightness = np.array([look.brightness for look in looks if look])
        sharpness = np.array([look.sharpness for look in looks if look])
        low, high = np.quantile(brightness, (_QUARTER, 1 - _QUARTER))
        blurred = np.quantile(sharpness, _QUARTER)
        yield "brightness", f"the darkest quarter, below {low:.0%}", brightness < low
        yield "brightness", f"the brightest quarter, above {high:.0%}", brightness > high
        yield "sharpness", f"the most blurred quarter, below {blurred:.3g}", sharpness < blurred


def _by_name(kind: str, names: npt.NDArray[np.str_]) -> Iterator[tuple[str, str, _Flags]]:
    for name in np.unique(names):
        yield kind, str(name), names == name


def _by_class(frames: Sequence[FrameRecord], spec: ModelSpec) -> Iterator[tuple[str, str, _Flags]]:
    """Yields the frames of each class that is known to be there; nothing for numbers."""
    rows: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(frames):
        truth = record.truth
        for name in sorted(truth) if isinstance(truth, frozenset) else [truth] if isinstance(truth, str) else []:
            rows[name].append(index)
    for name in sorted(rows):
        inside = np.zeros(len(frames), np.bool_)
        inside[rows[name]] = True
        yield "class", name, inside


def _hour(received_ns: int) -> str:
    try:
        return datetime.fromtimestamp(received_ns // 10**9, timezone.utc).strftime("%H")
    except (OverflowError, ValueError, OSError):
        return "no date"

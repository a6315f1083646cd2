"""How many independent frames the frames of recordings are worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.recording.facts import period
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.registry import task_of
from cnn_perception.time_blocks import TimeBlocks, time_blocks


@dataclass(frozen=True)
class SamplingRecord:
    """What the intervals of recordings rest on.

    Attributes:
        frames: Scored frames.
        independent_frames: So many independent ones would say as much of the share of right answers, or of the mean
            error.
        blocks: Blocks of time that stay whole.
        block_s: How long such a block is at the camera's rate, seconds; of several recordings the median.
        recordings: How many there are.
    """

    frames: int
    independent_frames: float
    blocks: int
    block_s: float
    recordings: int = 1

    @property
    def in_words(self) -> str:
        """What a reader has to know."""
        within = f"blocks of {self.block_s:.3g} s stay whole" if self.blocks < self.frames else "none depends on others"
        among = f" of {self.recordings} recordings" if self.recordings > 1 else ""
        alike = ", and those of one recording are alike" if self.recordings > 1 else ""
        return (
            f"{self.frames} scored frames{among} say as much as {self.independent_frames:.0f} independent ones, since "
            f"neighbouring frames show one event ({within}){alike}; the intervals are of these"
        )


def scored(records: Sequence[FrameRecord]) -> list[FrameRecord]:
    """Returns the frames that have both an answer and a truth."""
    return [record for record in records if record.prediction is not None and record.truth is not None]


def one_of_each_image(records: Sequence[FrameRecord]) -> list[FrameRecord]:
    """Returns the first record of each image, of which boxes have several."""
    return [group[0] for group in _by_image(records)]


def blocks_of(recordings: Sequence[Sequence[FrameRecord]]) -> TimeBlocks | None:
    """Returns the blocks of the scored frames of recordings, one recording after the other; None without any.

    The boxes of one image stay together.
    """
    groups = [_by_image(scored(records)) for records in recordings]
    marks = [np.array([np.mean([one.badness for one in image]) for image in images]) for images in groups]
    found = time_blocks(marks)
    if not found.frames:
        return None
    sizes = tuple(len(image) for images in groups for image in images)
    return found if set(sizes) == {1} else dataclasses.replace(found, sizes=sizes)


def _by_image(records: Sequence[FrameRecord]) -> list[list[FrameRecord]]:
    """Returns the records of each image: boxes, which have names, of one time of reception; else one alone."""
    groups: list[list[FrameRecord]] = []
    for record in records:
        is_same = bool(groups) and bool(record.name) and groups[-1][0].received_ns == record.received_ns != 0
        if is_same:
            groups[-1].append(record)
        else:
            groups.append([record])
    return groups


def sampling_record(
    recordings: Sequence[Sequence[FrameRecord]], spec: ModelSpec, blocks: TimeBlocks | None
) -> SamplingRecord | None:
    """Returns what the intervals rest on; None where there are none."""
    if blocks is None:
        return None
    filled = [records for records in recordings if scored(records)]
    values = np.concatenate([outcomes(scored(records), spec) for records in filled])
    return sampling_of(blocks, values, [period(records) for records in filled])


def sampling_of(blocks: TimeBlocks, values: npt.NDArray[np.float64], periods_s: Sequence[float]) -> SamplingRecord:
    """Returns what the intervals of (n,) values of all frames in blocks rest on.

    Args:
        blocks: Of the recordings.
        values: Of each frame, whether it was answered rightly, or its error.
        periods_s: Of each recording the time between two frames, seconds.
    """
    lengths_s = [length * period_s for length, period_s in zip(blocks.lengths, periods_s, strict=True)]
    return SamplingRecord(
        frames=blocks.count,
        independent_frames=blocks.independent(values),
        blocks=blocks.blocks,
        block_s=float(np.median(lengths_s)),
        recordings=len(blocks.frames),
    )


def outcomes(records: Sequence[FrameRecord], spec: ModelSpec) -> npt.NDArray[np.float64]:
    """Returns of (n,) scored frames whether each is right, as 0 or 1, or of numbers the largest absolute error."""
    if task_of(spec.task).has_classes:
        return np.array([bool(record.is_right) for record in records], np.float64)
    task = task_of(spec.task)
    pairs = ((record.prediction, record.truth) for record in records)
    return np.array([task.deviation(one, truth) if one else 0.0 for one, truth in pairs], np.float64)

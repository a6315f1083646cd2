"""The arithmetic over all frames of an evaluation; what it computes depends on the model's task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.intervals import Sampling
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.registry import task_of
from cnn_perception.tasks.rules import FrameCounts, Scores


def score(
    records: Sequence[FrameRecord], spec: ModelSpec, threshold: float, sampling: Sampling | None = None
) -> Scores:
    """Returns the figures of a report from the records of all frames.

    Args:
        records: All frames.
        spec: The model.
        threshold: Score in [0, 1] below which the robot publishes nothing.
        sampling: How the scored frames came to be measured; independent of each other by default.
    """
    answered = [(record.truth, record.prediction) for record in records if record.prediction is not None]
    scored = [(truth, prediction) for truth, prediction in answered if truth is not None]
    bad = Counter(record.error for record in records if record.error)
    frames = FrameCounts(
        total=len(records),
        scored=len(scored),
        unlabelled=len(answered) - len(scored),
        bad=dict(bad.most_common()),
        lost=sum(bool(record.error) and record.truth is not None for record in records),
    )
    return task_of(spec.task).score(frames, scored, spec, threshold, sampling)

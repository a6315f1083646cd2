"""Whether scores can be taken for probabilities, and what a stricter or laxer rule for unknown images would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cnn_perception import metrics
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.recording.sampling import scored
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of

_MOST_POINTS = 41

_Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TradeOffPoint:
    """What a threshold would give: shares in [0, 1].

    Attributes:
        threshold: From which a frame is answered.
        coverage: Of the frames that show a class of the model and are answered; the others are false alarms.
        accuracy: Of these the share of right ones; None where none is answered.
        found: Of the frames labelled as none of the classes, that are called unknown; None without such frames.
    """

    threshold: float
    coverage: float
    accuracy: float | None
    found: float | None


@dataclass(frozen=True)
class TradeOff:
    """Coverage against accuracy as a threshold moves.

    Attributes:
        rule: Which threshold: that of the model's unknown rule, or the best class's score, as by `--threshold`.
        now: The point at the threshold in force; a score's is 0 unless `--threshold` says otherwise.
        points: From the lowest threshold, at which every frame is answered, to the highest.
    """

    rule: Literal["unknown rule", "score"]
    now: TradeOffPoint
    points: tuple[TradeOffPoint, ...]


def calibration(records: Sequence[FrameRecord], spec: ModelSpec) -> metrics.CalibrationScores | None:
    """Returns how often scores hold, over the scored frames; None of numbers, and without frames.

    Of one class an image it is the best class's score, of several that of every class.
    """
    task = task_of(spec.task)
    frames = [record for record in scored(records) if record.truth != NONE_OF_THESE]
    if not task.has_classes or not frames:
        return None
    if task.is_exclusive:
        confidence = np.array([record.prediction.score for record in frames if record.prediction], np.float64)
        return metrics.calibration(confidence, np.array([_is_best_right(record) for record in frames], np.bool_))
    scores = np.array([record.prediction.scores for record in frames if record.prediction], np.float64)
    there = [[name in _classes(record) for name in spec.class_names] for record in frames]
    return metrics.calibration(scores.reshape(-1), np.array(there, np.bool_).reshape(-1))


def trade_off(records: Sequence[FrameRecord], spec: ModelSpec, threshold: float) -> TradeOff | None:
    """Returns what other thresholds would give; None unless one class an image is answered, and without frames.

    Args:
        records: All frames.
        spec: The model.
        threshold: Score in [0, 1] below which the robot publishes nothing.
    """
    frames = scored(records)
    is_known = np.array([record.truth != NONE_OF_THESE for record in frames], np.bool_)
    if not task_of(spec.task).is_exclusive or not is_known.any():
        return None
    values = np.array([_value(record.prediction, spec) for record in frames if record.prediction], np.float64)
    is_right = np.array([_is_best_right(record) for record in frames], np.bool_)

    def at(limit: float) -> TradeOffPoint:
        answered = values >= limit
        known = answered & is_known
        return TradeOffPoint(
            threshold=float(limit),
            coverage=float(known.sum() / is_known.sum()),
            accuracy=float(is_right[known].mean()) if known.any() else None,
            found=None if is_known.all() else float((~answered)[~is_known].mean()),
        )

    limits = np.unique(np.quantile(values, np.linspace(0.0, 1.0, _MOST_POINTS), method="lower"))
    in_force = spec.unknown.threshold if spec.unknown else threshold
    return TradeOff("unknown rule" if spec.unknown else "score", at(in_force), tuple(map(at, limits)))


def _value(prediction: Prediction, spec: ModelSpec) -> float:
    """Returns what the threshold is compared with."""
    if spec.unknown is None or prediction.known_score is None:
        return prediction.score
    return prediction.known_score


def _is_best_right(record: FrameRecord) -> bool:
    """Whether the network's best class is the known one, whatever the unknown rule says."""
    return record.prediction is not None and record.prediction.name == record.truth


def _classes(record: FrameRecord) -> frozenset[str]:
    return record.truth if isinstance(record.truth, frozenset) else frozenset()

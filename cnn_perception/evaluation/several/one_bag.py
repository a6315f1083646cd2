"""The unit of work of several bags: one of them evaluated, wherever that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from cnn_perception.comparison.answered_frames import AnsweredFrames
from cnn_perception.evaluation.evaluation import evaluate
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.options import EvaluationOptions
from cnn_perception.evaluation.report_record import Report


@dataclass(frozen=True)
class BagResult:
    """An evaluated bag, whose own report is in its folder.

    Attributes:
        report: What `report.json` holds.
        records: All frames, without what only pictures show.
        interrupted: Whether Ctrl-C ended it early.
        answered: The frames with the answers of both models; None without a baseline.
    """

    report: Report
    records: Sequence[FrameRecord]
    interrupted: bool
    answered: AnsweredFrames | None = None


def evaluate_one(options: EvaluationOptions) -> BagResult:
    """Evaluates a bag in a process of its own.

    Raises:
        PerceptionError: As `evaluate`.
    """
    cv2.setNumThreads(options.workers)
    done = evaluate(options)
    return BagResult(done.report, [_slim(record) for record in done.records], done.interrupted, done.answered)


def _slim(record: FrameRecord) -> FrameRecord:
    """Returns a frame without its activation map, which pooled figures do not need."""
    if record.prediction is None:
        return record
    return dataclasses.replace(record, prediction=dataclasses.replace(record.prediction, activation=None))

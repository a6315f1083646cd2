"""Scores a model file on a bag or a folder of images, and writes the report: the program `evaluate_bag`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.evaluation.evaluation import Evaluation as Evaluation
    from cnn_perception.evaluation.evaluation import EvaluationOptions as EvaluationOptions
    from cnn_perception.evaluation.evaluation import evaluate as evaluate
    from cnn_perception.evaluation.report_record import Report as Report

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Evaluation": "evaluation",
        "EvaluationOptions": "evaluation",
        "Report": "report_record",
        "evaluate": "evaluation",
    },
)

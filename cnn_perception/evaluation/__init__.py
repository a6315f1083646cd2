"""Scores a model file on a bag or a folder of images, and writes the report: the program `evaluate_bag`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.evaluation.evaluation import Evaluation as Evaluation
    from cnn_perception.evaluation.evaluation import evaluate as evaluate
    from cnn_perception.evaluation.options import EvaluationOptions as EvaluationOptions
    from cnn_perception.evaluation.report_record import Report as Report
    from cnn_perception.evaluation.several.pooled import PooledReport as PooledReport
    from cnn_perception.evaluation.several.run import SeveralOptions as SeveralOptions
    from cnn_perception.evaluation.several.run import evaluate_several as evaluate_several
    from cnn_perception.evaluation.several.sources import find_bags as find_bags

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Evaluation": "evaluation",
        "EvaluationOptions": "options",
        "PooledReport": "several.pooled",
        "Report": "report_record",
        "SeveralOptions": "several.run",
        "evaluate": "evaluation",
        "evaluate_several": "several.run",
        "find_bags": "several.sources",
    },
)

"""What multiclass and multilabel have in common: answers that are classes with scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception import metrics
from cnn_perception.errors import DataError
from cnn_perception.label_text import NONE_OF_THESE, Truth
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import UNKNOWN, ModelSpec
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.rules import AnswerRow, Flags, MessageKind


@dataclass(frozen=True)
class ClassReport:
    """One row of the per-class table; see `metrics.ClassScores`."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


BELOW_THRESHOLD = "below threshold"
"""What a picture says before the classes where none of them is sure enough to be published."""


class ClassTask:
    """The part of a task that all tasks with classes share; the attributes are those of `TaskRules`."""

    has_classes: bool = True
    is_exclusive: bool
    topic: str = "classification"
    message: MessageKind = "classification"

    def model_values(self, spec: ModelSpec) -> dict[str, str]:
        """Returns the number of classes."""
        return {"classes": str(len(spec.class_names))}

    def scored_text(self, prediction: Prediction, most: int) -> str:
        """Returns the classes with their scores; an unknown image has none."""
        if prediction.unknown:
            return UNKNOWN
        ranked = prediction.ranked(1 if self.is_exclusive else most)
        return " + ".join(f"{name} {score:.2f}" for name, score in ranked) or "nothing"

    def rows(self, prediction: Prediction, top_k: int, threshold: float = 0.0) -> list[AnswerRow]:
        """Returns the best classes; of one class an image the first is the answer, of several all that were seen."""
        if prediction.unknown:
            return [AnswerRow(UNKNOWN)]
        ranked = prediction.ranked(top_k)
        if not ranked:
            return [AnswerRow("nothing", is_answer=False)]
        published = {name for name, _ in prediction.ranked(top_k, threshold)}
        rows = [
            AnswerRow(name, share=score, is_answer=name in published and (not index or not self.is_exclusive))
            for index, (name, score) in enumerate(ranked)
        ]
        return rows if published else [AnswerRow(BELOW_THRESHOLD, is_answer=False), *rows][:top_k]

    def differences(self, ours: Prediction, theirs: Prediction, common: Sequence[str]) -> dict[str, float]:
        """Returns nothing: there are no numbers."""
        return {}

    def averaged(self, prediction: Prediction) -> FloatArray:
        """Returns the scores."""
        return prediction.scores

    def held(self, prediction: Prediction, averages: FloatArray, answers: Flags) -> Prediction:
        """Returns the prediction that holds on to the classes answered, best first, or to `unknown`."""
        held = np.flatnonzero(answers[:-1])
        order = held[np.argsort(-averages[held], kind="stable")]
        unknown = bool(answers[-1])
        return dataclasses.replace(
            prediction, scores=averages, unknown=unknown, held=None if unknown else tuple(int(i) for i in order)
        )

    def deviation(self, prediction: Prediction, truth: Truth | None) -> None:
        """Returns None: there are no numbers."""


def require_known(names: Iterable[str], classes: Sequence[str], where: str) -> None:
    """Checks that every label is a class of the model.

    Raises:
        DataError: Names the labels that are not, and the model's classes.
    """
    unknown = sorted(set(names) - set(classes))
    if unknown:
        shown = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
        raise DataError(
            f"{where}: the model has no class {', '.join(map(repr, unknown[:10]))}; its classes are: {shown}"
        )


def is_none_of_these(text: str, classes: Sequence[str], where: str) -> bool:
    """Returns whether a label says that an image shows no class of the model.

    Raises:
        DataError: If the model has a class of this name, so that either may be meant.
    """
    if text == NONE_OF_THESE and text in classes:
        raise DataError(
            f"{where}: the model calls a class {text!r}, which as a label says that there is none; rename the class "
            "and export the model again"
        )
    return text == NONE_OF_THESE


def right_answer(truth: str) -> str:
    """Returns what a model should answer that knows one class an image: `UNKNOWN` to an image of none of them."""
    return UNKNOWN if truth == NONE_OF_THESE else truth


def class_reports(names: Sequence[str], rows: Sequence[metrics.ClassScores]) -> tuple[ClassReport, ...]:
    """Returns the rows of the per-class table; rows beyond the last name are left out."""
    return tuple(ClassReport(name, **dataclasses.asdict(row)) for name, row in zip(names, rows, strict=False))


def macro_f1(classes: Sequence[ClassReport], answers: metrics.Counts) -> float:
    """Returns the mean F1 of the classes that occur or were answered so many times; 0 where there are none."""
    values = [row.f1 for row, count in zip(classes, answers, strict=False) if row.support or count]
    return float(np.mean(values)) if values else 0.0


def share(hits: Sequence[bool]) -> float | None:
    """Returns the share of the hits, in [0, 1]; None of nothing."""
    return sum(hits) / len(hits) if hits else None


def quality(figures: dict[str, float | None]) -> list[str]:
    """Returns shares as one line for a terminal; those that are None are left out."""
    text = ", ".join(f"{name} {value:.2%}" for name, value in figures.items() if value is not None)
    return [f"quality    {text}"] if text else []

"""Numbers: the logits are the answer, each in its unit."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception import metrics
from cnn_perception.errors import DataError
from cnn_perception.intervals import Sampling
from cnn_perception.label_text import SEPARATOR, UNLABELLED, Truth, text_of
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.rules import AnswerRow, Figure, Flags, FrameCounts, Gate, MessageKind, Numbers, TimelineKind


@dataclass(frozen=True)
class NumberReport:
    """One number of a regression.

    Attributes:
        name: Of the number.
        unit: In which the errors are; may be empty.
        mae: Mean absolute error.
        rmse: Root of the mean squared error.
        r2: See `metrics.r2`.
        mae_of_mean: Mean absolute error of always answering the mean of these truths, which has to be beaten.
        mae_interval: 95 % interval of `mae`, by bootstrap over the frames, of a recording over blocks of time; None of
            a single one.
    """

    name: str
    unit: str
    mae: float
    rmse: float
    r2: float
    mae_of_mean: float
    mae_interval: tuple[float, float] | None = None

    @property
    def mae_text(self) -> str:
        """The mean absolute error with its interval."""
        if self.mae_interval is None:
            return f"{self.mae:.4g}"
        return f"{self.mae:.4g} (95 %: {self.mae_interval[0]:.4g} to {self.mae_interval[1]:.4g})"


@dataclass(frozen=True)
class RegressionScores:
    """The errors of each number, in the model's order; empty where nothing was scored."""

    frames: FrameCounts
    numbers: tuple[NumberReport, ...]

    def reaches(self, limit: float) -> bool:
        """Whether the mean absolute error of every number is at most the limit, and no frame was lost."""
        if not self.numbers or self.frames.lost:
            return False
        return all(number.mae <= limit for number in self.numbers)

    def summary(self) -> list[str]:
        """Returns a line for each number."""
        return [
            f"{number.name}: MAE {number.mae_text} {number.unit} (of the mean: {number.mae_of_mean:.4g}), "
            f"RMSE {number.rmse:.4g}, R2 {number.r2:.3f}"
            for number in self.numbers
        ]

    def figures(self, spec: ModelSpec, threshold: float) -> list[Figure]:
        """Returns the mean absolute error of each number."""
        names = (f"MAE of {number.name}" + (f", {number.unit}" if number.unit else "") for number in self.numbers)
        return [
            Figure(name, number.mae, is_share=False, interval=number.mae_interval)
            for name, number in zip(names, self.numbers, strict=True)
        ]


class Regression:
    """Numbers in their units."""

    name: str = "regression"
    has_classes: bool = False
    is_exclusive: bool = False
    topic: str = "regression"
    message: MessageKind = "numbers"
    gates: tuple[Gate, ...] = (Gate("max_mae", "MAE", is_least=False),)
    timeline: TimelineKind = "series"
    order_of_worst: str = "the largest error of a number first; at most a few of the same second"

    def read(self, logits: FloatArray, temperature: float) -> FloatArray:
        """Returns the logits themselves."""
        return logits

    def model_values(self, spec: ModelSpec) -> dict[str, str]:
        """Returns the numbers with their units."""
        numbers = zip(spec.class_names, spec.units, strict=True)
        return {"numbers": ", ".join(f"{name} ({unit})" if unit else name for name, unit in numbers)}

    def text(self, prediction: Prediction) -> str:
        """Returns the numbers."""
        return text_of(tuple(prediction.values.tolist()))

    def scored_text(self, prediction: Prediction, most: int) -> str:
        """Returns the numbers with names and units; they have no scores."""
        return ", ".join(f"{row.name} {row.figure}" for row in self.rows(prediction, most))

    def rows(self, prediction: Prediction, top_k: int, threshold: float = 0.0) -> list[AnswerRow]:
        """Returns all numbers."""
        numbers = zip(prediction.class_names, prediction.values, prediction.units, strict=True)
        return [AnswerRow(name, figure=f"{value:.3g} {unit}".rstrip()) for name, value, unit in numbers]

    def margin(self, prediction: Prediction) -> float:
        """Returns 1: there is no other answer to be close to."""
        return 1.0

    def disagreements(self, ours: Prediction, theirs: Prediction, common: Sequence[str]) -> list[tuple[str, str]]:
        """Returns nothing: numbers are never equal."""
        return []

    def differences(self, ours: Prediction, theirs: Prediction, common: Sequence[str]) -> dict[str, float]:
        """Returns the absolute difference of each common number."""
        our_values = dict(zip(ours.class_names, ours.values.tolist(), strict=True))
        their_values = dict(zip(theirs.class_names, theirs.values.tolist(), strict=True))
        return {name: abs(our_values[name] - their_values[name]) for name in common}

    def averaged(self, prediction: Prediction) -> FloatArray:
        """Returns the numbers."""
        return prediction.values

    def answered(self, prediction: Prediction) -> Flags:
        """Returns nothing: there are no classes."""
        return np.zeros(len(prediction.class_names), np.bool_)

    def wanted(self, averages: Numbers, unknown: float, answers: Flags, thresholds: FloatArray, band: float) -> Flags:
        """Returns what is given: numbers are not held."""
        return answers

    def held(self, prediction: Prediction, averages: FloatArray, answers: Flags) -> Prediction:
        """Returns the prediction with the averaged numbers."""
        return dataclasses.replace(prediction, values=averages)

    def entropy(self, prediction: Prediction) -> float:
        """Returns 0: there are no scores."""
        return 0.0

    def usual_columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns a column for each number."""
        return tuple(names)

    def label_columns(self, header: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
        """Returns a column for each number."""
        return tuple(names)

    def truth_of_text(self, text: str, names: Sequence[str], where: str) -> tuple[float, ...] | None:
        """Returns the numbers of a text, `SEPARATOR` between them; nothing is known where it is empty or `UNLABELLED`.

        Raises:
            DataError: If there are more or less than the model has, or one is no finite number.
        """
        if text in ("", UNLABELLED):
            return None
        try:
            values = tuple(float(number) for number in text.split(SEPARATOR))
        except ValueError:
            values = ()
        if len(values) != len(names) or not all(map(math.isfinite, values)):
            raise DataError(f"{where}: {text!r} is not the {len(names)} numbers {SEPARATOR.join(names)}; mend it")
        return values

    def truth_of_numbers(self, columns: Sequence[str], values: Sequence[float]) -> tuple[float, ...]:
        """Returns the numbers."""
        return tuple(values)

    def kept(self, prediction: Prediction, truth: Truth | None) -> Prediction:
        """Returns it without embedding."""
        return dataclasses.replace(prediction, embedding=np.empty(0, np.float32))

    def is_right(self, prediction: Prediction, truth: Truth) -> None:
        """Returns None: numbers are near or far, never right."""

    def deviation(self, prediction: Prediction, truth: Truth | None) -> float | None:
        """Returns the largest absolute error; None without a truth."""
        return None if truth is None else float(np.abs(prediction.values - np.array(truth)).max())

    def badness(self, prediction: Prediction, truth: Truth | None) -> float:
        """Orders by the largest absolute error; 0 without a truth."""
        return self.deviation(prediction, truth) or 0.0

    def score(
        self,
        frames: FrameCounts,
        scored: Sequence[tuple[Truth, Prediction]],
        spec: ModelSpec,
        threshold: float,
        sampling: Sampling | None = None,
    ) -> RegressionScores:
        """Returns the errors of each number."""
        if not scored:
            return RegressionScores(frames, ())
        truth = np.array([known for known, _ in scored], np.float64)
        predicted = np.array([one.values for _, one in scored], np.float64)
        mean = np.broadcast_to(truth.mean(axis=0), truth.shape)
        errors = zip(
            metrics.mae(truth, predicted),
            metrics.rmse(truth, predicted),
            metrics.r2(truth, predicted),
            metrics.mae(truth, mean),
            strict=True,
        )
        numbers = []
        for k, (name, unit, row) in enumerate(zip(spec.class_names, spec.units, errors, strict=True)):
            mae, rmse, r2, mae_of_mean = map(float, row)
            interval = metrics.mae_interval(truth[:, k], predicted[:, k], sampling)
            numbers.append(NumberReport(name, unit, mae, rmse, r2, mae_of_mean, interval))
        return RegressionScores(frames, tuple(numbers))

    def columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns two columns for each number, of what is known and what is answered."""
        pairs = ((f"true {name}", f"predicted {name}") for name in names)
        return tuple(itertools.chain.from_iterable(pairs))

    def cells(self, prediction: Prediction | None, truth: Truth | None, names: Sequence[str]) -> list[str]:
        """Returns each number, known and answered."""
        true = [f"{value:.6g}" for value in truth] if isinstance(truth, tuple) else [""] * len(names)
        found = [""] * len(names) if prediction is None else [f"{value:.6g}" for value in prediction.values]
        return list(itertools.chain.from_iterable(zip(true, found, strict=True)))

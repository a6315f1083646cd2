"""Numbers with units, which the network gives standardised by the training images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cnn_perception import metrics
from cnn_perception.errors import ConfigError, DataError
from cnn_perception.label_table import Row
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import Task
from training.tasks.probabilities import Doubles
from training.tasks.scaling import in_units
from training.tasks.table import RESERVED, LabelledTable, TableLabels
from training.tasks.task import Flags, JudgedAnswer, Labelled, LearningTask, Meaning, Thresholds, Truth

_LARGEST = 1e30
"""Of numbers to learn; their squares still have to fit into 64 bits, and they themselves into 32."""
_ROUNDING = 0.05
"""Largest error of rounding an answer to 32 bits, in standard deviations."""


class Regression(LearningTask):
    """See `task.LearningTask`."""

    name: Task = "regression"
    metric = "r2"
    metric_title = "R2"
    outputs = "numbers"
    decisions = "numbers"
    agreement = "all numbers within the tolerance"
    one_class = False
    has_probabilities = False
    needs_linear_layer = True
    least_squares = True
    allows_cutmix = False
    copies_agree = False  # two commands at one sight are noise, not a mistake
    default_augment = "color"  # a mirrored or shifted picture may mean another steering angle

    def recognises(self, table: LabelledTable) -> bool:
        """Returns whether the user names columns of numbers."""
        return bool(table.targets)

    def labels(self, table: LabelledTable) -> TableLabels:
        """Reads the columns of `--targets`."""
        names, units = _names_and_units(table.targets)
        if missing := [name for name in names if name not in table.header]:
            raise ConfigError(f"--targets: {table.file} has no column {missing[0]!r}; it has {', '.join(table.header)}")
        return TableLabels(names, units, lambda row: (0, tuple(_number(row, name) for name in names)))

    def words(self, shown: Labelled, names: Sequence[str]) -> str:
        """Returns each number with its name."""
        return ", ".join(f"{name} {value:g}" for name, value in zip(names, shown.values, strict=True))

    def strata(self, samples: Sequence[Labelled], classes: int) -> npt.NDArray[np.int64]:
        """Returns one column of all images."""
        return np.ones((len(samples), 1), np.int64)

    def scaling(self, train: Sequence[Labelled]) -> tuple[tuple[float, float], ...]:
        """Returns mean and standard deviation of each number; 1 for one that never changes.

        Raises:
            DataError: If the network's numbers of 32 bits cannot tell those of one column apart.
        """
        values = np.array([sample.values for sample in train], np.float64)
        means = values.mean(axis=0)
        changes = np.ptp(values, axis=0) > 0
        deviations = np.where(changes, values.std(axis=0), 1.0)
        _require_told_apart(means[changes], deviations[changes])
        return tuple(zip(means.tolist(), deviations.tolist(), strict=True))

    def oddities(self, train: Sequence[Labelled], names: Sequence[str]) -> list[str]:
        """Says which numbers never change."""
        columns = zip(*(sample.values for sample in train), strict=True)
        constant = {name: values[0] for name, values in zip(names, columns, strict=True) if len(set(values)) == 1}
        return [f"{name!r} is {value:g} in every training image" for name, value in constant.items()]

    def class_shares(
        self,
        rows: npt.NDArray[np.floating[Any]],
        classes: int,
    ) -> tuple[float, ...]:
        """Returns nothing."""
        return ()

    def groups(self, row: Sequence[float]) -> list[int]:
        """Returns the one group of all images."""
        return [0]

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
        """Returns the mean of Huber's loss over the numbers.

        Beyond one standard deviation it is linear, so that a few wild labels do not lead.
        """
        return torch.mean(functional.smooth_l1_loss(outputs, targets, reduction="none"))

    def held_out_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean absolute error, standardised."""
        return (outputs - targets).abs().mean()

    def hits(self, outputs: Tensor, targets: Tensor) -> float:
        """Returns the sum of the shares of R2: the training images' own mean and variance are 0 and 1."""
        return float((1 - (outputs.detach() - targets).square().mean(dim=1)).sum())

    def score(self, outputs: FloatArray, truth: Truth) -> float:
        """Returns the share of the variance that is explained, a mean over the numbers; their units do not weigh."""
        return float(metrics.r2(truth, outputs).mean())

    def summary(self, outputs: FloatArray, truth: Truth, meaning: Meaning) -> dict[str, float]:
        """Returns mean absolute and root mean square error in the numbers' units, means over the numbers."""
        right = in_units(truth, meaning.scaling)
        found = in_units(outputs, meaning.scaling)
        return {"mae": float(metrics.mae(right, found).mean()), "rmse": float(metrics.rmse(right, found).mean())}

    def report(self, outputs: FloatArray, truth: Truth, meaning: Meaning, thresholds: Thresholds) -> dict[str, Any]:
        """Returns the errors of each number in its unit, beside those of the training images' mean."""
        right = in_units(truth, meaning.scaling)
        found = in_units(outputs, meaning.scaling)
        constant = np.broadcast_to([mean for mean, _ in meaning.scaling], right.shape)
        columns = {
            "mae": metrics.mae(right, found),
            "rmse": metrics.rmse(right, found),
            "r2": metrics.r2(right, found),
            "mae_of_training_mean": metrics.mae(right, constant),
        }
        rows = {}
        for k, name in enumerate(meaning.class_names):
            rows[name] = {key: float(values[k]) for key, values in columns.items()} | {"unit": meaning.units[k]}
        return {
            "mae": float(columns["mae"].mean()),
            "rmse": float(columns["rmse"].mean()),
            "per_number": rows,
        }

    def image_losses(self, scores: Doubles, truth: Truth) -> Doubles:
        """Returns the mean absolute error of each, standardised."""
        return np.asarray(np.abs(scores - truth).mean(axis=1))

    def label_text(self, shown: Labelled, meaning: Meaning) -> str:
        """Returns each number with its name and its unit."""
        return _in_words(shown.values, meaning)

    def verdict(self, scores: Doubles, shown: Labelled, meaning: Meaning, thresholds: Doubles) -> JudgedAnswer:
        """Returns the numbers; how near is right cannot be said."""
        return JudgedAnswer("", _in_words(scores.tolist(), meaning), f"is {self.label_text(shown, meaning)}")

    def probabilities(self, outputs: FloatArray, temperature: float) -> Doubles:
        """Returns the numbers."""
        return outputs.astype(np.float64)

    def logits(self, probabilities: Doubles) -> Doubles:
        """Returns the numbers."""
        return probabilities

    def agrees(self, outputs: Doubles, others: Doubles, is_near: Flags, thresholds: Thresholds) -> Flags:
        """Returns whether all numbers are near."""
        return np.asarray(is_near.all(axis=1))


def _names_and_units(targets: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    pairs = [target.partition(":") for target in targets]
    names = tuple(name.strip() for name, _, _ in pairs)
    units = tuple(unit.strip() for _, _, unit in pairs)
    if not names:
        raise ConfigError("--task regression: needs --targets, the columns to learn, such as angle:rad,throttle")
    if not all(names) or len(set(names)) < len(names) or set(names) & set(RESERVED):
        raise ConfigError(f"--targets: {','.join(targets)} has an empty, reserved or repeated name; mend it")
    return names, units


def _in_words(standardised: Sequence[float], meaning: Meaning) -> str:
    (numbers,) = in_units(np.array([standardised]), meaning.scaling)
    rows = zip(meaning.class_names, numbers, meaning.units, strict=True)
    return ", ".join(f"{name} {number:.3g} {unit}".rstrip() for name, number, unit in rows)


def _require_told_apart(means: Doubles, deviations: Doubles) -> None:
    for mean, deviation in zip(means.tolist(), deviations.tolist(), strict=True):
        if abs(mean) * np.finfo(np.float32).eps > _ROUNDING * deviation:
            raise DataError(
                f"--targets: the numbers of one column are {mean:g} and differ by {deviation:g} only, which numbers of "
                "32 bits cannot tell apart; subtract what they have in common"
            )


def _number(row: Row, name: str) -> float:
    try:
        value = float(row.cells[name])
    except ValueError:
        if row.cells[name] == NONE_OF_THESE:
            raise row.wrong(name, f"{NONE_OF_THESE!r} is said of classes, not of numbers; skip the row") from None
        cure = "write its decimals behind a point" if "," in row.cells[name] else "mend it or remove the row"
        raise row.wrong(name, f"{row.cells[name]!r} is not a number; {cure}") from None
    if not math.isfinite(value):
        raise row.wrong(name, f"{row.cells[name]!r} is not finite; mend it or remove the row")
    if value and not 1 / _LARGEST <= abs(value) <= _LARGEST:
        raise row.wrong(name, f"{row.cells[name]!r} is out of the range of 32 bits; give it in another unit")
    return value

"""Exactly one of several classes an image."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional

from cnn_perception import metrics
from cnn_perception.intervals import wilson
from cnn_perception.label_table import Row
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import Task
from training.tasks.probabilities import Doubles, log, softmax
from training.tasks.table import LabelledTable, TableLabels
from training.tasks.task import Flags, JudgedAnswer, Labelled, LearningTask, Meaning, Thresholds, Truth

IMBALANCE = 10
"""How many times more images the largest class may have than the smallest before it is said."""


class Multiclass(LearningTask):
    """See `task.LearningTask`."""

    name: Task = "multiclass"
    metric = "top1"
    metric_title = "top-1 accuracy"
    outputs = "classes"
    decisions = "classes"
    agreement = "top-1 equal"
    one_class = True

    def recognises(self, table: LabelledTable) -> bool:
        """Returns whether there is the column `class`."""
        return "class" in table.header

    def labels(self, table: LabelledTable) -> TableLabels:
        """Reads the column `class`."""
        table.require_no_targets(self.name)
        if "class" not in table.header:
            raise table.without("'class'", self.name)
        names = tuple(sorted({_class_of(row) for row in table.rows}))
        index = {name: label for label, name in enumerate(names)}
        return TableLabels(names, (), lambda row: (index[_class_of(row)], ()))

    def words(self, shown: Labelled, names: Sequence[str]) -> str:
        """Returns the name of the class."""
        return names[shown.label]

    def columns(self, names: Sequence[str]) -> list[str]:
        """Returns `class`."""
        return ["class"]

    def cells(self, shown: Labelled, names: Sequence[str]) -> list[str]:
        """Returns the name of the class."""
        return [names[shown.label]]

    def content(self, shown: Labelled, names: Sequence[str]) -> str:
        """Returns the name of the class."""
        return names[shown.label]

    def strata(self, samples: Sequence[Labelled], classes: int) -> npt.NDArray[np.int64]:
        """Returns a column a class."""
        return np.eye(classes, dtype=np.int64)[[sample.label for sample in samples]]

    def oddities(self, train: Sequence[Labelled], names: Sequence[str]) -> list[str]:
        """Says if there are many more images of one class than of another."""
        counts = Counter(sample.label for sample in train).most_common()
        most, large = counts[0]
        least, small = counts[-1]
        if large < IMBALANCE * small:
            return []
        what = f"{small} training images of class {names[least]!r}, {large} of class {names[most]!r}"
        return [f"classes are unbalanced, 1:{large / small:.0f} ({what}); --balance weights or sampler helps"]

    def targets(self, samples: Sequence[Labelled]) -> Truth:
        """Returns the classes, (n,) int64."""
        return np.array([sample.label for sample in samples], np.int64)

    def stored_targets(self, rows: npt.NDArray[np.float32]) -> Truth:
        """Returns the classes, (n,) int64, of the one column."""
        return rows[:, 0].astype(np.int64)

    def class_shares(self, rows: npt.NDArray[np.floating[Any]], classes: int) -> tuple[float, ...]:
        """Returns shares that add up to 1."""
        counts = np.bincount(rows[:, 0].astype(np.int64), minlength=classes)
        return tuple((counts / len(rows)).tolist())

    def class_counts(self, samples: Sequence[Labelled], classes: int) -> list[int]:
        """Returns counts that add up to the number of images."""
        return [int(count) for count in np.bincount([sample.label for sample in samples], minlength=classes)]

    def groups(self, row: Sequence[float]) -> list[int]:
        """Returns the class; one group where the checkpoint does not keep it."""
        return [int(row[0])] if row else [0]

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
        """Returns the cross-entropy in nats."""
        if weights is None or targets.ndim == 1:
            return functional.cross_entropy(outputs, targets, weight=weights, label_smoothing=smoothing)
        # of shares of several classes torch divides the weighted sum by the number of images, not by their weights
        total = functional.cross_entropy(outputs, targets, weight=weights, label_smoothing=smoothing, reduction="sum")
        return total / image_weights(targets, weights).sum()

    def squared_error(
        self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
    ) -> Tensor:
        """Returns that of the sigmoids to the shares of the classes."""
        classes = outputs.shape[1]
        shares = functional.one_hot(targets, classes) if targets.ndim == 1 else targets
        shares = shares * (1 - smoothing) + smoothing / classes
        each = (outputs.sigmoid() - shares).square().sum(dim=1) / 2
        if weights is None:
            return each.mean()
        weight = image_weights(targets, weights)
        return (each * weight).sum() / weight.sum()

    def imitation(self, outputs: Tensor, teachers: Tensor, temperature: float) -> Tensor:
        """Returns the divergence of the scores at a temperature.

        Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, section 2: soft targets at a
            temperature T; times T^2, so that the gradients keep their size when T changes.
        """
        own = functional.log_softmax(outputs.float() / temperature, dim=1)
        taught = self.together(teachers.float() / temperature)
        return functional.kl_div(own, taught, reduction="batchmean", log_target=True) * temperature**2

    def answered(self, outputs: FloatArray, thresholds: Thresholds) -> list[tuple[int, tuple[float, ...]]]:
        """Returns the class with the highest output."""
        return [(int(label), ()) for label in outputs.argmax(axis=1)]

    def together(self, members: Tensor) -> Tensor:
        """Returns the logarithm of the mean score, which is its own softmax.

        Source: Lakshminarayanan, Pritzel, Blundell 2017, Simple and Scalable Predictive Uncertainty Estimation using
            Deep Ensembles, section 2.4.
        """
        return functional.log_softmax(members, dim=2).logsumexp(dim=0) - math.log(len(members))

    def shares(self, members: Tensor) -> Tensor:
        """Returns each network's part of the sum of the scores."""
        return functional.log_softmax(members, dim=2).softmax(dim=0)

    def hits(self, outputs: Tensor, targets: Tensor) -> float:
        """Returns how many images have the right class highest; of several shares the largest is their class."""
        classes = targets if targets.ndim == 1 else targets.argmax(dim=1)
        return float((outputs.argmax(dim=1) == classes).sum())

    def score(self, outputs: FloatArray, truth: Truth) -> float:
        """Returns the top-1 accuracy, in [0, 1]."""
        return metrics.top_k_accuracy(outputs, truth, 1)

    def summary(self, outputs: FloatArray, truth: Truth, meaning: Meaning) -> dict[str, float]:
        """Returns the top-5 accuracy, in [0, 1]."""
        return {"top5": metrics.top_k_accuracy(outputs, truth, 5)}

    def report(self, outputs: FloatArray, truth: Truth, meaning: Meaning, thresholds: Thresholds) -> dict[str, Any]:
        """Returns what follows from the confusion matrix, and that."""
        counts = confusion(outputs, truth)
        each = map(dataclasses.asdict, metrics.per_class(counts))
        return {
            "top5": metrics.top_k_accuracy(outputs, truth, 5),
            "balanced_accuracy": metrics.balanced_accuracy(counts),
            "macro_f1": metrics.macro_f1(counts),
            "per_class": dict(zip(meaning.class_names, each, strict=True)),
            "confusion": counts.tolist(),
        }

    def intervals(
        self, outputs: FloatArray, truth: Truth, meaning: Meaning, thresholds: Thresholds
    ) -> dict[str, tuple[float, float]]:
        """Returns those of all shares."""
        count = len(truth)
        shares = {"top1": self.score(outputs, truth), "top5": metrics.top_k_accuracy(outputs, truth, 5)}
        found = {name: wilson(round(share * count), count) for name, share in shares.items()}
        means = metrics.mean_intervals(truth, outputs.argmax(axis=1), outputs.shape[1])
        return {name: (one.low, one.high) for name, one in found.items()} | means

    def image_losses(self, scores: Doubles, truth: Truth) -> Doubles:
        """Returns the cross-entropy of each in nats."""
        return -log(scores[np.arange(len(truth)), truth])

    def label_text(self, shown: Labelled, meaning: Meaning) -> str:
        """Returns the name of the class."""
        return meaning.class_names[shown.label]

    def verdict(self, scores: Doubles, shown: Labelled, meaning: Meaning, thresholds: Doubles) -> JudgedAnswer:
        """Returns the class with the highest score."""
        top = int(scores.argmax())
        text = f"{meaning.class_names[top]} {scores[top]:.1%}"
        if top == shown.label:
            return JudgedAnswer("right", text, "right")
        return JudgedAnswer("wrong", text, f"is {self.label_text(shown, meaning)}")

    def probabilities(self, outputs: FloatArray, temperature: float) -> Doubles:
        """Returns a softmax."""
        return softmax(outputs.astype(np.float64) / temperature)

    def logits(self, probabilities: Doubles) -> Doubles:
        """Returns the logarithms."""
        return log(probabilities)

    def agrees(self, outputs: Doubles, others: Doubles, is_near: Flags, thresholds: Thresholds) -> Flags:
        """Returns whether the same class is highest."""
        return np.asarray(outputs.argmax(1) == others.argmax(1))


def image_weights(targets: Tensor, weights: Tensor) -> Tensor:
    """Returns what each image weighs, (N,), by the weights (K,) of the classes: of shares, (N, K), their mean."""
    return weights[targets] if targets.ndim == 1 else (targets * weights).sum(dim=1)


def confusion(outputs: FloatArray, truth: Truth) -> metrics.Counts:
    """Returns how often images of each class, a row, were taken for each class, a column: (K, K) int64."""
    return metrics.confusion_matrix(truth, outputs.argmax(axis=1), outputs.shape[1])


def _class_of(row: Row) -> str:
    if not row.cells["class"]:
        raise row.wrong("class", "is empty; name the class or remove the row")
    return row.cells["class"]

"""How good a network is on labelled images: the scores that follow from its logits and what the images show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader

from cnn_perception import metrics
from training import tasks
from training.batches.loader import Batch
from training.scoring.predict import predict, together
from training.tasks import Meaning


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Logits of a network on the images that could be read, and the scores that follow from what these show.

    Attributes:
        logits: (n, K) float32; for regression standardised numbers.
        truth: For multiclass the classes (n,) int64, otherwise the values (n, K) float32 of `dataset.Sample`.
        meaning: Names, units and scaling of the outputs.
    """

    logits: npt.NDArray[np.float32]
    truth: npt.NDArray[Any]
    meaning: Meaning

    @property
    def loss(self) -> float:
        """Mean of `tasks.loss`; for multiclass the cross-entropy in nats."""
        logits, truth = torch.from_numpy(self.logits).double(), torch.from_numpy(self.truth)
        multiclass = self.meaning.task == "multiclass"
        return float(tasks.loss(logits, truth if multiclass else truth.double(), self.meaning.task))

    @property
    def confusion(self) -> metrics.Counts:
        """(K, K) int64 of a multiclass network; rows are the truth."""
        return metrics.confusion_matrix(self.truth, self.logits.argmax(axis=1), self.logits.shape[1])

    @property
    def metric(self) -> float:
        """The figure by which epochs are compared, higher is better; see `tasks.METRIC`."""
        if self.meaning.task == "multiclass":
            return metrics.top_k_accuracy(self.logits, self.truth, 1)
        if self.meaning.task == "multilabel":
            return metrics.mean_average_precision(self.logits, self.truth > 0.5)
        return float(metrics.r2(self.truth, self.logits).mean())

    def summary(self) -> dict[str, float]:
        """Returns the scores that a checkpoint keeps.

        Multiclass: `val_top1` and `val_top5` in [0, 1]; multilabel: `val_map`, and `val_f1`, the mean over the classes
        with thresholds of 0.5; regression: `val_mae` and `val_rmse`, means over the numbers in their units, and
        `val_r2`. All: `val_loss`.
        """
        name = f"val_{tasks.METRIC[self.meaning.task]}"
        if self.meaning.task == "multiclass":
            others = {"val_top5": metrics.top_k_accuracy(self.logits, self.truth, 5)}
        elif self.meaning.task == "multilabel":
            others = {"val_f1": float(np.mean([scores.f1 for scores in self._per_label(())]))}
        else:
            mae, rmse = (measure(*self.numbers()).mean() for measure in (metrics.mae, metrics.rmse))
            others = {"val_mae": float(mae), "val_rmse": float(rmse)}
        return {name: self.metric, **others, "val_loss": self.loss}

    def report(self, thresholds: Sequence[float] = ()) -> dict[str, Any]:
        """Returns all scores of one part of the data, as report.json keeps them.

        Args:
            thresholds: Score from which each class of a multilabel network counts as seen; 0.5 by default.
        """
        common = {"images": len(self.truth), tasks.METRIC[self.meaning.task]: self.metric, "loss": self.loss}
        if self.meaning.task == "multiclass":
            return common | self._of_classes()
        if self.meaning.task == "multilabel":
            return common | self._of_labels(thresholds)
        return common | self._of_numbers()

    def _of_classes(self) -> dict[str, Any]:
        confusion = self.confusion
        return {
            "top5": metrics.top_k_accuracy(self.logits, self.truth, 5),
            "balanced_accuracy": metrics.balanced_accuracy(confusion),
            "macro_f1": metrics.macro_f1(confusion),
            "per_class": self._named(dataclasses.asdict(scores) for scores in metrics.per_class(confusion)),
            "confusion": confusion.tolist(),
        }

    def _of_labels(self, thresholds: Sequence[float]) -> dict[str, Any]:
        scores, truth = self._per_label(thresholds), self.truth > 0.5
        precisions = [metrics.average_precision(self.logits[:, k], truth[:, k]) for k in range(truth.shape[1])]
        rows = zip(precisions, scores, thresholds or [0.5] * len(scores), strict=True)
        return {
            "macro_f1": float(np.mean([score.f1 for score in scores])),
            "per_class": self._named(
                {"average_precision": precision, **dataclasses.asdict(score), "threshold": threshold}
                for precision, score, threshold in rows
            ),
        }

    def _per_label(self, thresholds: Sequence[float]) -> list[metrics.ClassScores]:
        """Precision, recall and F1 of each class, seen against not seen."""
        scores = torch.from_numpy(self.logits).double().sigmoid().numpy()
        seen, truth = (values.astype(np.int64) for values in (scores >= (thresholds or 0.5), self.truth > 0.5))
        tables = (metrics.confusion_matrix(truth[:, k], seen[:, k], 2) for k in range(truth.shape[1]))
        return [metrics.per_class(table)[1] for table in tables]

    def _of_numbers(self) -> dict[str, Any]:
        truth, found = self.numbers()
        # standardised by the training images, their mean is 0
        mean = np.broadcast_to([mean for mean, _ in self.meaning.scaling], truth.shape)
        columns = {
            "mae": metrics.mae(truth, found),
            "rmse": metrics.rmse(truth, found),
            "r2": metrics.r2(truth, found),
            "mae_of_training_mean": metrics.mae(truth, mean),
        }
        rows = [{name: float(values[k]) for name, values in columns.items()} for k in range(truth.shape[1])]
        units = self.meaning.units
        return {
            "mae": float(columns["mae"].mean()),
            "rmse": float(columns["rmse"].mean()),
            "per_number": self._named({**row, "unit": unit} for row, unit in zip(rows, units, strict=True)),
        }

    def numbers(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Returns truth and answers (n, K) of a network that gives numbers, in their units."""
        mean, deviation = np.array(self.meaning.scaling).T
        return self.truth * deviation + mean, self.logits * deviation + mean

    def _named(self, rows: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401
        return dict(zip(self.meaning.class_names, rows, strict=True))


def evaluate(
    model: nn.Module,
    loader: DataLoader[Batch],
    meaning: Meaning,
    device: torch.device,
    title: str,
    after_batch: Callable[[], None] | None = None,
) -> Evaluation:
    """Returns the logits of a network on labelled images, with the scores that follow.

    Args:
        model: The network.
        loader: The images.
        meaning: The data set or the checkpoint that says what the outputs mean.
        device: Where the network is.
        title: What the progress bar says.
        after_batch: Called after each batch; what it raises ends the evaluation.

    Raises:
        DataError: If none of the images can be read.
    """
    found = together(predict(model, loader, device, title, after_batch=after_batch), title)
    return Evaluation(found.outputs.numpy(), found.labels.numpy(), meaning)

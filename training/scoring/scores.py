"""How good a network is on labelled images: the scores that follow from its logits and what the images show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader

from cnn_perception import metrics
from cnn_perception.intervals import Estimate
from cnn_perception.model.outputs import FloatArray
from training.batches.loader import Batch
from training.scoring.predict import predict, together
from training.tasks.by_name import task_of
from training.tasks.task import LearningTask, Meaning, Truth


@dataclass(frozen=True, eq=False)
class ScoredLogits:
    """Logits of a network on the images that could be read, and the scores that follow from what these show.

    Attributes:
        logits: (n, K) float32; for regression standardised numbers.
        truth: What the images show, see `tasks.task.LearningTask.targets`.
        meaning: Names, units and scaling of the outputs.
    """

    logits: FloatArray
    truth: Truth
    meaning: Meaning

    @property
    def task(self) -> LearningTask:
        """What the logits mean."""
        return task_of(self.meaning.task)

    @property
    def loss(self) -> float:
        """Mean of the task's loss, in float64."""
        return mean_loss(self.task, self.logits, self.truth)

    @property
    def metric(self) -> float:
        """The figure by which epochs are compared, higher is better."""
        return self.task.score(self.logits, self.truth)

    def summary(self) -> dict[str, float]:
        """Returns the scores that a checkpoint keeps, each as `val_` and its name: the metric, others, the loss."""
        others = self.task.summary(self.logits, self.truth, self.meaning)
        scores = {self.task.metric: self.metric, **others, "loss": self.loss}
        return {f"val_{name}": value for name, value in scores.items()}

    def report(self, thresholds: Sequence[float] = ()) -> dict[str, Any]:
        """Returns all scores of one part of the data, as report.json keeps them.

        Args:
            thresholds: Score from which each class is taken to be shown, where an image has several; 0.5 by default.
        """
        common = {"images": len(self.truth), self.task.metric: self.metric, "loss": self.loss}
        scores = common | self.task.report(self.logits, self.truth, self.meaning, thresholds)
        intervals = self.task.intervals(self.logits, self.truth, self.meaning, thresholds)
        return scores | {"intervals": {name: list(ends) for name, ends in intervals.items()}}


def headline(
    logits: npt.NDArray[np.floating[Any]], truth: Truth, is_unknown: npt.NDArray[np.bool_] | None
) -> dict[str, Any] | None:
    """Returns `metrics.Headline` as report.json keeps it; None of no images.

    Args:
        logits: (n, K), or scores.
        truth: (n,) classes.
        is_unknown: (n,) what the unknown rule says; None without a rule.
    """
    said = is_unknown if is_unknown is not None and len(is_unknown) else np.zeros(len(truth), np.bool_)
    found = metrics.headline(logits.argmax(axis=1) == truth, said)
    return None if found is None else dataclasses.asdict(found)


def headline_in_words(figures: Mapping[str, Any]) -> str:
    """Returns what `headline` gave, in one line."""
    names = ("top1", "top1_without_rule", "coverage", "top1_answered")
    shares = {name: Estimate(**figures[name]) if figures[name] else None for name in names}
    return metrics.Headline(images=figures["images"], **shares).in_words()  # type: ignore[arg-type]


def cell(figures: Mapping[str, Any], name: str) -> str:
    """Returns a score of `ScoredLogits.report` as a table shows it, with its interval where it has one."""
    ends = figures.get("intervals", {}).get(name)
    value = f"{figures[name]:.3f}"
    return value if ends is None else f"{value} ({ends[0]:.3f}-{ends[1]:.3f})"


def mean_loss(task: LearningTask, logits: FloatArray, truth: Truth, *, squared: bool = False) -> float:
    """Returns the mean of a task's loss, computed in float64.

    Args:
        task: What the logits mean.
        logits: (n, K); for regression standardised numbers.
        truth: What the images show.
        squared: Whether it is that of `--loss squared`.
    """
    target = torch.from_numpy(truth)
    exact = target.double() if target.is_floating_point() else target
    loss = task.squared_error if squared else task.loss
    return float(loss(torch.from_numpy(logits).double(), exact))


def evaluate(
    model: nn.Module,
    loader: DataLoader[Batch],
    meaning: Meaning,
    device: torch.device,
    title: str,
    after_batch: Callable[[], None] | None = None,
) -> ScoredLogits:
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
    return ScoredLogits(found.outputs.numpy(), found.labels.numpy(), meaning)

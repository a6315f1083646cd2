"""What a network learns: one class an image, any number of classes, or numbers."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cnn_perception.model.spec import Task
from training.checkpoint import UNCALIBRATED, Calibration

METRIC: dict[Task, str] = {"multiclass": "top1", "multilabel": "map", "regression": "r2"}
"""The figure by which epochs are compared, higher is better: top-1 accuracy, mean average precision, and the share of
the variance that is explained, a mean over the numbers that their units do not weigh."""
METRIC_NAMES = {"top1": "top-1 accuracy", "map": "mean average precision", "r2": "R2"}


class Meaning(Protocol):
    """What the outputs of a network mean; a data set and a checkpoint both say it, see `checkpoint.Checkpoint`."""

    @property
    def task(self) -> Task:
        """What the logits mean."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K classes, or the names of the K numbers."""

    @property
    def units(self) -> tuple[str, ...]:
        """Of each number, for regression."""

    @property
    def scaling(self) -> tuple[tuple[float, float], ...]:
        """(mean, standard deviation) of each number over the training images, for regression."""


def uncalibrated(meaning: Meaning) -> Calibration:
    """Returns what a model has before anything was fitted: a threshold of 0.5 for each class of several."""
    several = len(meaning.class_names) if meaning.task == "multilabel" else 0
    return dataclasses.replace(UNCALIBRATED, thresholds=(0.5,) * several)


def loss(
    outputs: Tensor,
    targets: Tensor,
    task: Task,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Returns what training minimises, the mean over the images.

    Args:
        outputs: (N, K) logits; for regression standardised numbers.
        targets: multiclass: (N,) int64 classes or (N, K) float32 shares; multilabel: (N, K) float32 in [0, 1];
            regression: (N, K) float32, standardised.
        task: Cross-entropy, binary cross-entropy summed over the classes, or the mean of Huber's loss over the numbers.
        label_smoothing: Share of a label spread over all classes, in [0, 1); multiclass and multilabel.
        class_weights: (K,) float32 for multiclass; the mean is weighted by them.
    """
    if task == "multiclass":
        return functional.cross_entropy(outputs, targets, weight=class_weights, label_smoothing=label_smoothing)
    if task == "multilabel":
        smooth = targets * (1 - label_smoothing) + label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(outputs, smooth, reduction="none").sum(dim=1).mean()
    # Numbers are in standard deviations; beyond one the loss is linear, so that a few wild labels do not lead.
    return torch.mean(functional.smooth_l1_loss(outputs, targets, reduction="none"))


def hits(outputs: Tensor, targets: Tensor, task: Task) -> float:
    """Returns what, summed over all training images and divided by their number, is the `METRIC` of an epoch.

    Args:
        outputs: As for `loss`.
        targets: As for `loss`; of several shares of an image the largest is its class.
        task: NaN for multilabel, whose average precision is no sum over images.
    """
    if task == "multiclass":
        classes = targets if targets.ndim == 1 else targets.argmax(dim=1)
        return float((outputs.argmax(dim=1) == classes).sum())
    if task == "multilabel":
        return float("nan")
    # the training images' own mean and variance are 0 and 1
    return float((1 - (outputs.detach() - targets).square().mean(dim=1)).sum())


def thresholds(logits: npt.NDArray[np.floating[Any]], targets: npt.NDArray[np.floating[Any]]) -> tuple[float, ...]:
    """Returns the score from which each class of a multilabel network counts as seen, such that its F1 is highest.

    A threshold lies in the middle between the lowest score that is seen and the next below it.

    Args:
        logits: (n, K) of validation images, over the temperature where there is one.
        targets: (n, K) of 0 and 1.

    Returns:
        K thresholds in [0, 1]; 0.5 where a class does not occur among the images, or is on all of them.
    """
    scores = torch.from_numpy(logits).double().sigmoid().numpy()
    return tuple(_threshold(scores[:, k], targets[:, k] > 0.5) for k in range(scores.shape[1]))


def _threshold(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> float:
    if truth.all() or not truth.any():
        return 0.5
    ordered, counts = np.unique(scores, return_counts=True)
    positives = np.bincount(np.searchsorted(ordered, scores), truth, len(ordered))
    # of each score as the threshold: how many images are seen, and how many of them rightly
    seen, right = counts[::-1].cumsum()[::-1], positives[::-1].cumsum()[::-1]
    best = int((2 * right / (seen + truth.sum())).argmax())
    below = ordered[best - 1] if best else 0.0
    return float((ordered[best] + below) / 2)

"""What a network learns: one class an image, any number of classes, or numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cnn_perception.spec import Task


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

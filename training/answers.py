"""A network's answers on held-out images, and the scores that follow from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from cnn_perception import metrics
from training.batches import Batch


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits (n, K) float32 and true classes (n,) int64 of the images that could be read."""

    logits: npt.NDArray[np.float32]
    truth: npt.NDArray[np.int64]

    @property
    def loss(self) -> float:
        """Mean cross-entropy, nats."""
        logits = torch.from_numpy(self.logits).double()
        return float(nn.functional.cross_entropy(logits, torch.from_numpy(self.truth)))

    @property
    def confusion(self) -> metrics.Counts:
        """(K, K) int64; rows are the truth."""
        return metrics.confusion_matrix(self.truth, self.logits.argmax(axis=1), self.logits.shape[1])

    def summary(self) -> dict[str, float]:
        """Returns `val_top1`, `val_top5` in [0, 1] and `val_loss`, as a checkpoint keeps them."""
        top1, top5 = (metrics.top_k_accuracy(self.logits, self.truth, k) for k in (1, 5))
        return {"val_top1": top1, "val_top5": top5, "val_loss": self.loss}

    def report(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """Returns all scores of one part of the data, as report.json keeps them."""
        confusion = self.confusion
        scores = metrics.per_class(confusion)
        return {
            "images": len(self.truth),
            "top1": metrics.top_k_accuracy(self.logits, self.truth, 1),
            "top5": metrics.top_k_accuracy(self.logits, self.truth, 5),
            "loss": self.loss,
            "balanced_accuracy": metrics.balanced_accuracy(confusion),
            "macro_f1": metrics.macro_f1(confusion),
            "per_class": {name: dataclasses.asdict(s) for name, s in zip(class_names, scores, strict=True)},
            "confusion": confusion.tolist(),
        }


@torch.inference_mode()
def answer(
    model: nn.Module,
    loader: DataLoader[Batch],
    device: torch.device,
    title: str,
    after_batch: Callable[[], None] | None = None,
) -> Answers:
    """Runs a network in evaluation mode over a set of images, in float32.

    Args:
        model: The network.
        loader: The images.
        device: Where the network is.
        title: What the progress bar says.
        after_batch: Called after each batch; what it raises ends the evaluation.
    """
    model.eval()
    logits, truth = [], []
    for batch in tqdm(loader, title, unit="batch", leave=False):
        if len(batch.labels):
            logits.append(model(batch.images.to(device)).float().cpu().numpy())
            truth.append(batch.labels.numpy())
        if after_batch is not None:
            after_batch()
    return Answers(np.concatenate(logits), np.concatenate(truth))

"""MixUp and CutMix: two images of a batch made one, and their labels with them.

What is drawn depends on (seed, epoch, batch) alone, so a run continued within an epoch mixes as if it had never
stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import Task
from training.config import TrainConfig
from training.tasks.by_name import task_of

STREAM = 1
"""Keeps these draws apart from those of the augmentation, which are seeded by (seed, epoch, image)."""


@dataclass(frozen=True)
class Mixing:
    """Which of the two is on; with both, each batch undergoes one of them by equal chance.

    Attributes:
        mixup: Parameter of the Beta distribution of the share an image keeps, > 0; 0: off.
        cutmix: Likewise, of the share of the area.
        seed: The run's seed.
    """

    mixup: float
    cutmix: float
    seed: int

    @classmethod
    def of(cls, config: TrainConfig, task: Task) -> Mixing | None:
        """Returns the mixing of a run, None if it has none.

        Raises:
            ConfigError: If it makes no sense for what is learned.
        """
        if config.cutmix and not task_of(task).allows_cutmix:
            raise ConfigError("--cutmix: a picture of two parts has no number between theirs; take --mixup or neither")
        return cls(config.mixup, config.cutmix, config.seed) if config.mixup or config.cutmix else None


def mix(images: Tensor, targets: Tensor, classes: int, mixing: Mixing, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
    """Mixes each image of a batch with another one of it.

    Source: Zhang et al. 2018, mixup: Beyond empirical risk minimization; Yun et al. 2019, CutMix: Regularization
    strategy to train strong classifiers with localizable features, section 3.1.

    Args:
        images: (N, 3, height, width) float32.
        targets: (N,) int64 classes, -1 for none that is known, or (N, K) float32 labels of several classes or numbers.
        classes: K.
        mixing: What is drawn.
        epoch: Number of the epoch.
        batch: Number of the batch within it.

    Returns:
        Images and targets (N, K) float32, on the same device; the arguments stay as they are.
    """
    rng = np.random.default_rng((mixing.seed, epoch, batch, STREAM))
    cuts = bool(rng.random() < 0.5) if mixing.mixup and mixing.cutmix else mixing.cutmix > 0
    other = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    alpha = mixing.cutmix if cuts else mixing.mixup
    kept = float(rng.beta(alpha, alpha))
    if cuts:
        top, bottom, left, right = box(images.shape[2], images.shape[3], 1 - kept, rng.random(), rng.random())
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    else:
        mixed = images.lerp(images[other], 1 - kept)
    shares = targets
    if targets.ndim == 1:  # what nobody labelled has a share of no class, and what is mixed with it a smaller one
        shares = functional.one_hot(targets.clamp(min=0), classes).float() * (targets >= 0)[:, None]
    return mixed, shares.lerp(shares[other], 1 - kept)


def box(height: int, width: int, share: float, down: float, across: float) -> tuple[int, int, int, int]:
    """Returns top, bottom, left and right of a box of the picture's aspect ratio, cut off at the edges.

    Args:
        height: Rows of the picture.
        width: Its columns.
        share: Share of its area before the cut, in [0, 1].
        down: Place of the centre, share of the height.
        across: Place of the centre, share of the width.
    """
    rows, columns = round(height * math.sqrt(share)), round(width * math.sqrt(share))
    top, left = int(down * height) - rows // 2, int(across * width) - columns // 2
    return max(0, top), min(height, top + rows), max(0, left), min(width, left + columns)

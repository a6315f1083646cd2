"""What teachers say of images as their own training prepared them: once for all where no epoch changes an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.batches.augment import Augmentation
from training.batches.loader import Images, Order, data_loader
from training.config import TrainConfig
from training.data.records import LabelledImages, Sample
from training.distillation.teachers import Teachers, rescaled
from training.scoring.predict import predict, together
from training.tasks.scaling import Scaling

MOST_BYTES = 2**28
"""Of answers that are kept: those of a million images in 64 classes; of more each epoch asks again."""


def are_fixed(config: TrainConfig, data: LabelledImages, teachers: Teachers) -> bool:
    """Returns whether the teachers see the same images in every epoch, and their answers need little memory."""
    changing = Augmentation.of(config, data.task, data.class_names) is not None or config.mixup or config.cutmix
    size = 4 * len(teachers.saved) * len(data.lessons) * len(data.class_names)
    return not changing and size <= MOST_BYTES


def of_images(
    samples: Sequence[Sample], teachers: Teachers, scaling: Scaling, config: TrainConfig, device: torch.device
) -> Tensor:
    """Returns the outputs of each teacher, (M, n, K) float32 on the CPU; NaN of images that can no longer be read.

    Args:
        samples: The n images.
        teachers: M networks.
        scaling: By which numbers are standardised.
        config: The settings of the run, for the batches.
        device: Where the networks are.

    Raises:
        DataError: If none of the images can be read.
    """
    outputs = torch.full((len(teachers.saved), len(samples), len(teachers.saved[0].class_names)), torch.nan)
    for number, saved in enumerate(teachers.saved):
        loader = data_loader(
            Images(tuple(samples), saved.input), Order(len(samples), config.batch_size, None), 0, False
        )
        title = f"teacher {number + 1} of {len(teachers.saved)}"
        found = together(predict(teachers.network(number), loader, device, title), title)
        outputs[number, found.rows] = rescaled(found.outputs, saved, scaling)
    return outputs

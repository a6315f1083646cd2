"""A large network as the teacher of a small one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnn_perception.errors import ConfigError
from training import checkpoint
from training.config import TrainConfig
from training.config.normalisation import as_text
from training.data.records import LabelledImages
from training.networks import build
from training.tasks.by_name import task_of


def teacher(config: TrainConfig, data: LabelledImages, device: torch.device) -> nn.Module | None:
    """Reads the network that a run imitates, in evaluation mode; None if it imitates none.

    Raises:
        ConfigError: If it has another task, other classes or another input than the run.
        DataError: If its checkpoint cannot be read.
    """
    if config.teacher is None:
        return None
    path = Path(config.teacher)
    saved = checkpoint.load(path)
    for task in (data.task, saved.task):
        if not task_of(task).one_class:
            raise ConfigError(f"--teacher {path}: only one class an image can be taught, not {task}; leave it out")
    if saved.class_names != data.class_names:
        different = ", ".join(map(repr, sorted(set(saved.class_names) ^ set(data.class_names)))) or "their order"
        raise ConfigError(f"--teacher {path}: differs from {data.where} in its classes ({different}); take another")
    if saved.input != config.input:
        seen = f"{saved.input.height}x{saved.input.width}, {saved.input.resize_mode} {saved.input.crop_fraction:g}"
        seen = f"{seen}, {saved.input.interpolation}, mean {as_text(saved.input.mean)}, std {as_text(saved.input.std)}"
        raise ConfigError(
            f"--teacher {path}: sees {seen}; give this run the same --input-size, resize, --mean and --std"
        )
    model = build.restore(saved).to(device).eval().requires_grad_(False)
    return model.to(memory_format=torch.channels_last) if config.channels_last else model


def divergence(outputs: Tensor, teacher_outputs: Tensor, temperature: float) -> Tensor:
    """Returns how far a network's scores are from its teacher's, the mean over the images.

    Args:
        outputs: (N, K) logits.
        teacher_outputs: (N, K) logits of the teacher.
        temperature: T, by which both are divided; above 1 the scores of wrong classes count more.

    Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, section 2: soft targets at a
        temperature T; times T^2, so that the gradients keep their size when T changes.
    """
    log_scores = functional.log_softmax(outputs.float() / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher_outputs.float() / temperature, dim=1)
    return functional.kl_div(log_scores, log_teacher, reduction="batchmean", log_target=True) * temperature**2

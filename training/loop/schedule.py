"""What learns when, and how fast: phases, parameter groups and the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # what the public ones, of one to three dimensions, share

from training.config import TrainConfig
from training.networks.backbones import Stages

Phase = Literal["head", "last", "all"]


def phase(config: TrainConfig, epoch: int) -> Phase:
    """Returns what learns in an epoch, counted from 0: the head, head and last stage, or everything."""
    head, last = config.head_epochs or 0, config.last_stage_epochs or 0
    return "head" if epoch < head else "last" if epoch < head + last else "all"


def set_trainable(model: nn.Module, stages: Stages, now: Phase, *, freeze_norm: bool = False) -> None:
    """Lets the parameters of a phase learn and freezes the others.

    A frozen layer is in evaluation mode: the running mean and variance of its batch normalisation stay as they were
    learned. With `freeze_norm` they stay so in every layer, and normalise by what they are; its scale and shift learn.
    """
    learning = {"head": stages.head, "last": stages.head + stages.last, "all": stages.head + stages.last + stages.below}
    chosen = set(learning[now])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        is_kept = freeze_norm and isinstance(module, _BatchNorm)
        if is_kept or (own and not any(parameter.requires_grad for parameter in own)):
            module.eval()


def optimizer(model: nn.Module, stages: Stages, config: TrainConfig) -> torch.optim.Optimizer:
    """Builds the optimiser with one pair of groups a stage: weights, and what is not decayed (biases and norms).

    Each group carries `base_lr`, its rate before the schedule: in fine-tuning lr for the head, lr times
    lr_decay_per_stage for the last stage, and lr times its square below.
    """
    parameters = dict(model.named_parameters())
    decay = config.lr_decay_per_stage if config.mode == "finetune" else 1.0
    groups: list[dict[str, Any]] = []
    for depth, names in enumerate((stages.head, stages.last, stages.below)):
        base_lr = config.lr * decay**depth
        weights = [parameters[name] for name in names if parameters[name].ndim > 1]
        others = [parameters[name] for name in names if parameters[name].ndim <= 1]
        for members, weight_decay in ((weights, config.weight_decay or 0.0), (others, 0.0)):
            if members:
                groups.append({"params": members, "lr": base_lr, "base_lr": base_lr, "weight_decay": weight_decay})
    if config.optimizer in ("sgd", "nesterov"):
        nesterov = config.optimizer == "nesterov" and config.momentum > 0
        return torch.optim.SGD(groups, momentum=config.momentum, nesterov=nesterov)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, momentum=config.momentum, alpha=config.rmsprop_alpha)
    adam = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return adam(groups, betas=config.adam_betas)


def lr_factor(config: TrainConfig, epoch: float, val_losses: Sequence[float]) -> float:
    """Returns the share of its base rate at which a group learns now, in [0, 1].

    Args:
        config: Schedule and its settings.
        epoch: Epochs passed, with the fraction of the current one.
        val_losses: Validation loss of each finished epoch; `plateau` follows from them, so it keeps no state.
    """
    warmup = config.warmup_epochs or 0.0
    if config.schedule == "onecycle":
        return _cycle(config, epoch, LOWEST_AT_FIRST, 1.0, LOWEST_AT_LAST)
    # the first step learns too
    factor = min(1.0, epoch / warmup + 0.01) if warmup > 0 else 1.0
    if config.schedule == "step":
        return factor * config.lr_gamma ** (int(epoch) // config.step_epochs)
    if config.schedule == "plateau":
        return factor * config.lr_gamma ** plateaus(val_losses, config.patience)
    if config.schedule == "cosine" and epoch > warmup:
        # Source: Loshchilov and Hutter 2017, SGDR, equation 5, without restarts
        return factor * (1 + math.cos(math.pi * (epoch - warmup) / (config.epochs - warmup))) / 2
    return factor


LOWEST_AT_FIRST, LOWEST_AT_LAST = 1 / 25, 1 / 25e4
MOMENTA = (0.95, 0.85)
"""Of onecycle: shares of the highest rate at the beginning and at the end, and momentum at the lowest and the highest.
Source: torch.optim.lr_scheduler.OneCycleLR, defaults of div_factor, final_div_factor and base and max momentum."""


def momentum(config: TrainConfig, epoch: float) -> float | None:
    """Returns the momentum, or Adam's first beta, at which the network learns now; None leaves it as it is.

    Source: Smith 2018, A disciplined approach to neural network hyper-parameters: part 1, section 4.3: onecycle's
    momentum falls while the rate rises, and rises while it falls.

    Args:
        config: Schedule and its settings.
        epoch: Epochs passed, with the fraction of the current one.
    """
    if config.schedule != "onecycle" or config.momentum == 0:
        return None
    return _cycle(config, epoch, MOMENTA[0], MOMENTA[1], MOMENTA[0])


def _cycle(config: TrainConfig, epoch: float, first: float, middle: float, last: float) -> float:
    """From `first` to `middle` during the warm-up and on to `last`, each along half of a cosine."""
    top = config.warmup_epochs or 0.0
    start, end, share = (first, middle, epoch / top) if epoch < top else (middle, last, _passed(config, epoch, top))
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _passed(config: TrainConfig, epoch: float, top: float) -> float:
    return min(1.0, (epoch - top) / max(config.epochs - top, 1e-9))


def plateaus(val_losses: Sequence[float], patience: int) -> int:
    """Counts how often the loss failed to improve by 1e-4 of its best for more than `patience` epochs in a row.

    Source: torch.optim.lr_scheduler.ReduceLROnPlateau with its default threshold.
    """
    best = math.inf
    waited = 0
    falls = 0
    for loss in val_losses:
        best, waited = (loss, 0) if loss < best * (1 - 1e-4) else (best, waited + 1)
        if waited > patience:
            falls = falls + 1
            waited = 0
    return falls

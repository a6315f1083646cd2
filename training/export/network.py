"""The network of a checkpoint as it is exported: whole, in units, and small enough for one file."""

from __future__ import annotations

import torch
from torch import nn

from cnn_perception.errors import ConfigError, DataError
from training.checkpoint import Checkpoint
from training.graphs.ensembles.joint import Member
from training.networks import backbones
from training.networks.build import restore

_LARGEST_FILE_BYTES = 2**31 - 1  # protobuf's limit for one message


def network_of(checkpoint: Checkpoint) -> Member:
    """Returns the network of a checkpoint, which gives numbers in their units, cut at its last spatial features."""
    model = _restore(checkpoint)
    split = backbones.split(model, checkpoint.input.height, checkpoint.input.width)
    return Member(model, split, checkpoint.calibration.temperature, checkpoint.input)


def require_size(size_bytes: int, what: str) -> None:
    """Checks that weights fit into one ONNX file.

    Args:
        size_bytes: Of the weights.
        what: Has them, for the message.

    Raises:
        ConfigError: If they do not.
    """
    if size_bytes > 0.97 * _LARGEST_FILE_BYTES:
        raise ConfigError(f"{what} exceeds the 2 GB of one ONNX file; choose a smaller backbone")


def _restore(checkpoint: Checkpoint) -> nn.Module:
    require_size(sum(value.nbytes for value in checkpoint.model.values()), checkpoint.backbone)
    _require_numbers(checkpoint)
    model = restore(checkpoint).requires_grad_(False).eval()
    if checkpoint.scaling:
        _answer_in_units(model, checkpoint)
    return model


def _require_numbers(checkpoint: Checkpoint) -> None:
    damaged = (
        key for key, value in checkpoint.model.items() if value.is_floating_point() and not value.isfinite().all()
    )
    if (key := next(damaged, None)) is not None:
        raise DataError(
            f"the checkpoint's tensor {key} of {checkpoint.backbone} holds what is no finite number: that training had "
            "failed; export an earlier one, or train again"
        )


def _answer_in_units(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Folds the scaling of the numbers into the last layer: training let the network give standard deviations."""
    size = checkpoint.input
    image = torch.randn(2, 3, size.height, size.width, generator=torch.Generator().manual_seed(0))
    mean, deviation = torch.tensor(checkpoint.scaling).T
    last = model.get_submodule(backbones.classifier_name(model))
    expected = model(image) * deviation + mean
    if isinstance(last, nn.Linear) and last.bias is not None:
        last.weight.mul_(deviation[:, None])
        last.bias.mul_(deviation).add_(mean)
    if not ((model(image) - expected).abs() <= 1e-3 * deviation + 1e-5 * mean.abs()).all():
        raise ConfigError(f"{checkpoint.backbone} does not end in a linear layer with bias, as numbers need")

"""Preprocessed images of one normalisation turned into those of another: the one place that converts them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnn_perception.model.spec import InputSpec


class Recoloured(nn.Module):
    """Images (N, 3, H, W) of one mean and standard deviation -> the same of others."""

    factor: Tensor
    shift: Tensor

    def __init__(self, given: InputSpec, wanted: InputSpec) -> None:
        super().__init__()
        mean, std = torch.tensor(given.mean, dtype=torch.float64), torch.tensor(given.std, dtype=torch.float64)
        own_mean, own_std = (
            torch.tensor(wanted.mean, dtype=torch.float64),
            torch.tensor(wanted.std, dtype=torch.float64),
        )
        self.register_buffer("factor", (std / own_std).float().reshape(3, 1, 1))
        self.register_buffer("shift", ((mean - own_mean) / own_std).float().reshape(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Returns the images as the other network was trained with them."""
        return images * self.factor + self.shift


def recoloured(given: InputSpec, wanted: InputSpec) -> nn.Module:
    """Returns what turns images of one normalisation into those of another; nothing where they are the same."""
    same = (given.mean, given.std) == (wanted.mean, wanted.std)
    return nn.Identity() if same else Recoloured(given, wanted)

"""Networks that differ in depth, shortcuts, batch normalisation and initial weights, and in nothing else.

Those of He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2: on 32x32 pixels a first 3x3
convolution and three stages of 16, 32 and 64 channels, pooled over the whole image, and one linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnn_perception.errors import ConfigError

Init = Literal["he", "torch"]
WIDTHS = (16, 32, 64)
SIDE = 32
"""Rows and columns of the image, pixels."""
CLASSES = 10


@dataclass(frozen=True)
class Stack:
    """What a network is made of.

    Attributes:
        depth: Layers with weights, 6 n + 2.
        residual: Whether each two of them have a shortcut around them, without weights (option A of the paper).
        normalised: Whether a batch normalisation follows each convolution.
        init: How weights begin: `he`, normal with the variance 2 / fan-in (He et al. 2015, Delving Deep into
            Rectifiers, equation 10) and biases 0; `torch`, what torch does by itself: uniform, of the variance
            1 / (3 fan-in).

    Raises:
        ConfigError: If there is no such depth.
    """

    depth: int
    residual: bool
    normalised: bool
    init: Init

    def __post_init__(self) -> None:
        if self.depth < 8 or self.depth % 6 != 2:
            raise ConfigError(f"--depths: {self.depth} is none of 8, 14, 20, ... (6 n + 2)")

    @property
    def name(self) -> str:
        """What it is called in a legend."""
        return f"{'residual' if self.residual else 'plain'}{', batch norm' if self.normalised else ''}"


def build(stack: Stack, seed: int) -> nn.Module:
    """Builds a network with random weights, in training mode.

    Args:
        stack: What it is made of.
        seed: Decides its weights.
    """
    torch.manual_seed(seed)
    layers: list[nn.Module] = [*_convolution(3, WIDTHS[0], 1, stack), nn.ReLU()]
    channels = WIDTHS[0]
    for width in WIDTHS:
        for _ in range((stack.depth - 2) // 6):
            layers.append(Block(channels, width, stack))
            channels = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
    if stack.init == "he":
        _draw_he(model)
    return model


class Block(nn.Module):
    """Two convolutions, and the shortcut around them if there is one; where the channels change it strides."""

    def __init__(self, inputs: int, outputs: int, stack: Stack) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.missing = outputs - inputs
        self.residual = stack.residual
        first = _convolution(inputs, outputs, self.stride, stack)
        self.branch = nn.Sequential(*first, nn.ReLU(), *_convolution(outputs, outputs, 1, stack))

    def forward(self, features: Tensor) -> Tensor:
        """Returns the features (N, outputs, h, w) after the block of those before it, (N, inputs, h', w')."""
        found: Tensor = self.branch(features)
        if self.residual:
            skipped = features[:, :, :: self.stride, :: self.stride]
            found = found + functional.pad(skipped, (0, 0, 0, 0, 0, self.missing))
        return functional.relu(found)


def _convolution(inputs: int, outputs: int, stride: int, stack: Stack) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=not stack.normalised)
    return [layer, nn.BatchNorm2d(outputs)] if stack.normalised else [layer]


def _draw_he(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

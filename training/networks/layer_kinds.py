"""Layers that lectures teach and torch lacks, or has with other settings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_TINY = 1e-12
"""Under a square root, whose slope at 0 is infinite."""
_POOLINGS = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


class Grey(nn.Module):
    """The mean of the colours: networks for grey images keep their published size, and take images of any channels."""

    def forward(self, image: Tensor) -> Tensor:
        """Turns an image (N, C, ...) into (N, 1, ...)."""
        return image.mean(1, keepdim=True)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2/3 x), which is +-1 at +-1. Source: LeCun et al. 1998, appendix A."""

    def forward(self, values: Tensor) -> Tensor:
        """Squashes each value into +-1.7159."""
        return 1.7159 * torch.tanh(values * (2 / 3))


class L2Pool(nn.Module):
    """The root of the sum of squares in each window. Source: LeCun et al. 1998 (subsampling); Le et al. 2012.

    Args:
        kernel_size: Of each axis, one to three.
        stride: Likewise.
        padding: Likewise, zeros.
        ceil_mode: Whether the last window may hang over.
    """

    def __init__(
        self, kernel_size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.cells = float(torch.Size(kernel_size).numel())

    def forward(self, features: Tensor) -> Tensor:
        """Pools (N, C, ...)."""
        pool = _POOLINGS[len(self.kernel_size) - 1]
        mean = pool(features * features, self.kernel_size, self.stride, self.padding, self.ceil_mode)
        return torch.sqrt(mean * self.cells + _TINY)


class OverFeatures(nn.Module):
    """One number of each group of neighbouring features.

    Args:
        size: Features of a group.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def groups(self, features: Tensor) -> Tensor:
        """Turns (N, C, ...) into (N, C / size, size, ...)."""
        grouped: Tensor = features.unflatten(1, (-1, self.size))  # type: ignore[no-untyped-call]
        return grouped


class Maxout(OverFeatures):
    """The largest of each group. Source: Goodfellow et al., Maxout Networks, 2013."""

    def forward(self, features: Tensor) -> Tensor:
        """Turns (N, C, ...) into (N, C / size, ...)."""
        return self.groups(features).amax(2)


class L2OverFeatures(OverFeatures):
    """The root of the sum of squares of each group. Source: Hyvarinen, Hoyer, Emergence of Phase- and Shift-Invariant
    Features by Decomposition of Natural Images into Independent Feature Subspaces, 2000.
    """  # noqa: D205

    def forward(self, features: Tensor) -> Tensor:
        """Turns (N, C, ...) into (N, C / size, ...)."""
        grouped = self.groups(features)
        return torch.sqrt((grouped * grouped).sum(2) + _TINY)


def response_normalisation(size: int = 5) -> nn.Module:
    """Returns the local response normalisation of AlexNet over `size` features; torch divides its alpha by the size.

    Source: Krizhevsky, Sutskever, Hinton 2012, section 3.3.
    """
    return nn.LocalResponseNorm(size, alpha=size * 1e-4, beta=0.75, k=2.0)

"""A classifier's head as convolutions: the same head, put at every place of a larger grid of features.

Pooling becomes a sliding mean, and a linear layer on a window of cells a convolution with the same weights; what works
cell by cell stays as it is. Cells of the result lie one cell of the features apart.

Source: Sermanet et al., OverFeat, 2014, section 3.5; Shelhamer, Long, Darrell, Fully Convolutional Networks, 2016,
section 3.1.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from cnn_perception.errors import ConfigError
from training.networks.backbones import Split, cut, is_global_pooling


class NotConvolutionalError(ConfigError):
    """A network, or its file, cannot be put at every place of a larger image."""


class LinearAsConvolution(nn.Module):
    """A linear layer on a flattened window of cells, as a convolution that shares its weights.

    Args:
        layer: The linear layer.
        cells: Rows and columns of the window.
        apart: Distance of neighbouring cells of the window in the map, above 1 where its cells are means of several.
    """

    def __init__(self, layer: nn.Linear, cells: tuple[int, int], apart: tuple[int, int]) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias = layer.bias
        self.kernel = (layer.out_features, layer.in_features // (cells[0] * cells[1]), *cells)
        self.apart = apart

    def forward(self, features: Tensor) -> Tensor:
        """Returns (N, outputs, rows, columns) of features (N, C, rows', columns')."""
        return functional.conv2d(features, self.weight.view(self.kernel), self.bias, dilation=self.apart)


class SpacedMean(nn.Module):
    """The mean of a window of cells that are `apart`, for each channel.

    ONNX's AveragePool takes such cells only since opset 19, and torch's not at all.
    """

    weight: Tensor

    def __init__(
        self, channels: int, kernel: tuple[int, int], apart: tuple[int, int], padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((channels, 1, *kernel), 1.0 / (kernel[0] * kernel[1])))
        self.apart = apart
        self.padding = padding

    def forward(self, features: Tensor) -> Tensor:
        """Returns (N, C, rows', columns') of features (N, C, rows, columns)."""
        return functional.conv2d(
            features, self.weight, padding=self.padding, dilation=self.apart, groups=len(self.weight)
        )


def convolutional_head(split: Split, spread: tuple[int, int] = (1, 1)) -> fx.GraphModule:
    """Turns the head of a classifier into convolutions.

    Args:
        split: The classifier, cut at features of (C, h, w).
        spread: How far apart the cells of a window are in the features, see `dilation`.

    Returns:
        Features (N, C, rows, columns) -> logits (N, K, rows - h + 1, columns - w + 1): cell (r, c) is what the head
        answers to the window of h x w cells that begins there; of as many fewer as they are spread. The parameters are
        the model's own.

    Raises:
        NotConvolutionalError: If the head cannot be turned.
    """
    if not split.spatial:
        raise NotConvolutionalError("it has no spatial features")
    logits, _ = next(iter(reversed(split.head.graph.nodes))).args[0]
    head = cut(split.head, next(iter(split.head.graph.nodes)), logits)
    cells = split.feature_shape[1:]
    apart = (1, 1)
    for node in list(head.graph.nodes):
        module = head.get_submodule(node.target) if node.op == "call_module" else None
        if is_global_pooling(node, head):
            before = cells
            cells = node.meta["shape"][2:] or (1, 1)
            apart = _whole_steps(before, cells)
            _replace(node, _mean(node.meta["shape"][1], apart, spread), head)
        elif isinstance(module, nn.Flatten) or node.target in (torch.flatten, "flatten"):
            _replace(node, nn.Identity(), head)
        elif isinstance(module, nn.Linear):
            between = (apart[0] * spread[0], apart[1] * spread[1])
            _replace(node, LinearAsConvolution(module, cast("tuple[int, int]", cells), between), head)
            cells = (1, 1)
            apart = (1, 1)
    if tuple(cells) != (1, 1):
        raise NotConvolutionalError("its head keeps several cells")
    head.graph.lint()
    head.recompile()
    return head


def _mean(channels: int, cells: tuple[int, int], spread: tuple[int, int]) -> nn.Module:
    """Returns the sliding mean of so many cells."""
    if cells == (1, 1):
        return nn.Identity()
    return nn.AvgPool2d(cells, stride=1) if spread == (1, 1) else SpacedMean(channels, cells, spread)


def _whole_steps(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, int]:
    """Returns how many cells, (vertical, horizontal), are averaged to one."""
    if any(fine % coarse for fine, coarse in zip(before, after, strict=True)):
        sizes = " to ".join("x".join(map(str, size)) for size in (before, after))
        raise NotConvolutionalError(
            f"its head pools {sizes} cells, which is no sliding mean; train at another input size"
        )
    return before[0] // after[0], before[1] // after[1]


def _replace(node: fx.Node, module: nn.Module, head: fx.GraphModule) -> None:
    name = f"map_{node.name}"
    head.add_submodule(name, module)
    with head.graph.inserting_before(node):
        node.replace_all_uses_with(head.graph.call_module(name, (node.all_input_nodes[0],)))
    head.graph.erase_node(node)

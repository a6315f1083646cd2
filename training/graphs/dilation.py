"""A network's last strides taken out and what follows spread apart: features that lie closer, by the same weights.

A stride of 2 leaves out every second cell. Without it the cells between are computed too, and each later kernel must
look at every second cell to see what it was trained on: it is dilated. Where a cell of the undilated network lies, the
features are the same number by number; those between are what the network would answer to an image that is shifted.

Source: J. Long, E. Shelhamer, T. Darrell, Fully Convolutional Networks, CVPR 2015, section 3.2 (a trous); F. Yu,
V. Koltun, T. Funkhouser, Dilated Residual Networks, CVPR 2017, section 2.
"""

from __future__ import annotations

import copy
import math
import operator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from training.graphs.convolve import NotConvolutionalError, SpacedMean
from training.networks.backbones import Split, module_of

Pair = tuple[int, int]
"""(vertical, horizontal)."""
_ONE = (1, 1)
_Windowed = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d
_POINTWISE_MODULES = (
    nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish, nn.GELU, nn.ELU, nn.Tanh, nn.Sigmoid,
    nn.Softplus, nn.Dropout, nn.Dropout2d, nn.Identity, nn.LocalResponseNorm,
)  # fmt: skip
_POINTWISE = {
    operator.add, operator.iadd, operator.mul, torch.add, torch.cat, torch.mul, torch.relu, torch.tanh, torch.sigmoid,
    functional.relu, functional.dropout, "add", "add_", "mul", "relu", "relu_", "sigmoid", "tanh",
}  # fmt: skip
"""What works cell by cell, however far the cells are apart; channels, not rows or columns, are put together."""


@dataclass(frozen=True, eq=False)
class Dense:
    """A classifier whose body gives features that lie closer.

    Attributes:
        split: The classifier; its body is the dilated one, all else and the weights are the undilated one's.
        apart: How many cells of its features lie between neighbours of the undilated ones; (1, 1) where it is that one.
        excess: How many rows and columns of windows more than one an image of the model's own size has: the last ones,
            which reach too far over its edge.
    """

    split: Split
    apart: Pair = _ONE
    excess: Pair = (0, 0)


@dataclass(frozen=True)
class _Steps:
    """Pixels between neighbouring cells of the undilated network, and how many dense cells that is."""

    stride: Pair = _ONE
    apart: Pair = _ONE

    @property
    def dense(self) -> Pair:
        """Pixels between neighbouring cells of the dilated network."""
        return self.stride[0] // self.apart[0], self.stride[1] // self.apart[1]


def dilated(split: Split, stride: int) -> Dense:
    """Takes out the last strides of a classifier, until its features lie so many pixels apart.

    Args:
        split: The classifier, cut at its last spatial features; it stays as it is.
        stride: Pixels between neighbouring cells.

    Raises:
        NotConvolutionalError: If its strides allow no such distance, or a layer behind them cannot be dilated; the line
            names it.
    """
    if not split.spatial:
        raise NotConvolutionalError("it has no spatial features")
    graph = fx.Graph()
    graph.output(graph.graph_copy(split.body.graph, {}))
    body = fx.GraphModule(split.body, graph)
    found = _spread(body, stride)
    if found.dense != (stride, stride):
        raise NotConvolutionalError(
            f"its features lie {_shown(found.stride)} pixels apart, {_shown(found.dense)} without its last strides, "
            f"and not {stride}; choose another one"
        )
    graph.lint()
    body.recompile()
    dense = Dense(replace(split, body=body), found.apart)
    return replace(dense, excess=_excess(dense))


def _excess(dense: Dense) -> Pair:
    """Returns how many windows more than one fit into the features of an image of the model's own size."""
    image = next(iter(dense.split.body.graph.nodes))
    device = dense.split.classifier.weight.device
    try:
        with torch.no_grad():
            features = dense.split.body(torch.zeros(image.meta["shape"], device=device))
    except RuntimeError as error:
        raise NotConvolutionalError(f"its branches do not fit when dilated ({str(error).splitlines()[0]})") from None
    extent = window_of(dense)
    return features.shape[2] - extent[0], features.shape[3] - extent[1]


def window_of(dense: Dense) -> Pair:
    """Returns from the first to the last cell of a window, both included."""
    _, rows, columns = dense.split.feature_shape
    return dense.apart[0] * (rows - 1) + 1, dense.apart[1] * (columns - 1) + 1


def windows_of(dense: Dense, features: Tensor) -> Tensor:
    """Returns the windows of a feature map (C, rows', columns'): (C, down, right, rows, columns)."""
    extent = window_of(dense)
    windows = features.unfold(1, extent[0], 1).unfold(2, extent[1], 1)
    down, right = (size - extra for size, extra in zip(windows.shape[1:3], dense.excess, strict=True))
    return windows[:, :down, :right, :: dense.apart[0], :: dense.apart[1]]


def _spread(body: fx.GraphModule, stride: int) -> _Steps:
    """Replaces in place what has to be dilated; returns the steps of the features."""
    steps: dict[fx.Node, _Steps] = {}
    for node in list(body.graph.nodes):
        if node.op == "output":
            return steps.get(node.all_input_nodes[0], _Steps())
        before = _before(node, steps)
        window = _window(node, body)
        if window is None:
            steps[node] = before
            if before.apart != _ONE and not _is_pointwise(node, body):
                raise _cannot(node, body)
            continue
        after = _after(before, _pair(window.stride), stride)
        if after.apart != _ONE:
            node = _replaced(node, _dilated_window(window, before.apart, after.apart, node, body), body)
        steps[node] = after
    raise AssertionError("a graph ends with its output")


def _before(node: fx.Node, steps: dict[fx.Node, _Steps]) -> _Steps:
    """Returns the steps of what goes into a node."""
    found = {steps[one] for one in node.all_input_nodes if one in steps}
    spread = [one for one in found if one.apart != _ONE]
    if spread and len(found) > 1:
        raise NotConvolutionalError(f"{node.name} joins cells that are not equally far apart")
    return spread[0] if spread else max(found, key=lambda one: one.stride, default=_Steps())


def _after(before: _Steps, own: Pair, wanted: int) -> _Steps:
    """Returns the steps behind a window with a stride, which is taken out where cells would lie too far apart."""
    is_out = [dense * step > wanted for dense, step in zip(before.dense, own, strict=True)]
    stride = (before.stride[0] * own[0], before.stride[1] * own[1])
    apart = [cells * (step if out else 1) for cells, step, out in zip(before.apart, own, is_out, strict=True)]
    return _Steps(stride, (apart[0], apart[1]))


def _window(node: fx.Node, body: fx.GraphModule) -> _Windowed | None:
    """Returns the convolution or pooling that a node is, the functional ones as modules; None for others."""
    module = module_of(node, body)
    if isinstance(module, _Windowed):
        return module
    arguments: Any = node.args[1:]
    options: Any = node.kwargs
    if node.target is functional.max_pool2d:
        return nn.MaxPool2d(*arguments, **options)
    if node.target is functional.avg_pool2d:
        return nn.AvgPool2d(*arguments, **options)
    return None


def _is_pointwise(node: fx.Node, body: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(module_of(node, body), _POINTWISE_MODULES)
    return node.target in _POINTWISE


def _dilated_window(window: _Windowed, before: Pair, after: Pair, node: fx.Node, body: fx.GraphModule) -> nn.Module:
    """Returns a convolution or pooling without those strides that are taken out, on cells that are spread apart."""
    own = _pair(window.stride)
    kept = _pair([step * early // late for step, early, late in zip(own, before, after, strict=True)])
    if isinstance(window, nn.Conv2d):
        if window.padding_mode != "zeros" or isinstance(window.padding, str):
            raise _cannot(node, body)
        spread = copy.copy(window)  # it shares the weights
        spread.stride = kept
        spread.dilation = _times(window.dilation, before)
        spread.padding = _times(cast("Pair", window.padding), before)
        return spread
    # With a window that may begin before the edge and end behind it there is one more than without.
    beyond = _pair([cells * (step - 1) for cells, step in zip(before, own, strict=True)])
    padding, kernel = _times(window.padding, before), _pair(window.kernel_size)
    if isinstance(window, nn.MaxPool2d):
        if window.ceil_mode and kept != _ONE:
            raise _cannot(node, body)
        return _SpacedMax(
            kernel, kept, _times(window.dilation, before), padding, beyond if window.ceil_mode else (0, 0)
        )
    is_uneven = padding != (0, 0) and not window.count_include_pad
    if is_uneven or window.ceil_mode or window.divisor_override is not None or kept != _ONE:
        raise _cannot(node, body)
    return SpacedMean(node.meta["shape"][1], kernel, before, padding)


class _SpacedMax(nn.Module):
    """The maximum of cells that are spread apart; `beyond` the edge, at the end of rows and columns, there is none."""

    def __init__(self, kernel: Pair, stride: Pair, dilation: Pair, padding: Pair, beyond: Pair) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.dilation = dilation
        self.padding = padding
        self.beyond = beyond

    def forward(self, features: Tensor) -> Tensor:
        """Returns (N, C, rows', columns') of features (N, C, rows, columns)."""
        (down, right), padding = self.beyond, self.padding
        is_much = any(2 * pad > size for pad, size in zip(padding, self.kernel, strict=True))
        if is_much or down or right:  # more than the operator takes itself
            sides = (padding[1], padding[1] + right, padding[0], padding[0] + down)
            features = functional.pad(features, sides, value=-math.inf)
            padding = (0, 0)
        return functional.max_pool2d(features, self.kernel, self.stride, padding, self.dilation)


def _replaced(node: fx.Node, module: nn.Module, body: fx.GraphModule) -> fx.Node:
    name = f"dense_{node.name}"
    body.add_submodule(name, module)
    with body.graph.inserting_before(node):
        new: fx.Node = body.graph.call_module(name, (node.all_input_nodes[0],))
    node.replace_all_uses_with(new)
    body.graph.erase_node(node)
    return new


def _cannot(node: fx.Node, body: fx.GraphModule) -> NotConvolutionalError:
    module = module_of(node, body)
    what = f"{node.target} ({type(module).__name__})" if module is not None else node.name
    return NotConvolutionalError(f"its layer {what} cannot be dilated; choose a larger one, or leave it out")


def _pair(value: object) -> Pair:
    """Returns a size of torch's, one number or two, as two."""
    if isinstance(value, int):
        return value, value
    down, across = cast("Pair", value)
    return down, across


def _times(value: object, factor: Pair) -> Pair:
    down, across = _pair(value)
    return down * factor[0], across * factor[1]


def _shown(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"

"""What a cell of a feature map sees of the input, worked out from the ONNX graph.

Each tensor is described, along each axis, by the input pixels that its cell 0 depends on and by the distance to the
next cell. A convolution or pooling widens the first and multiplies the second; where branches meet, the union counts.

Source: A. Araujo, W. Norris, J. Sim, Computing Receptive Fields of Convolutional Neural Networks, Distill 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx import ModelProto, NodeProto, helper

_WINDOWED = {"Conv", "MaxPool", "AveragePool"}
_POINTWISE = {
    "Add", "BatchNormalization", "Cast", "Clip", "Concat", "Div", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid",
    "HardSwish", "Identity", "LeakyRelu", "Mul", "PRelu", "Relu", "Sigmoid", "Softplus", "Sub", "Tanh",
}  # fmt: skip
"""Neither moves nor mixes pixels; Concat does so for channels, the only axis image classifiers concatenate."""
_RESHAPING = {"Gather", "Reshape", "Slice", "Split", "Squeeze", "Unsqueeze"}
_CHANNELS_LAST = {"Gemm", "LayerNormalization", "MatMul"}


@dataclass(frozen=True)
class Geometry:
    """Where the cells of a feature map lie, (vertical, horizontal), in pixels of the network's input.

    Attributes:
        stride: Distance of neighbouring cells.
        receptive_field: Pixels a cell depends on; 0 means the whole input.
        offset: Centre of cell (0, 0); the centre of the first pixel is 0.
    """

    stride: tuple[float, float]
    receptive_field: tuple[int, int]
    offset: tuple[float, float]


@dataclass(frozen=True)
class _Axis:
    """One spatial axis of a tensor: its place, the distance of cells, the first and last pixel that cell 0 sees."""

    place: int
    stride: int = 1
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class _Grid:
    """What is known of a tensor that depends on the image.

    Attributes:
        axes: The spatial axes (vertical, horizontal); None for what is no grid any more, or not one this module can
            follow: pooled, flattened, cut into windows, mixed by attention.
        whole: Whether a cell depends on the whole image, as behind squeeze-and-excitation.
    """

    axes: tuple[_Axis, _Axis] | None
    whole: bool


_Shape = list[int | str]
_GLOBAL = _Grid(None, whole=True)


def geometry(model: ModelProto, tensor: str) -> Geometry:
    """Follows the image through a graph to one feature map.

    Args:
        model: A graph whose first input is the image (N, 3, H, W), with the shapes of its tensors.
        tensor: Name of the feature map (N, C, rows, columns).

    Returns:
        The geometry; cells that mix the image in ways that cannot be followed see the whole input and divide it evenly.
    """
    graph = model.graph
    shapes: dict[str, _Shape] = {
        value.name: [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    kernels = {tensor.name: list(tensor.dims)[2:] for tensor in graph.initializer}
    image = graph.input[0].name
    grids = {image: _Grid((_Axis(2), _Axis(3)), whole=False)}
    for node in graph.node:
        inputs = [grids[name] for name in node.input if name in grids]
        if inputs:
            grids.update(dict.fromkeys(node.output, _follow(node, inputs, shapes, kernels)))
    axes = grids[tensor].axes
    if axes is None:
        strides = [
            float(pixels) / float(cells) for pixels, cells in zip(shapes[image][2:], shapes[tensor][2:], strict=True)
        ]
        return Geometry(_pair(strides), (0, 0), _pair([(stride - 1) / 2 for stride in strides]))
    down, right = (0 if grids[tensor].whole else axis.last - axis.first + 1 for axis in axes)
    return Geometry(
        _pair([float(axis.stride) for axis in axes]),
        (down, right),
        _pair([(axis.first + axis.last) / 2 for axis in axes]),
    )


def _pair(values: Sequence[float]) -> tuple[float, float]:
    return values[0], values[1]


def _follow(node: NodeProto, inputs: list[_Grid], shapes: dict[str, _Shape], kernels: dict[str, list[int]]) -> _Grid:
    """Returns the grid of a node's outputs from those of its inputs that depend on the image."""
    grid = inputs[0]
    if node.op_type in _POINTWISE:
        return _union(inputs)
    if grid.axes is None or len(inputs) > 1:
        return _GLOBAL
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type in _WINDOWED and attributes.get("auto_pad", b"NOTSET") == b"NOTSET":
        kernel = attributes.get("kernel_shape") or kernels[node.input[1]]
        steps, spread = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
        pads = attributes.get("pads", [0, 0, 0, 0])
        down, right = (_window(grid.axes[i], kernel[i], steps[i], spread[i], pads[i]) for i in (0, 1))
        return replace(grid, axes=(down, right))
    if node.op_type == "Transpose":
        down, right = (replace(axis, place=attributes["perm"].index(axis.place)) for axis in grid.axes)
        return replace(grid, axes=(down, right))
    before, after = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
    places = [axis.place for axis in grid.axes]
    if node.op_type in _RESHAPING and places == [len(before) - 2, len(before) - 1] and before[-2:] == after[-2:]:
        down, right = (replace(axis, place=len(after) - 2 + i) for i, axis in enumerate(grid.axes))
        return replace(grid, axes=(down, right))
    if node.op_type in _CHANNELS_LAST and max(places) < len(before) - 1 and attributes.get("axis", -1) == -1:
        return grid
    return _GLOBAL


def _window(axis: _Axis, kernel: int, step: int, dilation: int, pad: int) -> _Axis:
    first = axis.first - pad * axis.stride
    last = axis.last + ((kernel - 1) * dilation - pad) * axis.stride
    return replace(axis, stride=axis.stride * step, first=first, last=last)


def _union(inputs: list[_Grid]) -> _Grid:
    """Returns what a cell sees that is computed from the same cell of all inputs; pooled ones are spread over all."""
    known = [grid.axes for grid in inputs if grid.axes is not None]
    if not known or any(
        a.place != b.place or a.stride != b.stride for axes in known for a, b in zip(axes, known[0], strict=True)
    ):
        return _GLOBAL
    down, right = (
        replace(same[0], first=min(axis.first for axis in same), last=max(axis.last for axis in same))
        for same in zip(*known, strict=True)
    )
    return _Grid((down, right), whole=any(grid.whole for grid in inputs))

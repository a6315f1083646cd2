"""What a cell of a feature map sees of the input, worked out from the ONNX graph.

Each tensor is described, along each axis, by the input pixels that its cells depend on and by the distance to the next
cell, see `axis`. A convolution or pooling widens the first and multiplies the second, a transposed convolution divides
it; where branches meet, the union counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx import ModelProto, NodeProto, helper

from training.graphs import axis
from training.graphs.axis import Axis

_WINDOWED = {"AveragePool", "Conv", "ConvTranspose", "LpPool", "MaxPool"}
_POINTWISE = {
    "Add", "BatchNormalization", "Cast", "CastLike", "Clip", "Concat", "DequantizeLinear", "Div", "Dropout", "Elu",
    "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LRN", "LeakyRelu", "Mul", "PRelu", "Pow",
    "QuantizeLinear", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
}  # fmt: skip
"""Neither moves nor mixes pixels; Concat does so for channels, the only axis image classifiers concatenate."""
_RESHAPING = {
    "Gather", "Pad", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Reshape", "Slice", "Split",
    "Squeeze", "Unsqueeze",
}  # fmt: skip
"""They leave the pixels in place where the last two axes stay as they are."""
_DATA_INPUTS = {"CastLike": 1, "Expand": 1, "Shape": 0, "Size": 0}
"""How many inputs, the first ones, hand on their values; the others give a type or a size only."""
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
class Window:
    """What a convolution or pooling reads for one cell, along its spatial axes.

    Attributes:
        kernel: Pixels.
        stride: Distance of neighbouring windows.
        dilation: Distance of neighbouring pixels of the kernel.
        before: Pixels of padding in front.
        after: Pixels of padding behind.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class _Axis:
    """One spatial axis of a tensor: its place, and what its cells see."""

    place: int
    sees: Axis = Axis()  # noqa: RUF009  (frozen)


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


Shape = list[int | str]
_GLOBAL = _Grid(None, whole=True)


def geometry(model: ModelProto, tensor: str) -> Geometry:
    """Follows the image through a graph to one feature map.

    Args:
        model: A graph whose first input is the image (N, 3, H, W), with the shapes of its tensors.
        tensor: Name of the feature map (N, C, rows, columns).

    Returns:
        The geometry; cells that mix the image in ways that cannot be followed see the whole input and divide it evenly.
    """
    shapes = shapes_of(model)
    grids = _grids(model)
    image = model.graph.input[0].name
    axes = grids[tensor].axes
    if axes is None:
        sizes = zip(shapes[image][2:], shapes[tensor][2:], strict=True)
        strides = [float(pixels) / float(cells) for pixels, cells in sizes]
        return Geometry(_pair(strides), (0, 0), _pair([(stride - 1) / 2 for stride in strides]))
    return _place(axes, grids[tensor].whole)


def geometries(model: ModelProto) -> dict[str, Geometry | None]:
    """Follows the image through a graph to every tensor that depends on it.

    Args:
        model: As for `geometry`.

    Returns:
        By name; None for what is no grid of cells any more, or not one that can be followed.
    """
    return {name: None if grid.axes is None else _place(grid.axes, grid.whole) for name, grid in _grids(model).items()}


def shapes_of(model: ModelProto) -> dict[str, Shape]:
    """Returns what a graph says of the shapes of its tensors, initializers included."""
    graph = model.graph
    shapes: dict[str, Shape] = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
    return shapes | {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def window(node: NodeProto, shapes: dict[str, Shape]) -> Window | None:
    """Returns the window of a convolution or pooling; None for other nodes, and where the shapes do not tell it.

    That of a transposed convolution is the one of which it is the transpose: it leaves its padding out of its output.

    Source: ONNX operators, Conv, ConvTranspose and MaxPool: their defaults, and the padding of `auto_pad`.
    """
    if node.op_type not in _WINDOWED:
        return None
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    kernel = attributes.get("kernel_shape") or [int(size) for size in shapes.get(node.input[1], [])[2:]]
    count = len(kernel)
    stride = attributes.get("strides", [1] * count)
    dilation = attributes.get("dilations", [1] * count)
    pads = attributes.get("pads", [0] * 2 * count)
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    if automatic.startswith("SAME") or "output_shape" in attributes:
        sizes, cells = (shapes.get(name, [])[2:] for name in (node.input[0], node.output[0]))
        if len(sizes) != count or not all(isinstance(size, int) for size in (*sizes, *cells)):
            return None
        if node.op_type == "ConvTranspose":
            extra = attributes.get("output_padding", [0] * count)
            ends = zip(map(int, sizes), map(int, cells), extra, strict=True)
            reach = [(size - 1) * dilated + 1 for size, dilated in zip(kernel, dilation, strict=True)]
            total = [
                max(step * (size - 1) + more + wide - given, 0)
                for step, wide, (size, given, more) in zip(stride, reach, ends, strict=True)
            ]
        else:
            rows = zip(map(int, sizes), kernel, stride, dilation, strict=True)
            total = [_same_padding(*row) for row in rows]
        before = [(pad + (automatic != "SAME_UPPER")) // 2 for pad in total]
        pads = before + [pad - front for pad, front in zip(total, before, strict=True)]
    return Window(tuple(kernel), tuple(stride), tuple(dilation), tuple(pads[:count]), tuple(pads[count:]))


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Returns the pixels of padding, in front and behind, with which there is a cell for every stride begun."""
    cells = math.ceil(size / stride)
    reach = (kernel - 1) * dilation + 1
    return max((cells - 1) * stride + reach - size, 0)


def _grids(model: ModelProto) -> dict[str, _Grid]:
    shapes = shapes_of(model)
    grids = {model.graph.input[0].name: _Grid((_Axis(2), _Axis(3)), whole=False)}
    for node in model.graph.node:
        inputs = [grids[name] for name in node.input[: _DATA_INPUTS.get(node.op_type)] if name in grids]
        if inputs:
            grids.update(dict.fromkeys(node.output, _follow(node, inputs, shapes)))
    return grids


def _place(axes: tuple[_Axis, _Axis], whole: bool) -> Geometry:
    down, right = (0 if whole else each.sees.receptive_field for each in axes)
    return Geometry(
        _pair([each.sees.stride for each in axes]),
        (down, right),
        _pair([each.sees.centre for each in axes]),
    )


def _pair(values: Sequence[float]) -> tuple[float, float]:
    return values[0], values[1]


def _follow(node: NodeProto, inputs: list[_Grid], shapes: dict[str, Shape]) -> _Grid:
    """Returns the grid of a node's outputs from those of its inputs that depend on the image."""
    grid = inputs[0]
    if node.op_type in _POINTWISE:
        return _union(inputs)
    if grid.axes is None or len(inputs) > 1:
        return _GLOBAL
    read = window(node, shapes)
    if read is not None:
        return _slide(grid.axes, node, read, grid.whole)
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Transpose":
        down, right = (replace(each, place=attributes["perm"].index(each.place)) for each in grid.axes)
        return replace(grid, axes=(down, right))
    before = shapes.get(node.input[0], [])
    after = shapes.get(node.output[0], [])
    places = [each.place for each in grid.axes]
    if node.op_type in _RESHAPING and places == [len(before) - 2, len(before) - 1] and before[-2:] == after[-2:]:
        down, right = (replace(each, place=len(after) - 2 + i) for i, each in enumerate(grid.axes))
        return replace(grid, axes=(down, right))
    if node.op_type in _CHANNELS_LAST and max(places) < len(before) - 1 and attributes.get("axis", -1) == -1:
        return grid
    return _GLOBAL


def _slide(axes: tuple[_Axis, _Axis], node: NodeProto, read: Window, whole: bool) -> _Grid:
    """Returns the grid behind a window, where that slides along the last two axes."""
    down, right = axes
    rank = len(read.kernel) + 2
    if (down.place, right.place) != (rank - 2, rank - 1):
        return _GLOBAL
    grows = node.op_type == "ConvTranspose"
    return _Grid((_behind(down, read, grows), _behind(right, read, grows)), whole)


def _behind(along: _Axis, read: Window, grows: bool) -> _Axis:
    index = along.place - 2
    sizes = (read.kernel[index], read.stride[index], read.dilation[index], read.before[index])
    return replace(along, sees=along.sees.spread(*sizes) if grows else along.sees.slid(*sizes))


def _union(inputs: list[_Grid]) -> _Grid:
    """Returns what a cell sees that is computed from the same cell of all inputs; pooled ones are spread over all."""
    known = [grid.axes for grid in inputs if grid.axes is not None]
    if not known:
        return _GLOBAL
    vertical, horizontal = zip(*known, strict=True)
    down, right = _joined(vertical), _joined(horizontal)
    if down is None or right is None:
        return _GLOBAL
    return _Grid((down, right), whole=any(grid.whole for grid in inputs))


def _joined(axes: Sequence[_Axis]) -> _Axis | None:
    """Returns what the axes are together; None where they are not the same one of their tensors, or out of step."""
    sees = axis.joined([each.sees for each in axes])
    if sees is None or len({each.place for each in axes}) > 1:
        return None
    return replace(axes[0], sees=sees)

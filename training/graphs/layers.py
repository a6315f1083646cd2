"""The layers of an ONNX graph: what each reads and gives, how it slides, what it costs and what it sees.

A layer is a node that has parameters or multiply-adds, slides a window, pools, or joins branches; activations and
changes of layout are left out. All figures are for one image.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from cnn_perception.errors import ModelError
from training.graphs.receptive_field import Geometry, Shape, Window, geometries, shapes_of, window

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
_QUANTISED = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32}
_GLOBAL_POOLINGS = {"GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMean", "ReduceSum"}
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_JOINS = {"Add", "Concat", "Mul", "Sum"}
_FLOAT32_BYTES = 4
_RENAMED = re.compile(r"onnx::|\d+$")
"""How names begin that exporters give to weights which are no longer those of the network."""
_CLASSES = "pkg.torch.onnx.class_hierarchy"
"""Under which torch's exporter notes the modules that a node was made of."""
SUMMED = ("parameters", "multiply_adds", "memory")
"""What adds up over the layers."""


class Sight(Protocol):
    """What a cell sees, a number for each axis; see `receptive_field.Geometry`."""

    @property
    def stride(self) -> Sequence[float]:
        """Distance of neighbouring cells."""

    @property
    def receptive_field(self) -> Sequence[int]:
        """Pixels a cell depends on; 0 means the whole input."""


@dataclass(frozen=True)
class Layer:
    """One row of the table.

    Attributes:
        name: That of its parameters; of a layer without any that of the node.
        kind: ONNX operator.
        input: Shape of what it reads, without the batch: (channels, rows, columns) or (values,).
        output: Shape of what it gives, likewise.
        window: How it slides; None if it does not.
        parameters: Numbers that are learned, each counted where it is used first.
        multiply_adds: Products that are summed up; biases, normalisations and poolings count nothing.
        geometry: Receptive field and distance of its cells; None behind the last grid of cells.
        misfit: Why the window does not fit its input; empty if it does.
        groups: Of channels that are convolved apart.
        remark: What else has to be known of its figures; empty if nothing.
    """

    name: str
    kind: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    window: Window | None
    parameters: int
    multiply_adds: int
    geometry: Sight | None
    misfit: str
    groups: int = 1
    remark: str = ""

    @property
    def memory(self) -> int:
        """Bytes of what it gives, as float32."""
        return _FLOAT32_BYTES * math.prod(self.output)


def totals(table: Sequence[Layer]) -> dict[str, int]:
    """Returns the sums of `parameters`, `multiply_adds` and `memory`."""
    return {name: sum(getattr(layer, name) for layer in table) for name in SUMMED}


def layers(model: ModelProto, parameters: Collection[str] | None = None) -> list[Layer]:
    """Lists the layers of a graph in their order.

    Args:
        model: A graph whose first input is the image (1, C, H, W), with the shapes of its tensors.
        parameters: The initializers that are learned; None counts those of more than one number, floating-point or
            quantised, but for the statistics of batch normalisations.

    Raises:
        ModelError: If the shapes of a layer are unknown.
    """
    shapes = shapes_of(model)
    places = geometries(model)
    owned = _owned(model, parameters)
    counted: set[str] = set()
    found = []
    for node in model.graph.node:
        data = [name for name in node.input if name in places]
        if not data:
            continue
        own = list(dict.fromkeys(itertools.chain.from_iterable(owned.get(key, ()) for key in node.input)))
        fresh = [name for name in own if name not in counted]
        counted.update(fresh)
        read = window(node, shapes)
        slides = read is not None and len(read.kernel) == 2
        if not (fresh or slides or node.op_type in _PRODUCTS or _pools(node, shapes) or _joins(node, data, places)):
            continue
        count = sum(_count(name, shapes) for name in fresh)
        found.append(_layer(node, data[0], _name(node, own), count, shapes, places[node.output[0]]))
    return found


def _layer(
    node: NodeProto, source: str, name: str, parameters: int, shapes: dict[str, Shape], geometry: Geometry | None
) -> Layer:
    """Returns the row of a node that reads the tensor `source`."""
    taken = _size(source, shapes, node)
    given = _size(node.output[0], shapes, node)
    read = window(node, shapes)
    return Layer(
        name=name,
        kind=node.op_type,
        input=taken[1:],
        output=given[1:],
        window=read,
        parameters=parameters,
        multiply_adds=_multiply_adds(node, shapes, given),
        geometry=geometry,
        misfit="" if read is None or node.op_type == "ConvTranspose" else misfit(read, taken[2:], given[2:]),
        groups=next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1),
        remark=_folded(node),
    )


def _folded(node: NodeProto) -> str:
    """Says where an exporter put a batch normalisation into the weights of the layer before, as far as it tells."""
    if node.op_type not in _PRODUCTS:
        return ""
    if any(item.key == _CLASSES and "BatchNorm" in item.value for item in node.metadata_props):
        return "a batch normalisation is folded in: its numbers are in this bias"
    if any(_RENAMED.match(name) for name in node.input[1:2]):
        return "weights changed by the exporter: a batch normalisation may be folded in"
    return ""


def _count(name: str, shapes: dict[str, Shape]) -> int:
    """Returns how many numbers an initializer holds."""
    return math.prod(int(size) for size in shapes[name])


def misfit(read: Window, size: tuple[int, ...], cells: tuple[int, ...]) -> str:
    """Says where (W - K + 2P) / S + 1 is no whole number, or no positive one.

    Args:
        read: The window, with kernel K, stride S and padding P.
        size: Of each axis of the input, W, such as (rows, columns).
        cells: Likewise of the output; where they are rounded up, the last window hangs over.

    Returns:
        One phrase for each axis, one for all where they are equal; empty if all fit.
    """
    said = [_misfit_along(axis, read, size[axis], given) for axis, given in enumerate(cells)]
    if len(set(said)) == 1:
        return said[0]
    named = zip(("depth", "rows", "columns")[-len(said) :], said, strict=True)
    return "; ".join(f"{axis} {text}" for axis, text in named if text)


def _misfit_along(axis: int, read: Window, pixels: int, cells: int) -> str:
    reach = (read.kernel[axis] - 1) * read.dilation[axis] + 1
    padded = pixels + read.before[axis] + read.after[axis]
    if padded < reach:
        return f"kernel {reach} > padded input {padded}"
    stride = read.stride[axis]
    steps, rest = divmod(padded - reach, stride)
    if not rest:
        return ""
    exact = f"{(padded - reach) / stride + 1:.4g} cells"
    if cells > steps + 1:
        return f"{exact}: last window hangs over by {stride - rest}"
    unread = rest - read.after[axis]
    return f"{exact}: last {unread} of input unread" if unread > 0 else f"{exact}: {rest} of padding unread"


def _owned(model: ModelProto, parameters: Collection[str] | None) -> dict[str, tuple[str, ...]]:
    """Returns, for every tensor that does not depend on the image, the parameters that it is computed from."""
    graph = model.graph
    learned = _learned(graph) if parameters is None else parameters
    owned: dict[str, tuple[str, ...]] = {}
    for tensor in graph.initializer:
        owned[tensor.name] = (tensor.name,) if tensor.name in learned else ()
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if all(name in owned for name in inputs):
            sources = itertools.chain.from_iterable(owned[name] for name in inputs)
            owned.update(dict.fromkeys(node.output, tuple(dict.fromkeys(sources))))
    return owned


def _learned(graph: GraphProto) -> set[str]:
    """Returns the initializers of more than one number that training may have changed."""
    quantised: set[str] = set()
    others: set[str] = set()
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            others.update(node.input[3:5])  # its running mean and variance are measured, not learned
        if node.op_type == "DequantizeLinear":
            quantised.update(node.input[:1])
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            others.update(node.input[1:])  # scale and zero point
    names = {tensor.name for tensor in graph.initializer if _is_weight(tensor, quantised)}
    return names - others


def _is_weight(tensor: TensorProto, quantised: Collection[str]) -> bool:
    is_number = tensor.data_type in _FLOATS or (tensor.data_type in _QUANTISED and tensor.name in quantised)
    return is_number and math.prod(tensor.dims) > 1


def _name(node: NodeProto, own: list[str]) -> str:
    if own and _RENAMED.match(own[0]) and node.name:
        parts = node.name.strip("/").split("/")  # such as /features/0/Conv
        return ".".join(parts[:-1] or parts)
    if own:
        return own[0].rpartition(".")[0] or own[0]
    return (node.name or node.output[0]).removeprefix("node_")  # as torch's exporter begins them all


def _size(name: str, shapes: dict[str, Shape], node: NodeProto) -> tuple[int, ...]:
    sizes = shapes.get(name)
    if not sizes or not all(isinstance(size, int) for size in sizes):
        label = f"{node.op_type} {node.name or node.output[0]}"
        raise ModelError(f"{label}: the shape of {name} cannot be inferred; give the --input size")
    return tuple(max(int(size), 0) for size in sizes)


def _pools(node: NodeProto, shapes: dict[str, Shape]) -> bool:
    """Returns whether a node reduces the cells of a feature map to one."""
    before = shapes.get(node.input[0], [])
    after = shapes.get(node.output[0], [])
    return node.op_type in _GLOBAL_POOLINGS and len(before) == 4 and before[1] == [*after, 0, 0][1]


def _joins(node: NodeProto, data: list[str], places: dict[str, Geometry | None]) -> bool:
    """Returns whether a node brings branches of the network together, and not only their shapes."""
    return node.op_type in _JOINS and len(set(data)) > 1 and any(places[name] is not None for name in data)


def _multiply_adds(node: NodeProto, shapes: dict[str, Shape], given: tuple[int, ...]) -> int:
    if node.op_type not in _PRODUCTS:
        return 0
    first, second = (_size(name, shapes, node) for name in node.input[:2])
    if node.op_type == "Conv":
        return math.prod(given) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(given) * first[0 if transposed else -1]

"""The image that a foreign graph takes: its layout, its type, its size; and how it is made of the pixels of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto

from cnn_perception.errors import ConfigError, ModelError
from training.adopt.graph.tensors import Array

Layout = Literal["NCHW", "NHWC"]
ChannelOrder = Literal["rgb", "bgr"]

TYPES: Mapping[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.UINT8: np.dtype(np.uint8),
}
GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey. Source: ITU-R BT.601, as Pillow's conversion to `L`."""


@dataclass(frozen=True)
class ImageInput:
    """The one input of a foreign graph.

    Attributes:
        name: In the graph.
        element: ONNX's number of its type, one of `TYPES`.
        layout: Where its channels are.
        channels: 3, or 1 for grey.
        height: Pixels.
        width: Pixels.
        batch: How many images it takes at once; None for any number.
        order: Of the colours.
    """

    name: str
    element: int
    layout: Layout
    channels: int
    height: int
    width: int
    batch: int | None
    order: ChannelOrder = "rgb"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its numbers."""
        return TYPES[self.element]

    @property
    def takes_bytes(self) -> bool:
        """Whether it takes pixels as they are, from 0 to 255."""
        return self.element == TensorProto.UINT8

    def of(self, pixels: npt.NDArray[np.float32], mean: Sequence[float], std: Sequence[float]) -> Array:
        """Returns the input that the original graph would be given, by numpy alone.

        Args:
            pixels: (N, 3, height, width) float32, RGB in [0, 1].
            mean: Of each colour.
            std: Likewise.
        """
        found: Array = (pixels - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
        if self.channels == 1:
            found = np.tensordot(found, GREY, (1, 0))[:, np.newaxis]
        if self.takes_bytes:
            found = np.floor(np.clip(found * 255, 0, 255) + 0.5)
        if self.order == "bgr":
            found = found[:, ::-1]
        if self.layout == "NHWC":
            found = found.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(found, self.dtype)


def find(proto: ModelProto, size: tuple[int, int] | None, order: ChannelOrder, where: str) -> ImageInput:
    """Returns the input of a graph.

    Args:
        proto: The graph, whose inputs are none of its weights.
        size: Rows and columns, for a graph that leaves them open.
        order: Of the colours that it takes.
        where: The file, for errors.

    Raises:
        ModelError: If it takes several inputs, or what is no image.
        ConfigError: If the size is missing or another one than the graph's.
    """
    values = list(proto.graph.input)
    if len(values) != 1:
        names = ", ".join(value.name for value in values) or "none"
        raise ModelError(f"{where}: has {len(values)} inputs ({names}), a classifier of images has one; export another")
    (value,) = values
    kind = value.type.tensor_type
    dims = [dim.dim_value or None for dim in kind.shape.dim]
    if kind.elem_type not in TYPES:
        name = TensorProto.DataType.Name(kind.elem_type).lower()
        raise ModelError(f"{where}: its input {value.name!r} is of {name}, images are of float or uint8; export it so")
    layout, channels = _layout(dims, value.name, where)
    batch, *rest = dims
    given = (rest[1], rest[2]) if layout == "NCHW" else (rest[0], rest[1])
    height, width = _size(given, size, where)
    if channels == 1 and order == "bgr":
        raise ConfigError(f"{where}: takes grey images, which have no --channel-order")
    return ImageInput(value.name, kind.elem_type, layout, channels, height, width, batch, order)


def _layout(dims: Sequence[int | None], name: str, where: str) -> tuple[Layout, int]:
    """Returns where the channels are, and how many; channels first where both could be."""
    if len(dims) == 4:
        for channels in (3, 1):
            if dims[1] == channels:
                return "NCHW", channels
            if dims[3] == channels:
                return "NHWC", channels
    shape = "x".join(str(dim or "?") for dim in dims)
    raise ModelError(
        f"{where}: its input {name!r} is {shape}, no image of 3 or 1 channels (Nx3xHxW or NxHxWx3); name another file"
    )


def _size(fixed: tuple[int | None, int | None], size: tuple[int, int] | None, where: str) -> tuple[int, int]:
    rows, columns = fixed
    if size is None:
        if rows is None or columns is None:
            raise ConfigError(f"{where}: leaves the size of its images open; give the --input-size it was trained for")
        return rows, columns
    if (rows or size[0], columns or size[1]) != size:
        given = f"{size[0]}x{size[1]}"
        raise ConfigError(f"{where}: takes images of {rows or '?'}x{columns or '?'}, not of --input-size {given}")
    return size


def with_size(proto: ModelProto, found: ImageInput) -> None:
    """Fixes height and width of the input, in place."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    places = (2, 3) if found.layout == "NCHW" else (1, 2)
    for place, pixels in zip(places, (found.height, found.width), strict=True):
        dims[place].dim_value = pixels

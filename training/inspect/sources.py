"""Where the layers of a network are read: a backbone by name, or an ONNX file."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto

from cnn_perception.errors import ConfigError, ModelError, one_line
from training.graphs.layers import Layer, layers
from training.inspect.stack import of_text
from training.networks import backbones, layer_text
from training.networks.classic import TEXTS, published_size

_KEPT_NUMBERS = 1024
"""Constants up to this many numbers are kept: shapes follow from them. Larger ones are weights."""


def of_backbone(name: str, class_count: int, height: int, width: int) -> list[Layer]:
    """Lists the layers of a network by name.

    Args:
        name: As for `backbones.build`; the layers of one that is written as text are listed as they are written.
        class_count: Likewise.
        height: Rows of the image, pixels.
        width: Columns of the image, pixels.

    Raises:
        ConfigError: If there is no such network, or it does not take images of that size.
    """
    if (text := _text(name, class_count, (height, width))) is not None:
        return of_text(text, (3, height, width))
    model = backbones.build(name, class_count, size=(height, width))
    backbones.split(model, height, width)  # refuses a size that the network does not take
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about its own future
        # Not optimised: that would fold batch normalisations into the convolutions, and rename parameters.
        program = torch.onnx.export(
            model.eval(), (torch.zeros(1, 3, height, width),), dynamo=True, verbose=False, optimize=False
        )
    assert program is not None
    return layers(_with_shapes(_without_weights(program.model_proto)), dict(model.named_parameters()).keys())


def _text(name: str, class_count: int, size: tuple[int, int]) -> str | None:
    """Returns the layers of a network that is written as text, where it is of the size that they are written for."""
    own = name.startswith(layer_text.PREFIX)
    text = name.removeprefix(layer_text.PREFIX) if own else TEXTS.get(name)
    if text is None or not (own or size == published_size(name)):
        return None
    return layer_text.with_classes(text, class_count)


def of_file(path: Path, size: tuple[int, int] | None) -> list[Layer]:
    """Lists the layers of an ONNX file.

    Args:
        path: The file; its weights may lie in others.
        size: Rows and columns of the image, for a file that leaves them open or to see it at another size.

    Raises:
        ModelError: If it is no ONNX file, or its first input no image.
        ConfigError: If the size is missing, or is not the one the file is made for.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give an .onnx file") from None
    except DecodeError:
        raise ModelError(f"{path}: truncated, or no ONNX file; give an .onnx file") from None
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if not inputs or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise ModelError(f"{path}: its first input is no image (N, C, H, W); give an image classifier")
    # Older files list their weights as inputs, too, and in any order.
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    batch, _, *pixels = model.graph.input[0].type.tensor_type.shape.dim
    fixed = [dim.dim_value for dim in pixels]
    if size is None and not all(fixed):
        raise ConfigError(f"{path}: leaves the size of its images open; give the --input size")
    wanted = [1, *(size or fixed)]
    if [batch.dim_value, *fixed] != wanted:  # what the file says of its shapes is of another batch or size
        for dim, extent in zip((batch, *pixels), wanted, strict=True):
            dim.dim_value = extent
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
    try:
        return layers(_with_shapes(_without_weights(model)))
    except onnx.shape_inference.InferenceError as error:
        reason = one_line(error, 160)
        raise ModelError(f"{path}: its shapes do not agree ({reason}); check the --input size") from None


def _without_weights(model: ModelProto) -> ModelProto:
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > _KEPT_NUMBERS:
            bare = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
            tensor.CopyFrom(bare)
    return model


def _with_shapes(model: ModelProto) -> ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)

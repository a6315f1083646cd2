"""The layers of a network: what each reads and gives, how it slides, what it costs and what it sees.

    python -m training.inspect --backbone vgg_d --input 224
    python -m training.inspect --model models/NAME.onnx --csv layers.csv --figure layers.png

Convolutions and poolings that do not fit their input say so in the last column.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto

from cnn_perception.commands import exit_code
from cnn_perception.errors import (
    ConfigError,
    ModelError,
    one_line,
)
from training.graphs.layers import Layer, layers, totals
from training.networks import backbones
from training.report import figures
from training.run_files import write_csv

COLUMNS = (
    "name", "kind", "input", "output", "kernel", "stride", "pad", "parameters", "multiply_adds", "receptive_field",
    "cell_stride", "misfit",
)  # fmt: skip
_KEPT_NUMBERS = 1024
"""Constants up to this many numbers are kept: shapes follow from them. Larger ones are weights."""


def of_backbone(name: str, class_count: int, height: int, width: int) -> list[Layer]:
    """Lists the layers of a network by name.

    Args:
        name: As for `backbones.build`.
        class_count: Likewise.
        height: Rows of the image, pixels.
        width: Columns of the image, pixels.

    Raises:
        ConfigError: If there is no such network, or it does not take images of that size.
    """
    model = backbones.build(name, class_count)
    backbones.split(model, height, width)  # refuses a size that the network does not take
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about its own future
        # Not optimised: that would fold batch normalisations into the convolutions, and rename parameters.
        program = torch.onnx.export(
            model.eval(), (torch.zeros(1, 3, height, width),), dynamo=True, verbose=False, optimize=False
        )
    assert program is not None
    return layers(_with_shapes(_without_weights(program.model_proto)), dict(model.named_parameters()).keys())


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


def rows(table: Sequence[Layer]) -> list[dict[str, str]]:
    """Writes the layers as text, a column each of `COLUMNS`."""
    return [_row(layer) for layer in table]


def _row(layer: Layer) -> dict[str, str]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "input": _by(layer.input),
        "output": _by(layer.output),
        "kernel": _by(layer.window.kernel) if layer.window else "",
        "stride": _by(layer.window.stride) if layer.window else "",
        "pad": _pad(layer),
        "parameters": str(layer.parameters),
        "multiply_adds": str(layer.multiply_adds),
        "receptive_field": _field(layer),
        "cell_stride": _by([round(step) for step in layer.geometry.stride]) if layer.geometry else "",
        "misfit": layer.misfit,
    }


def as_text(table: Sequence[Layer]) -> str:
    """Writes the layers and their totals as an aligned table."""
    total = dict.fromkeys(COLUMNS, "") | {"name": "total", **{key: str(sums) for key, sums in totals(table).items()}}
    lines = [{name: name.replace("_", " ") for name in COLUMNS}, *rows(table), total]
    for line in lines[1:]:
        for name in ("parameters", "multiply_adds"):
            line[name] = f"{int(line[name]):,}" if line[name] != "0" else ""
    widths = {name: max(len(line[name]) for line in lines) for name in COLUMNS}
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(line: Mapping[str, str], widths: Mapping[str, int]) -> str:
    """Returns a line of the table: words to the left, numbers to the right of their columns."""
    cells = []
    for name in COLUMNS:
        side = "<" if name in ("name", "kind", "misfit") else ">"
        cells.append(f"{line[name]:{side}{widths[name]}}")
    return "  ".join(cells).rstrip()


def _without_weights(model: ModelProto) -> ModelProto:
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > _KEPT_NUMBERS:
            bare = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
            tensor.CopyFrom(bare)
    return model


def _with_shapes(model: ModelProto) -> ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _pad(layer: Layer) -> str:
    if layer.window is None:
        return ""
    before, after = layer.window.before, layer.window.after
    return _by(before) if before == after else f"{_by(before)} before, {_by(after)} after"


def _field(layer: Layer) -> str:
    if layer.geometry is None or not all(layer.geometry.receptive_field):
        return "all"
    return _by(layer.geometry.receptive_field)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.inspect", description="Shows the layers of a network.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--backbone", help="a torchvision classifier or one of training.networks.classic, such as vgg_d"
    )
    source.add_argument("--model", type=Path, help="instead: any .onnx file of an image network")
    parser.add_argument("--input", type=int, nargs="+", metavar="PIXELS", help="image size: N, or HEIGHT WIDTH (224)")
    parser.add_argument("--classes", type=int, help="of --backbone: their number (1000)")
    parser.add_argument("--csv", type=Path, help="write the table there, too")
    parser.add_argument("--figure", type=Path, help="draw it there, a .png")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    sizes = options.input or []
    if len(sizes) > 2 or any(size < 1 for size in sizes):
        parser.error("--input: one number or two, HEIGHT WIDTH, each at least 1")
    if options.model and options.classes is not None:
        parser.error("--classes belongs to --backbone: a file has its own")
    if options.classes is not None and options.classes < 2:
        parser.error("--classes: at least 2")
    size = (sizes[0], sizes[-1]) if sizes else None
    return exit_code(lambda: _show(options, size), "interrupted")


def _show(options: argparse.Namespace, size: tuple[int, int] | None) -> None:
    """Prints, writes and draws the layers that were asked for."""
    if options.model:
        title = options.model.name
        table = of_file(options.model, size)
    else:
        title = options.backbone
        table = of_backbone(options.backbone, options.classes or 1000, *(size or (224, 224)))
    print(as_text(table))
    if options.csv:
        write_csv(options.csv, COLUMNS, [[row[name] for name in COLUMNS] for row in rows(table)])
    if options.figure:
        figures.layers(table, title, options.figure)


if __name__ == "__main__":
    sys.exit(main())

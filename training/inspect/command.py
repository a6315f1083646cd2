"""The layers of a network: what each reads and gives, how it slides, what it costs and what it sees.

    python -m training.inspect --backbone vgg_d --input 224
    python -m training.inspect --model models/NAME.onnx --csv layers.csv --figure layers.png
    python -m training.inspect --layers "conv 10 5x5 s1 p2, relu, pool 2x2 s2" --input 3x32x32

Convolutions and poolings that do not fit their input say so.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cnn_perception.commands import Done, exit_code, program
from cnn_perception.files import given_name, given_path
from training.class_names.of_networks import require_possible
from training.inspect.sources import of_backbone, of_file
from training.inspect.stack import of_text
from training.inspect.table import COLUMNS, as_text, rows
from training.networks import layer_text
from training.networks.libraries.by_name import library_of
from training.report import figures
from training.run_files import write_csv


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.inspect", description="Shows the layers of a network.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--backbone",
        type=given_name,
        help="a network by name, as for training.train, such as vgg_d, resnet50 or timm:convnext_atto",
    )
    source.add_argument("--model", type=given_path, help="instead: any .onnx file of an image network")
    source.add_argument(
        "--layers", metavar="TEXT", help=f"instead: layers, divided by commas, each one of: {layer_text.GRAMMAR}"
    )
    parser.add_argument(
        "--input",
        nargs="+",
        metavar="SIZE",
        help="image size in pixels: N, or HEIGHT WIDTH (as published, 224 of most); of --layers the shape: CxL, CxHxW "
        "or CxDxHxW",
    )
    parser.add_argument("--classes", type=int, help="of --backbone: their number (1000)")
    parser.add_argument("--csv", type=given_path, help="write the table there, too")
    parser.add_argument("--figure", type=given_path, help="draw it there, a .png")
    return parser


@program("training.inspect")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.layers is not None and len(options.input or ()) != 1:
        parser.error("--layers needs the shape of its input: --input CxHxW, such as 3x32x32")
    size = None if options.layers is not None else _size(parser, options.input or [])
    if (options.model or options.layers) and options.classes is not None:
        parser.error("--classes belongs to --backbone: a file and --layers have their own")
    if options.classes is not None and options.classes < 2:
        parser.error("--classes: at least 2")
    return exit_code(lambda: _show(options, size), "interrupted")


def _size(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[int, int] | None:
    """Returns rows and columns of the image; None where they are not given."""
    if len(words) > 2 or not all(word.isdecimal() and int(word) >= 1 for word in words):
        parser.error("--input: one number or two, HEIGHT WIDTH, each at least 1; a shape belongs to --layers")
    return (int(words[0]), int(words[-1])) if words else None


def _show(options: argparse.Namespace, size: tuple[int, int] | None) -> int:
    """Prints, writes and draws the layers that were asked for."""
    if options.model:
        title = options.model.name
        table = of_file(options.model, size)
    elif options.layers is not None:
        title = options.layers
        table = of_text(options.layers, layer_text.input_shape(options.input[0]))
    else:
        title = options.backbone
        usual = library_of(title).input_of(title)
        table = of_backbone(title, require_possible(options.classes or 1000), *(size or (usual.height, usual.width)))
    print(as_text(table))
    if options.csv:
        write_csv(options.csv, COLUMNS, [[row[name] for name in COLUMNS] for row in rows(table)])
    if options.figure:
        figures.layers(table, title, options.figure)
    written = [path for path in (options.csv, options.figure) if path]
    return Done(result={"layers": rows(table)}, written=written)

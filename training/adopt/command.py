"""Any classifier in ONNX -> a model file of ours, with the proof that it answers as the original does.

    python -m training.adopt --model FOREIGN.onnx --classes LABELS.txt --mean 0.485,0.456,0.406 \
        --std 0.229,0.224,0.225 --output models/NAME.onnx
    python -m training.adopt --model yolo11n-cls.onnx --output models/NAME.onnx --data DIR

With --data temperature, unknown rule and accuracy are measured on labelled images, of all its classes or of some;
without, the file says that they are not. How the original was trained, nobody here knows, and the file says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cnn_perception.commands import Done, exit_code, program
from cnn_perception.errors import EXIT_BELOW_TARGET
from cnn_perception.files import given_name, given_path
from cnn_perception.tasks.registry import TASKS
from training.adopt.adopting import Adopted, Options, adopt
from training.config import preparation
from training.data import classes_file
from training.graphs.parity import ParityError
from training.report import model_file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.adopt", description="Makes a verified model file of any image classifier in ONNX."
    )
    parser.add_argument("--model", type=given_path, required=True, help="the .onnx file of another program")
    parser.add_argument("--output", type=given_path, required=True, help="the .onnx file to write")
    parser.add_argument(
        "--classes",
        type=given_name,
        help="file of names, one a line, in the order of the outputs; else its metadata's",
    )
    parser.add_argument(
        "--data",
        type=given_path,
        nargs="+",
        help="labelled images of its classes, or of some, as for training.train, to measure it on",
    )
    parser.add_argument("--output-name", metavar="NAME", help="the output that answers, or an inner tensor")
    parser.add_argument(
        "--task",
        choices=("auto", *(name for name, rules in TASKS.items() if rules.has_classes)),
        default="auto",
        help="what the outputs mean; auto takes several that end in a sigmoid for labels (%(default)s)",
    )
    _add_preparation(parser.add_argument_group("how images are prepared"))
    parser.add_argument("--tolerance", type=float, help="largest difference of a logit, as of training.export")
    parser.add_argument(
        "--parity-images", type=int, default=Options.images, help="images compared at most (%(default)s)"
    )
    return parser


def _add_preparation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--input-size", type=int, nargs="+", metavar="PIXELS", help="N, or HEIGHT WIDTH, where the graph leaves it open"
    )
    group.add_argument(
        "--channel-order",
        choices=("rgb", "bgr"),
        default="rgb",
        help="of the colours that it takes; --mean and --std stay in the order red, green, blue (%(default)s)",
    )
    preparation.add(group)


@program("training.adopt")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = _parser()
    given = parser.parse_args(argv)
    if given.input_size and (len(given.input_size) > 2 or min(given.input_size) < 1):
        parser.error("--input-size: one number or two, HEIGHT WIDTH, each at least 1")
    return exit_code(lambda: _run(given), "interrupted: nothing is written")


def _run(given: argparse.Namespace) -> int:
    try:
        adopted = adopt(_options(given))
    except ParityError as error:
        print(f"error: {given.output}: {error}", file=sys.stderr)
        return Done(EXIT_BELOW_TARGET, error=str(error))
    print(_in_words(adopted, given.output))
    return Done(result=json.loads(adopted.spec.to_json()), written=[given.output])


def _options(given: argparse.Namespace) -> Options:
    size = (given.input_size[0], given.input_size[-1]) if given.input_size else None
    return Options(
        model=given.model,
        output=given.output,
        classes=classes_file.read(given.classes) if given.classes else (),
        preparation=preparation.given_in(given, size),
        output_name=given.output_name,
        order=given.channel_order,
        task=given.task,
        data=tuple(given.data or ()),
        tolerance=given.tolerance,
        images=given.parity_images,
    )


def _in_words(adopted: Adopted, path: Path) -> str:
    remarks = adopted.all_remarks()
    told = [remark.in_words() for remark in remarks if remark.kind != "not proven"]
    left_open = [remark.in_words() for remark in remarks if remark.kind == "not proven"]
    return "\n".join([*told, model_file.in_words(adopted.spec, path), *left_open])

"""Checkpoint -> model file: one ONNX graph that carries its own description and the proof that it computes the same.

    python -m training.export --checkpoint RUN/best.pt --output models/NAME.onnx
    python -m training.export --checkpoint RUN/best.pt --output models/NAME_int8.onnx --int8
    python -m training.export --checkpoint RUN/best.pt --output models/NAME.onnx --gallery
    python -m training.export --checkpoint A/best.pt B/best.pt C/best.pt --output models/NAME.onnx
    python -m training.export --backbone resnet18 --weights none --classes 1000 --output models/NAME.onnx

Nothing is written unless the file, loaded as the robot loads it, answers as torch does (see `graphs.certificate`).
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
from cnn_perception.model.spec import ModelSpec
from training import moved_data
from training.calibration import whole
from training.calibration.whole import Whole
from training.checkpoint import Checkpoint, load
from training.config import preparation
from training.export.exporting import PARITY_IMAGES, export
from training.export.network import network_of, require_size
from training.graphs import certificate, gallery
from training.graphs.ensembles.joint import Member
from training.graphs.gallery import Reference
from training.graphs.parity import ParityError
from training.graphs.quantise import CALIBRATION_IMAGES, MAX_ACCURACY_LOSS, AccuracyError, Reduction
from training.networks.untrained import untrained
from training.report import model_file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.export", description="Makes a verified ONNX model file.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--checkpoint",
        type=given_path,
        nargs="+",
        help="best.pt or last.pt of a training run; of several runs, or all folds of one, the mean of their scores "
        "becomes one file, whose temperature, thresholds and unknown rule are fitted to images that none of them was "
        "trained on",
    )
    source.add_argument(
        "--backbone",
        type=given_name,
        help="instead: a network by name, as for training.train, without training",
    )
    parser.add_argument("--output", type=given_path, required=True, help="the .onnx file to write")
    parser.add_argument(
        "--data",
        type=given_path,
        nargs="+",
        help="of --checkpoint: where its images are now, if they were moved; of several folders and tables each in the "
        "order of the training; all are read and compared",
    )
    parser.add_argument(
        "--calibrate-on",
        type=given_path,
        nargs="+",
        help="of several --checkpoint: labelled images to fit the whole to instead of their validation images, such as "
        "the data set of a cross-validation, whose folds were trained on each other's; what one of them was trained "
        "on is left out",
    )
    parser.add_argument(
        "--weights",
        type=given_name,
        help="of --backbone: imagenet, none (default), or a file of torch or safetensors, of any program",
    )
    parser.add_argument(
        "--classes",
        type=given_name,
        help="of --backbone: their number, or a file with their names, one a line",
    )
    _add_preparation(parser.add_argument_group("of --backbone, as its weights were trained"))
    parser.add_argument(
        "--tolerance",
        type=float,
        help="largest difference of the logits, of numbers in standard deviations, with which the tolerances of the "
        "other outputs change; by default "
        f"{certificate.TOLERANCES['fp32']['logits']:g}, of --fp16 {certificate.TOLERANCES['fp16']['logits']:g} and of "
        f"--int8 {certificate.TOLERANCES['int8']['logits']:g} of their range",
    )
    parser.add_argument("--parity-images", type=int, default=PARITY_IMAGES, help="images compared (%(default)s)")
    parser.add_argument(
        "--score-map-stride",
        type=int,
        metavar="PIXELS",
        help="makes the score map's cells lie closer, such as 16 or 8 instead of 32: the last stages are dilated for "
        "it, without training; answers and activation map stay as they are",
    )
    _add_reduction(parser)
    _add_references(parser)
    return parser


def _add_preparation(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="input pixels")
    preparation.add(group)


def _add_reduction(parser: argparse.ArgumentParser) -> None:
    smaller = parser.add_mutually_exclusive_group()
    smaller.add_argument("--int8", action="store_true", help="8-bit integers, for CPUs: a quarter of the size")
    smaller.add_argument("--fp16", action="store_true", help="half precision, for GPUs; a CPU gains no speed by it")
    parser.add_argument("--calibration-images", type=int, default=CALIBRATION_IMAGES, help="of --int8 (%(default)s)")
    parser.add_argument(
        "--max-accuracy-loss",
        type=float,
        default=MAX_ACCURACY_LOSS,
        help="of --int8 and --fp16, as a share (%(default)s); one image may always be lost",
    )


def _add_references(parser: argparse.ArgumentParser) -> None:
    compared = parser.add_mutually_exclusive_group()
    compared.add_argument(
        "--gallery",
        type=int,
        nargs="?",
        const=gallery.PER_CLASS,
        metavar="N",
        help="of --checkpoint: stores embeddings and file names of N training images a class (%(const)s)",
    )
    compared.add_argument(
        "--gallery-images", type=given_path, metavar="DIR", help="instead: those of all images below DIR"
    )


def _checkpoint(options: argparse.Namespace) -> Checkpoint:
    if options.checkpoint:
        return _loaded(options.checkpoint[0], options.data)
    size = (options.size[0], options.size[1]) if options.size else None
    prepared = preparation.given_in(options, size)
    return untrained(options.backbone, options.weights or "none", options.classes, prepared)


def _loaded(path: Path, data: Sequence[Path] | None) -> Checkpoint:
    saved = load(path)
    return moved_data.at(saved, data) if data else saved


def _together(options: argparse.Namespace) -> tuple[Whole, Sequence[Member]]:
    """Returns the whole of several checkpoints, and their networks."""
    saved = [_loaded(path, options.data) for path in options.checkpoint]
    whole.require_together(saved, list(map(str, options.checkpoint)))
    require_size(sum(value.nbytes for one in saved for value in one.model.values()), f"{len(saved)} networks together")
    networks = [network_of(one) for one in saved]
    return whole.described(saved, networks, options.calibrate_on or ()), networks


def _reduction(options: argparse.Namespace) -> Reduction | None:
    if not (options.int8 or options.fp16):
        return None
    return Reduction("int8" if options.int8 else "fp16", options.calibration_images, options.max_accuracy_loss)


def _references(options: argparse.Namespace, checkpoint: Checkpoint) -> Sequence[Reference]:
    if options.gallery_images is not None:
        return gallery.of_folder(options.gallery_images)
    return gallery.of_training(checkpoint, options.gallery) if options.gallery is not None else ()


def _check_options(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Ends the program where options do not belong together."""
    own = ("weights", "classes", "size", *preparation.NAMES)
    if options.checkpoint and (foreign := [name for name in own if getattr(options, name) is not None]):
        parser.error(f"--{foreign[0].replace('_', '-')} belongs to --backbone: a checkpoint carries its own")
    if options.calibrate_on and len(options.checkpoint or ()) < 2:
        parser.error("--calibrate-on belongs to several --checkpoint: one alone carries what was fitted to it")
    if options.backbone and options.data:
        parser.error("--data belongs to --checkpoint: it says where the images of its training are now")
    if options.backbone and (options.int8 or options.fp16):
        parser.error("--int8 and --fp16 belong to --checkpoint: what they cost is measured on its images")
    if options.backbone and options.gallery is not None:
        parser.error("--gallery belongs to --checkpoint: it stores its training images; take --gallery-images DIR")


def _export_as_asked(options: argparse.Namespace) -> ModelSpec:
    """Exports what the options name."""
    members: Sequence[Member] = ()
    if len(options.checkpoint or ()) > 1:
        found, members = _together(options)
        checkpoint = found.checkpoint
        print(*found.notes, sep="\n")
    else:
        checkpoint = _checkpoint(options)
    print(f"exporting {checkpoint.backbone} at {checkpoint.input.height}x{checkpoint.input.width} pixels", flush=True)
    return export(
        checkpoint,
        options.output,
        tolerance=options.tolerance,
        parity_images=options.parity_images,
        reduction=_reduction(options),
        references=_references(options, checkpoint),
        score_map_stride=options.score_map_stride,
        members=members,
    )


@program("training.export")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    _check_options(options, parser)
    return exit_code(lambda: _run(options), "interrupted: nothing is written")


def _run(options: argparse.Namespace) -> int:
    try:
        spec = _export_as_asked(options)
    except (ParityError, AccuracyError) as error:
        print(f"error: {options.output}: {error}", file=sys.stderr)
        return Done(EXIT_BELOW_TARGET, error=str(error))
    print(model_file.in_words(spec, options.output))
    return Done(result=json.loads(spec.to_json()), written=[options.output])

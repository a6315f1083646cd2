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
import dataclasses
import datetime
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import onnx
import torch
from onnx import ModelProto
from torch import nn

import cnn_perception
from cnn_perception.commands import Done, exit_code, program
from cnn_perception.errors import EXIT_BELOW_TARGET, ConfigError
from cnn_perception.model.gallery import Gallery
from cnn_perception.model.onnx_file import GRAPH_FIELD, fields, read_onnx_file
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.spec import (
    FP32,
    GALLERY_KEY,
    METADATA_KEY,
    SPEC_VERSION,
    CheckedOutput,
    GallerySpec,
    ModelSpec,
    ParityRecord,
    PrecisionRecord,
    TrainingRecord,
)
from training import moved_data
from training.calibration import exported_rule, whole
from training.calibration.whole import Whole
from training.checkpoint import Checkpoint, load
from training.config import preparation
from training.graphs import certificate, gallery, image_statistics, score_map, trace
from training.graphs.certificate import Network
from training.graphs.dilation import Dense
from training.graphs.ensembles import join
from training.graphs.ensembles.joint import Joint, MeanScore, Member
from training.graphs.gallery import Reference
from training.graphs.parity import ParityError, require_parity, runner
from training.graphs.quantise import CALIBRATION_IMAGES, MAX_ACCURACY_LOSS, AccuracyError, Reduction, reduce
from training.networks import backbones
from training.networks.build import restore
from training.networks.untrained import untrained
from training.report import model_file
from training.run_files import make_folder, replacing, require_own_model

PARITY_IMAGES = 64
_LARGEST_FILE_BYTES = 2**31 - 1  # protobuf's limit for one message
_NOT_MEASURED = ParityRecord("noise", images=0, max_logit_difference=0.0, tolerance=0.0, top1_agreement=0.0)


def export(
    checkpoint: Checkpoint,
    output: Path,
    *,
    tolerance: float | None = None,
    parity_images: int = PARITY_IMAGES,
    reduction: Reduction | None = None,
    references: Sequence[Reference] = (),
    score_map_stride: int | None = None,
    members: Sequence[Member] = (),
) -> ModelSpec:
    """Writes the model file of a checkpoint, complete and verified or not at all.

    Args:
        checkpoint: What training left, or `networks.untrained` made, or `calibration.whole` describes.
        output: The .onnx file; an older one is replaced only on success.
        tolerance: Largest difference of a logit that is accepted, above 0, by the measure of the precision, see
            `spec.OutputCheck`; None for that of `certificate.TOLERANCES`.
        parity_images: How many validation images are compared at most, at least 1.
        reduction: How the float32 graph is made smaller once it is verified; None leaves it.
        references: Images whose embeddings by the final graph travel in the file, see `gallery`.
        score_map_stride: Pixels between neighbouring cells of the score map, a part of what the network has by itself;
            its last stages are dilated for that, see `dilation`. None leaves it.
        members: The networks of which the checkpoint describes the whole; none where it has its own.

    Returns:
        The description written into the file.

    Raises:
        ParityError: If the file and torch differ too much, or its unknown rule does not keep what it promises.
        AccuracyError: If the smaller graph loses too much accuracy.
        ConfigError: If a setting is out of range, or the network cannot be exported.
        DataError: If the checkpoint does not fit its architecture, or the file cannot be written.
    """
    if (tolerance is not None and not tolerance > 0) or parity_images < 1:
        raise ConfigError(f"tolerance {tolerance:g}, parity images {parity_images}: both must be above 0")
    make_folder(output.parent)
    require_own_model(output)
    if members and score_map_stride is not None:
        raise ConfigError("--score-map-stride: a file of several networks has no score map; leave it out")
    made, network = _joined(checkpoint, members) if members else _traced(checkpoint, score_map_stride)
    graph, precision = _graph(made, network, checkpoint, parity_images, reduction)
    spec = _describe(checkpoint, graph, precision)
    embedded = gallery.embed(graph.proto, references, spec.input) if references else None
    allowed = certificate.tolerances(precision.precision, tolerance)
    with replacing(output) as file:
        _write(file, graph.proto, spec, None)
        measured = _digest_of_graph(Path(file.name))
        spec = _measured(spec, Path(file.name), network, checkpoint, parity_images, allowed)
        spec = dataclasses.replace(spec, statistics=image_statistics.measure(graph.proto, checkpoint, spec))
        if embedded is not None:
            spec = dataclasses.replace(spec, gallery=GallerySpec(embedded.names, embedded.dimensions))
        _write(file, graph.proto, spec, embedded)
        if _digest_of_graph(Path(file.name)) != measured:
            raise ParityError("the graph that was written is not the one that was measured; nothing is written")
    return spec


def _traced(checkpoint: Checkpoint, score_map_stride: int | None) -> tuple[trace.Graph, Network]:
    """The graph of a checkpoint's network, and that network."""
    member = network_of(checkpoint)
    made = trace.make(member.split, checkpoint, score_map_stride)
    return made, Network(member.model, member.split, made.dense)


def _joined(checkpoint: Checkpoint, members: Sequence[Member]) -> tuple[trace.Graph, Network]:
    """The graph of several networks, and they together."""
    made, joint = join.make(members, checkpoint)
    return made, Network(MeanScore(members, checkpoint.task, checkpoint.input).eval(), joint)


def network_of(checkpoint: Checkpoint) -> Member:
    """Returns the network of a checkpoint, which gives numbers in their units, cut at its last spatial features."""
    model = _restore(checkpoint)
    split = backbones.split(model, checkpoint.input.height, checkpoint.input.width)
    return Member(model, split, checkpoint.calibration.temperature, checkpoint.input)


def _graph(
    graph: trace.Graph, network: Network, checkpoint: Checkpoint, parity_images: int, reduction: Reduction | None
) -> tuple[trace.Graph, PrecisionRecord]:
    """Returns a graph in the precision asked for, which is valid ONNX, and what that costs."""
    onnx.checker.check_model(graph.proto)
    if reduction is None:
        return graph, FP32
    exact = certificate.TOLERANCES["fp32"]["logits"]
    require_parity(graph.proto, network.model, checkpoint, parity_images, exact)  # nothing else is made smaller
    proto, cost = reduce(graph.proto, checkpoint, reduction)
    allowed = certificate.TOLERANCES[reduction.precision]["score_map"]
    if isinstance(network.split, Joint):
        return dataclasses.replace(graph, proto=proto), cost
    dense = graph.dense or Dense(network.split)
    place = score_map.keep_map(proto, graph.score_map, dense, checkpoint, allowed)
    return dataclasses.replace(graph, proto=proto, score_map=place), cost


def _describe(checkpoint: Checkpoint, graph: trace.Graph, precision: PrecisionRecord) -> ModelSpec:
    """Returns the description of a graph, but for its certificate, its statistics and its gallery."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    rule = exported_rule.refit(checkpoint, runner(graph.proto, ["logits", "embedding"]))
    return ModelSpec(
        version=SPEC_VERSION,
        task=checkpoint.task,
        architecture=backbones.public_name(checkpoint.backbone),
        class_names=checkpoint.class_names,
        units=checkpoint.units,
        input=checkpoint.input,
        activation=graph.activation,
        temperature=checkpoint.calibration.temperature,
        thresholds=checkpoint.calibration.thresholds,
        unknown=rule,
        training=TrainingRecord(**checkpoint.training, code_version=cnn_perception.__version__, created=now),
        parity=_NOT_MEASURED,
        precision=precision,
        score_map=graph.score_map,
        gallery=None,
        statistics=None,
    )


def _measured(
    spec: ModelSpec,
    path: Path,
    network: Network,
    checkpoint: Checkpoint,
    parity_images: int,
    allowed: Mapping[CheckedOutput, float],
) -> ModelSpec:
    """Returns the description with the certificate of the file at a path.

    Raises:
        ParityError: If an output, or the share of false alarms, is beyond what is allowed.
    """
    model = OnnxModel(path, certificate.ON_CPU)
    parity = certificate.certify(model, network, checkpoint, parity_images, allowed)
    if spec.unknown is not None and spec.unknown.known_images:
        measured = exported_rule.measure(spec.unknown, checkpoint, exported_rule.run_of(model))
        exported_rule.require_promise(spec.unknown, measured)
    return dataclasses.replace(spec, parity=parity)


def _digest_of_graph(path: Path) -> str:
    """Returns the SHA-256 of the graph in a file, which the description beside it does not change."""
    data = read_onnx_file(path).data
    digest = hashlib.sha256()
    for number, first, last in fields(data, 0, len(data)):
        if number == GRAPH_FIELD:
            digest.update(data[first:last])
    return digest.hexdigest()


def _write(file: IO[bytes], proto: ModelProto, spec: ModelSpec, embedded: Gallery | None) -> None:
    """Writes the model file from its beginning; description and gallery travel in its metadata."""
    properties = {METADATA_KEY: spec.to_json()}
    if embedded is not None:
        properties[GALLERY_KEY] = embedded.to_metadata()
    onnx.helper.set_model_props(proto, properties)
    file.seek(0)
    file.truncate()
    file.write(proto.SerializeToString())
    file.flush()


def _require_size(size_bytes: int, what: str) -> None:
    if size_bytes > 0.97 * _LARGEST_FILE_BYTES:
        raise ConfigError(f"{what} exceeds the 2 GB of one ONNX file; choose a smaller backbone")


def _restore(checkpoint: Checkpoint) -> nn.Module:
    _require_size(sum(value.nbytes for value in checkpoint.model.values()), checkpoint.backbone)
    model = restore(checkpoint).requires_grad_(False).eval()
    if checkpoint.scaling:
        _answer_in_units(model, checkpoint)
    return model


def _answer_in_units(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Folds the scaling of the numbers into the last layer: training let the network give standard deviations."""
    size = checkpoint.input
    image = torch.randn(2, 3, size.height, size.width, generator=torch.Generator().manual_seed(0))
    mean, deviation = torch.tensor(checkpoint.scaling).T
    last = model.get_submodule(backbones.classifier_name(model))
    expected = model(image) * deviation + mean
    if isinstance(last, nn.Linear) and last.bias is not None:
        last.weight.mul_(deviation[:, None])
        last.bias.mul_(deviation).add_(mean)
    if not ((model(image) - expected).abs() <= 1e-3 * deviation + 1e-5 * mean.abs()).all():
        raise ConfigError(f"{checkpoint.backbone} does not end in a linear layer with bias, as numbers need")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.export", description="Makes a verified ONNX model file.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--checkpoint",
        type=Path,
        nargs="+",
        help="best.pt or last.pt of a training run; of several runs, or all folds of one, the mean of their scores "
        "becomes one file, whose temperature, thresholds and unknown rule are fitted to images that none of them was "
        "trained on",
    )
    source.add_argument("--backbone", help="instead: a network by name, as for training.train, without training")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        help="of --checkpoint: where its images are now, if they were moved; of several folders and tables each in the "
        "order of the training; all are read and compared",
    )
    parser.add_argument(
        "--calibrate-on",
        type=Path,
        nargs="+",
        help="of several --checkpoint: labelled images to fit the whole to instead of their validation images, such as "
        "the data set of a cross-validation, whose folds were trained on each other's; what one of them was trained "
        "on is left out",
    )
    parser.add_argument(
        "--weights", help="of --backbone: imagenet, none (default), or a file of torch or safetensors, of any program"
    )
    parser.add_argument("--classes", help="of --backbone: their number, or a file with their names, one a line")
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
    compared.add_argument("--gallery-images", type=Path, metavar="DIR", help="instead: those of all images below DIR")


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
    _require_size(sum(value.nbytes for one in saved for value in one.model.values()), f"{len(saved)} networks together")
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


if __name__ == "__main__":
    sys.exit(main())

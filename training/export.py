"""Checkpoint -> model file: one ONNX graph that carries its own description and the proof that it computes the same.

    python -m training.export --checkpoint RUN/best.pt --output models/NAME.onnx
    python -m training.export --checkpoint RUN/best.pt --output models/NAME_int8.onnx --int8
    python -m training.export --checkpoint RUN/best.pt --output models/NAME.onnx --gallery
    python -m training.export --backbone resnet18 --weights none --classes 1000 --output models/NAME.onnx

Nothing is written unless ONNX Runtime's logits and activation maps are those of torch (see `parity`).
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto
from torch import nn

import cnn_perception
from cnn_perception.commands import exit_code
from cnn_perception.errors import EXIT_BELOW_TARGET, EXIT_OK, ConfigError, DataError, ModelError
from cnn_perception.model.gallery import Gallery
from cnn_perception.model.onnx_file import read_onnx_file
from cnn_perception.model.spec import (
    FP32,
    GALLERY_KEY,
    IMAGENET_MEAN,
    IMAGENET_STD,
    METADATA_KEY,
    SPEC_VERSION,
    ActivationSpec,
    GallerySpec,
    InputSpec,
    ModelSpec,
    ParityRecord,
    PrecisionRecord,
    ScoreMapSpec,
    TrainingRecord,
)
from training.checkpoint import UNCALIBRATED, Checkpoint, load
from training.graphs import gallery, image_statistics, score_map, trace
from training.graphs.gallery import Reference
from training.graphs.parity import ParityError, compare_logits
from training.graphs.quantise import CALIBRATION_IMAGES, MAX_ACCURACY_LOSS, AccuracyError, Reduction, reduce
from training.networks import backbones
from training.networks.build import restore
from training.networks.weights import published_weights
from training.run_files import replacing
from training.tasks.by_name import task_of

TOLERANCE = 1e-3
"""Largest difference of a logit; float32 in another order of summation differs by some 1e-6 of the logits' size."""
PARITY_IMAGES = 64
_LARGEST_FILE_BYTES = 2**31 - 1  # protobuf's limit for one message


def export(
    checkpoint: Checkpoint,
    output: Path,
    *,
    tolerance: float = TOLERANCE,
    parity_images: int = PARITY_IMAGES,
    reduction: Reduction | None = None,
    references: Sequence[Reference] = (),
) -> ModelSpec:
    """Writes the model file of a checkpoint, complete and verified or not at all.

    Args:
        checkpoint: What training left, or `untrained` made.
        output: The .onnx file; an older one is replaced only on success.
        tolerance: Largest absolute difference of a logit that is accepted, above 0.
        parity_images: How many validation images are compared at most, at least 1.
        reduction: How the float32 graph is made smaller once it is verified; None leaves it.
        references: Images whose embeddings by the final graph travel in the file, see `gallery`.

    Returns:
        The description written into the file.

    Raises:
        ParityError: If the float32 graph and torch differ too much.
        AccuracyError: If the smaller graph loses too much accuracy.
        ConfigError: If a setting is out of range, or the network cannot be exported.
        DataError: If the checkpoint does not fit its architecture, or the file cannot be written.
    """
    if not tolerance > 0 or parity_images < 1:
        raise ConfigError(f"tolerance {tolerance:g}, parity images {parity_images}: both must be above 0")
    _make_folder(output.parent)
    _require_own(output)
    model = _restore(checkpoint)
    compare = partial(compare_logits, model=model, checkpoint=checkpoint, count=parity_images, tolerance=tolerance)
    graph = _trace(model, checkpoint)
    parity = compare(graph.proto)
    precision = FP32
    if reduction is not None:
        graph, precision = _reduce(graph, checkpoint, reduction)
        parity = compare(graph.proto, is_exact=False)
    spec = _describe(checkpoint, graph, parity, precision)
    found = gallery.embed(graph.proto, references, spec.input) if references else None
    if found is not None:
        spec = dataclasses.replace(spec, gallery=GallerySpec(found.names, found.dimensions))
    _write(graph.proto, spec, found, output)
    return spec


def _require_own(output: Path) -> None:
    """Refuses to overwrite what is no model file."""
    if os.path.lexists(output):
        try:
            read_onnx_file(output)
        except ModelError:
            raise ConfigError(f"{output}: is there already and no model file; choose another --output") from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror}); choose another --output") from None


def _trace(model: nn.Module, checkpoint: Checkpoint) -> trace.Graph:
    """Returns the float32 graph of a network, which is valid ONNX."""
    split = backbones.split(model, checkpoint.input.height, checkpoint.input.width)
    graph = trace.make(split, checkpoint)
    onnx.checker.check_model(graph.proto)
    return graph


def _reduce(graph: trace.Graph, checkpoint: Checkpoint, wanted: Reduction) -> tuple[trace.Graph, PrecisionRecord]:
    """Returns the smaller graph, with the score map where that still holds, and what it costs."""
    proto, cost = reduce(graph.proto, checkpoint, wanted)
    place = score_map.keep_map(proto, graph.score_map, checkpoint.input)
    return dataclasses.replace(graph, proto=proto, score_map=place), cost


def _describe(
    checkpoint: Checkpoint, graph: trace.Graph, parity: ParityRecord, precision: PrecisionRecord
) -> ModelSpec:
    """Returns the description of a graph, but for its gallery."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    spec = ModelSpec(
        version=SPEC_VERSION,
        task=checkpoint.task,
        architecture=checkpoint.backbone,
        class_names=checkpoint.class_names,
        units=checkpoint.units,
        input=checkpoint.input,
        activation=graph.activation,
        temperature=checkpoint.calibration.temperature,
        thresholds=checkpoint.calibration.thresholds,
        unknown=checkpoint.calibration.unknown,
        training=TrainingRecord(**checkpoint.training, code_version=cnn_perception.__version__, created=now),
        parity=parity,
        precision=precision,
        score_map=graph.score_map,
        gallery=None,
        statistics=None,
    )
    return dataclasses.replace(spec, statistics=image_statistics.measure(graph.proto, checkpoint, spec))


def _write(proto: ModelProto, spec: ModelSpec, found: Gallery | None, output: Path) -> None:
    """Writes the model file; description and gallery travel in its metadata."""
    properties = {METADATA_KEY: spec.to_json()}
    if found is not None:
        properties[GALLERY_KEY] = found.to_metadata()
    onnx.helper.set_model_props(proto, properties)
    with replacing(output) as file:
        file.write(proto.SerializeToString())


def untrained(backbone: str, weights: str, class_names: Sequence[str], size: InputSpec) -> Checkpoint:
    """Makes the checkpoint of a network as it is published, or of random weights (seeded).

    Args:
        backbone: As for `backbones.build`.
        weights: As for `backbones.load_weights`.
        class_names: The classes that the weights know; with `none` any.
        size: The preprocessing that the weights expect.

    Raises:
        ConfigError: If the backbone or the weights cannot be had, or the weights know another number of classes.
    """
    torch.manual_seed(0)
    model = backbones.build(backbone, len(class_names))
    origin = _load_published(model, backbone, weights, len(class_names))
    training: dict[str, Any] = {"mode": "none", "weights": origin, "data": "", "data_sha256": ""}
    training |= {"train_images": 0, "val_images": 0, "metrics": {}}
    return Checkpoint(
        backbone=backbone,
        task="multiclass",
        class_names=tuple(class_names),
        units=(),
        scaling=(),
        input=size,
        model=model.state_dict(),
        training=training,
        train_images=(),
        val_images=(),
        calibration=UNCALIBRATED,
        config={},
        resume=None,
    )


def _load_published(model: nn.Module, backbone: str, weights: str, classes: int) -> str:
    """Loads weights, the last layer's too; returns where they come from."""
    last = model.get_submodule(backbones.classifier_name(model))
    before = [parameter.clone() for parameter in last.parameters()]
    origin = backbones.load_weights(model, backbone, weights)
    if weights != "none" and all(torch.equal(old, new) for old, new in zip(before, last.parameters(), strict=True)):
        raise ConfigError(f"{origin}: its last layer is not one of {classes} classes; give its --classes")
    return origin


def _restore(checkpoint: Checkpoint) -> nn.Module:
    if sum(value.nbytes for value in checkpoint.model.values()) > 0.97 * _LARGEST_FILE_BYTES:
        raise ConfigError(f"{checkpoint.backbone} exceeds the 2 GB of one ONNX file; choose a smaller backbone")
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


def _published(options: argparse.Namespace) -> Checkpoint:
    """Makes the checkpoint that --backbone, --weights, --classes and --size ask for."""
    backbones.check_name(options.backbone)
    size = InputSpec(224, 224, "crop", 0.875, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    names = _class_names(options.classes)
    if options.weights == "imagenet":
        published = published_weights(options.backbone)
        names = names or _numbered(published.meta["categories"])
        size = _input_of(published.transforms())
    if not names:
        raise ConfigError("--classes is missing: give their number, or a JSON file with the list of their names")
    if options.size:
        size = dataclasses.replace(size, height=options.size[0], width=options.size[1])
    return untrained(options.backbone, options.weights or "none", names, size)


def _input_of(preset: Any) -> InputSpec:  # noqa: ANN401 - torchvision has no types
    """Returns the preprocessing that comes with published weights, a torchvision `ImageClassification` preset."""
    (side,) = preset.crop_size
    (resized,) = preset.resize_size
    mean = tuple(preset.mean)
    std = tuple(preset.std)
    return InputSpec(side, side, "crop", side / resized, preset.interpolation.value, mean, std)


def _class_names(text: str | None) -> list[str]:
    if text is None:
        return []
    if text.isdecimal():
        return [f"class {index}" for index in range(int(text))]
    try:
        names = json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"--classes {text}: neither a number nor a readable JSON file ({error})") from None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"--classes {text}: must hold a list of names, in the order of the logits")
    return _numbered(names)


def _numbered(names: Sequence[str]) -> list[str]:
    """Tells equal names apart: many lists of ImageNet's classes have two `crane` and two `maillot`."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def _summary(spec: ModelSpec, output: Path) -> str:
    """Returns what is in a model file, a line each."""
    size = spec.input
    outputs = f"{len(spec.class_names)} {task_of(spec.task).decisions}"
    rows = {
        "model": f"{output} ({output.stat().st_size / 1e6:.1f} MB)",
        "network": f"{spec.architecture}, {outputs}, weights {spec.training.weights}",
        "input": f"{size.height}x{size.width}, {size.resize_mode} {size.crop_fraction:g}, {size.interpolation}",
        "activation": _activation_line(spec.activation),
        "score map": _score_map_line(spec.score_map),
        "parity": _parity_line(spec),
    }
    if spec.precision.precision != "fp32":
        rows["precision"] = _precision_line(spec.precision)
    rows["statistics"] = image_statistics.summary(spec.statistics)
    if spec.gallery is not None:
        rows["gallery"] = f"{len(spec.gallery.names)} images of {spec.gallery.dimensions} numbers, with their names"
    return "\n".join(f"{name:<12}{value}" for name, value in rows.items())


def _activation_line(cells: ActivationSpec | None) -> str:
    if cells is None:
        return "none: the network has no spatial features"
    down, right = cells.stride
    field = " x ".join(str(pixels or "all") for pixels in cells.receptive_field)
    grid = f"{cells.rows}x{cells.columns} cells every {down:g} x {right:g} pixels"
    return f"{cells.method}, {grid}, each seeing {field}"


def _score_map_line(place: ScoreMapSpec | None) -> str:
    if place is None:
        return "none: the network is not convolutional throughout"
    down, right = place.stride
    return f"an answer every {down:g} x {right:g} pixels of a larger image"


def _parity_line(spec: ModelSpec) -> str:
    parity = spec.parity
    kind = spec.precision.precision
    judged = f"tolerance {parity.tolerance:g}"
    if kind != "fp32":
        judged = f"of the {kind} file itself; {judged} is for fp32"
    agreed = f"{task_of(spec.task).agreement} on {parity.top1_agreement:.1%} of {parity.images} {parity.source} images"
    return f"logits within {parity.max_logit_difference:.2g} ({judged}), {agreed}"


def _precision_line(cost: PrecisionRecord) -> str:
    figures = f"{cost.metric} {cost.after:.4f}, in fp32 {cost.before:.4f}"
    line = f"{cost.precision}: {figures}, on {cost.images} validation images"
    return f"{line}; calibrated on {cost.calibration_images} others" if cost.calibration_images else line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.export", description="Makes a verified ONNX model file.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="best.pt or last.pt of a training run")
    source.add_argument("--backbone", help="instead: a torchvision or classic network, without training")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument("--weights", help="of --backbone: imagenet, none (default), or a .pth or .safetensors file")
    parser.add_argument("--classes", help="of --backbone: their number, or a JSON file with the list of names")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of --backbone: input pixels")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="largest difference, of numbers in standard deviations (%(default)s)",
    )
    parser.add_argument("--parity-images", type=int, default=PARITY_IMAGES, help="images compared (%(default)s)")
    _add_reduction(parser)
    _add_references(parser)
    return parser


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
    if options.checkpoint and (options.weights or options.classes or options.size):
        parser.error("--weights, --classes and --size belong to --backbone: a checkpoint carries its own")
    if options.backbone and (options.int8 or options.fp16):
        parser.error("--int8 and --fp16 belong to --checkpoint: what they cost is measured on its images")
    if options.backbone and options.gallery is not None:
        parser.error("--gallery belongs to --checkpoint: it stores its training images; take --gallery-images DIR")


def _export_as_asked(options: argparse.Namespace) -> ModelSpec:
    """Exports what the options name."""
    checkpoint = load(options.checkpoint) if options.checkpoint else _published(options)
    print(f"exporting {checkpoint.backbone} at {checkpoint.input.height}x{checkpoint.input.width} pixels", flush=True)
    return export(
        checkpoint,
        options.output,
        tolerance=options.tolerance,
        parity_images=options.parity_images,
        reduction=_reduction(options),
        references=_references(options, checkpoint),
    )


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
        return EXIT_BELOW_TARGET
    print(_summary(spec, options.output))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

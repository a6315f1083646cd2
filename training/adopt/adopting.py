"""Foreign file -> model file: read, rewritten, measured, certified, and written complete or not at all."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import onnx
from onnx import ModelProto, TensorProto

import cnn_perception
from cnn_perception.errors import ConfigError, ModelError, one_line
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.spec import (
    ADOPTED,
    FP32,
    METADATA_KEY,
    SPEC_VERSION,
    TAKEN_FOR_EXCLUSIVE,
    ActivationSpec,
    InputSpec,
    ModelSpec,
    ParityRecord,
    ParitySource,
    Precision,
    PrecisionRecord,
    TrainingRecord,
)
from training.adopt import certificate, labels, measuring
from training.adopt.foreign_file import ForeignModel, read
from training.adopt.graph import batches, head, image_input, own_normalisation, rewriting, scores_output
from training.adopt.graph.completing import completed
from training.adopt.graph.head import Head
from training.adopt.graph.image_input import ChannelOrder, ImageInput
from training.adopt.graph.scores_output import SEVERAL_CLASSES, ScoresOutput
from training.adopt.labels import Labels
from training.adopt.preparation import as_exported, doubts, input_of
from training.adopt.reference import Reference
from training.adopt.remarks import Remark
from training.class_names import of_networks
from training.class_names.of_networks import Carried
from training.config.preparation import Preparation
from training.graphs.certificate import ON_CPU, tolerances
from training.graphs.parity import Image, evenly, prepared_image
from training.run_files import make_output, replacing, require_own_model
from training.tasks.choices import TaskChoice
from training.tasks.multilabel import THRESHOLD

_NOT_MEASURED = ParityRecord("noise", images=0, max_logit_difference=0.0, tolerance=0.0, top1_agreement=0.0)
_QUANTISED = {
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
}
_EXCLUSIVE = (
    "that an image shows one of its classes alone: its numbers, at whose end is no softmax, are taken for the logits "
    "of such classes; give --task multilabel where several can be shown at once"
)


@dataclass(frozen=True)
class Options:
    """What the user says of a foreign file.

    Attributes:
        model: The file.
        output: The model file to write.
        classes: Names in the order of the outputs; empty takes those of its metadata.
        preparation: How images are prepared.
        output_name: The output that answers; None where there is only one that can.
        order: Of the colours that it takes.
        task: What its outputs mean.
        data: Labelled images; empty without.
        tolerance: As for `training.export`; None for the usual one.
        images: How many images are compared at most, at least 1.
    """

    model: Path
    output: Path
    classes: tuple[str, ...] = ()
    preparation: Preparation = Preparation()  # noqa: RUF009  (frozen)
    output_name: str | None = None
    order: ChannelOrder = "rgb"
    task: TaskChoice = "auto"
    data: tuple[Path, ...] = ()
    tolerance: float | None = None
    images: int = 64


@dataclass(frozen=True, eq=False)
class Adopted:
    """A file that was written.

    Attributes:
        spec: Its description.
        remarks: What its owner should know beside it.
    """

    spec: ModelSpec
    remarks: tuple[Remark, ...]

    def all_remarks(self) -> tuple[Remark, ...]:
        """Returns the remarks, and what the description itself leaves open and none of them tells more exactly."""
        covered = {remark.covers for remark in self.remarks}
        return (*self.remarks, *(Remark(line, "not proven") for line in self.spec.unproven() if line not in covered))


@dataclass(frozen=True, eq=False)
class _Made:
    """A rewritten graph, with what it was made of."""

    foreign: ForeignModel
    image: ImageInput
    size: InputSpec
    scores: ScoresOutput
    rewritten: rewriting.Rewritten
    head: Head
    proto: ModelProto
    cells: ActivationSpec | None
    any_batch: bool


def adopt(options: Options) -> Adopted:
    """Writes a model file of a foreign classifier.

    Raises:
        ModelError: If the file is no classifier of images that the robot can run; ParityError, if the file that
            was made does not answer as the original does.
        ConfigError: If the options contradict the file or each other, or leave open what nobody can guess.
        DataError: If the labelled images cannot be used, or the file cannot be written.
    """
    if (options.tolerance is not None and not options.tolerance > 0) or options.images < 1:
        raise ConfigError("--tolerance and --parity-images must be above 0")
    require_own_model(options.output)
    make_output(options.output.parent)
    foreign = read(options.model)
    carried = of_networks.carried(foreign.metadata)
    names = of_networks.settled(options.classes, carried, str(options.model))
    preparation, assumed = as_exported(options.preparation, foreign)
    made = _made(foreign, options, preparation, names)
    spec = _described(made, names)
    data = labels.load(options.data, spec) if options.data else None
    doubtful = doubts(spec.input, made.image, own_normalisation.find(foreign.upgraded, made.image))
    with replacing(options.output) as file:
        spec, measured = _written(file, made, spec, data, options)
    remarks = [*map(Remark, (*assumed, *_notes(made, options, carried), *doubtful)), *measured]
    if made.scores.by_values:
        remarks.append(Remark(f"{made.scores.by_values}{_if_wrong(made.scores)}", "not proven"))
    if options.task == "auto" and made.scores.form == "logits" and not made.scores.behind:
        remarks.append(Remark(_EXCLUSIVE, "not proven", covers=TAKEN_FOR_EXCLUSIVE))
    return Adopted(spec, tuple(remarks))


def _written(
    file: IO[bytes], made: _Made, spec: ModelSpec, data: Labels | None, options: Options
) -> tuple[ModelSpec, tuple[Remark, ...]]:
    """Writes the model file, measured on labelled images if there are any, and certified.

    Returns:
        Its description, and what its owner should know of the images.
    """
    path = Path(file.name)
    reference = Reference(made.foreign.original, made.image, made.scores, made.head, made.rewritten, spec.input)
    allowed = tolerances(spec.precision.precision, options.tolerance)
    source: ParitySource = "noise"
    images: list[Image] = certificate.noise(spec.input)
    told: tuple[Remark, ...] = ()
    if data is not None:
        _write(file, made.proto, spec)
        measured = measuring.measure(OnnxModel(path, ON_CPU), data, made.image, made.scores.form == "logarithm")
        spec = measured.spec
        told = measured.remarks
        source = "validation"
        images = _of_files(measured.images, spec.input, options.images)
    _write(file, made.proto, spec)
    parity = certificate.certify(OnnxModel(path, ON_CPU), reference, images[: options.images], source, allowed)
    spec = dataclasses.replace(spec, parity=parity)
    _write(file, made.proto, spec)
    return spec, told


def _made(foreign: ForeignModel, options: Options, preparation: Preparation, names: Sequence[str]) -> _Made:
    where = str(options.model)
    upgraded = foreign.upgraded
    image = image_input.find(upgraded, preparation.size, options.order, where)
    image_input.with_size(upgraded, image)
    size = input_of(preparation, image, where)
    scores = scores_output.find(upgraded, image, size, options.output_name, options.task, where)
    of_networks.require_count(names, scores.classes, scores.name, where)
    try:
        first = rewriting.rewritten(upgraded, image, scores)
        rewritten, any_batch = batches.settled(first, image, where)
        found = head.find(rewritten.proto, (image.height, image.width))
        proto, cells = completed(rewritten.proto, found)
    except ModelError as error:
        raise ModelError(f"{where}: {one_line(error).removeprefix(f'{where}: ')}") from None
    return _Made(foreign, image, size, scores, rewritten, found, proto, cells, any_batch)


def _described(made: _Made, names: tuple[str, ...]) -> ModelSpec:
    """Returns the description of a graph that nothing was measured of."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    path = made.foreign.path
    several = made.scores.task == SEVERAL_CLASSES
    return ModelSpec(
        version=SPEC_VERSION,
        task=made.scores.task,
        architecture=path.stem,
        class_names=names,
        units=(),
        input=made.size,
        activation=made.cells,
        temperature=1.0,
        thresholds=(THRESHOLD,) * len(names) if several else (),
        unknown=None,
        training=TrainingRecord(
            mode=ADOPTED,
            weights=f"{path.name} sha256:{made.foreign.sha256}",
            data="",
            data_sha256="",
            train_images=0,
            val_images=0,
            metrics={},
            code_version=cnn_perception.__version__,
            created=now,
        ),
        parity=_NOT_MEASURED,
        precision=_precision(made.foreign.original),
        score_map=None,
        gallery=None,
        statistics=None,
    )


def _precision(proto: ModelProto) -> PrecisionRecord:
    """Returns the arithmetic of most of a graph."""
    kind: Precision = "fp32"
    if any(node.op_type in _QUANTISED for node in proto.graph.node):
        kind = "int8"
    elif any(tensor.data_type == TensorProto.FLOAT16 for tensor in proto.graph.initializer):
        kind = "fp16"
    return dataclasses.replace(FP32, precision=kind)


def _of_files(paths: Sequence[Path], size: InputSpec, count: int) -> list[Image]:
    chosen = [paths[index] for index in evenly(len(paths), count)]
    return [partial(prepared_image, path, size, "validation") for path in chosen]


def _write(file: IO[bytes], proto: ModelProto, spec: ModelSpec) -> None:
    """Writes the model file from its beginning."""
    onnx.helper.set_model_props(proto, {METADATA_KEY: spec.to_json()})
    file.seek(0)
    file.truncate()
    file.write(proto.SerializeToString())
    file.flush()


def _if_wrong(scores: ScoresOutput) -> str:
    """Says what follows where numbers that are like scores were taken for logits; empty where they were not."""
    if not scores.in_doubt:
        return ""
    wrong = "all are then the second class" if scores.classes != scores.outputs else "all are nearly alike then"
    return f"; if they are scores the file is wrong, {wrong}: see what --data says of it"


def _notes(made: _Made, options: Options, carried: Carried) -> list[str]:
    """Says what was found and done, as far as the description does not say it."""
    scores = made.scores
    told = [f"the answer is its output {scores.name!r}"]
    if scores.sorted_in:
        told.append(f"its output {scores.sorted_in!r} holds the same numbers in another order for each image")
    if scores.behind:
        told.append(f"the {scores.behind} at its end is taken off: the logits are {scores.logits!r}")
    if scores.form == "logarithm":
        told.append("its scores add up to 1 by no softmax that can be taken off: the logits are their logarithms")
    if scores.form == "two classes":
        told.append("its one number is the logit of the second class, that of the first is 0")
    if scores.form == "one score":
        doubt = rewriting.LEAST_DOUBT
        told.append(
            "its one number, from 0 to 1, is the score p of the second class: no sigmoid was found to take off, the "
            f"logit is log(p / (1 - p)) with p kept from {doubt:g} to {1 - doubt:g}"
        )
    if not made.any_batch:
        told.append(
            "takes one image at once: set the node's max_batch_size to 1 for several cameras, its rois_batch_size to 1 "
            "for boxes"
        )
    if made.head.embedding == rewriting.LOGITS:
        told.append("no last linear layer was found: the embedding is the logits")
    if made.image.channels == 1:
        told.append("takes grey images: 0.299 red + 0.587 green + 0.114 blue")
    return [*told, *carried.remarks(options.classes)]

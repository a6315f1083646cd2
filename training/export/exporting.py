"""Checkpoint -> model file, which is written only where it answers, loaded as the robot loads it, as torch does."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import onnx
from onnx import ModelProto

import cnn_perception
from cnn_perception.errors import ConfigError
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
from training.calibration import exported_rule
from training.checkpoint import Checkpoint
from training.export.network import network_of
from training.graphs import certificate, gallery, image_statistics, score_map, trace
from training.graphs.certificate import Network
from training.graphs.dilation import Dense
from training.graphs.ensembles import join
from training.graphs.ensembles.joint import Joint, MeanScore, Member
from training.graphs.gallery import Reference
from training.graphs.parity import ParityError, require_parity, runner
from training.graphs.quantise import Reduction, reduce
from training.networks import backbones
from training.networks.libraries import own_errors
from training.run_files import make_output, replacing, require_own_model

PARITY_IMAGES = 64
_NOT_MEASURED = ParityRecord("noise", images=0, max_logit_difference=0.0, tolerance=0.0, top1_agreement=0.0)


@own_errors.blamed("exporting")
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
    if tolerance is not None and not tolerance > 0:
        raise ConfigError(f"--tolerance {tolerance:g}: must be above 0")
    if parity_images < 1:
        raise ConfigError(f"--parity-images {parity_images}: must be above 0")
    make_output(output.parent)
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

"""A network in torch -> its ONNX graph, with the activation map and the score map where it has them, both checked."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from onnx import ModelProto
from torch import nn

from cnn_perception.errors import ConfigError, one_line
from cnn_perception.model.spec import ActivationSpec, InputSpec, ScoreMapSpec
from training.checkpoint import Checkpoint
from training.graphs.activation_map import ActivatedClassifier
from training.graphs.convolve import NotConvolutionalError
from training.graphs.dilation import Dense, dilated
from training.graphs.parity import check_activation
from training.graphs.receptive_field import geometry, shapes_of
from training.graphs.score_map import WithDenseMap, WithScoreMap, map_head, open_map
from training.networks.backbones import Split

_LOG = logging.getLogger(__name__)


class _NoMapError(ConfigError):
    """A part of a network is none that ONNX has operators for, or not of one size; without maps it may be."""


@dataclass(frozen=True)
class Graph:
    """What a network became.

    Attributes:
        proto: `image` (N, 3, H, W) -> `logits`, `embedding`, and `activation` and `score_map` if any.
        activation: What the cells of the activation map mean; None where the network keeps no places.
        score_map: What those of the score map mean; None where the network is not convolutional throughout.
        dense: The network that the score map is of; None without one.
    """

    proto: ModelProto
    activation: ActivationSpec | None
    score_map: ScoreMapSpec | None
    dense: Dense | None = None


def make(split: Split, checkpoint: Checkpoint, map_stride: int | None = None) -> Graph:
    """Exports a network.

    Args:
        split: The network, with the weights of the checkpoint.
        checkpoint: Its task, its input size, and the images to check the activation map on.
        map_stride: Pixels between neighbouring cells of the score map; None for those that the network has.

    Raises:
        NotConvolutionalError: If there can be no score map of that stride; without one the log says so.
        ParityError: If the activation map is not that of torch.
        ConfigError: If the network is none that ONNX has operators for.
    """
    try:
        return _with_maps(split, checkpoint, map_stride)
    except _NoMapError as error:
        if map_stride is not None:
            raise
        _LOG.warning("no maps: %s", error)
    bare = ActivatedClassifier(dataclasses.replace(split, spatial=False, tokens=None), checkpoint.task)
    return Graph(to_onnx(bare.eval(), checkpoint.input, ("logits", "embedding")), None, None)


def _with_maps(split: Split, checkpoint: Checkpoint, map_stride: int | None) -> Graph:
    size = checkpoint.input
    dense = Dense(split) if map_stride is None else _dilated(split, map_stride)
    network = ActivatedClassifier(split, checkpoint.task).eval()
    if network.method is None:
        return Graph(to_onnx(network, size, ("logits", "embedding")), None, None)
    names = ("logits", "embedding", "activation", "features")
    head = map_head(dense)
    if head is None:
        proto = to_onnx(network, size, names)
    elif dense.apart == (1, 1):
        proto = to_onnx(WithScoreMap(network, head).eval(), size, (*names, "score_map"))
    else:
        proto = to_onnx(WithDenseMap(network, dense, head).eval(), size, (*names, "map_features", "score_map"))
    if not all(isinstance(cells, int) for cells in shapes_of(proto)["features"][2:]):
        raise _NoMapError("the network's features have no fixed number of cells")
    place = geometry(proto, "features")
    activation = ActivationSpec(network.method, *network.cells, place.stride, place.receptive_field, place.offset)
    shown = [output for output in proto.graph.output if output.name not in ("features", "map_features")]
    del proto.graph.output[:]
    proto.graph.output.extend(shown)  # those two were some only to be found by their names
    check_activation(proto, split, network.method, checkpoint)
    found = None if head is None else open_map(proto, split, dense, place, size)
    if map_stride is not None and found is None:
        raise NotConvolutionalError(
            f"--score-map-stride {map_stride}: there is no score map, as said above; leave it out"
        )
    return Graph(proto, activation, found, dense)


def _dilated(split: Split, map_stride: int) -> Dense:
    try:
        return dilated(split, map_stride)
    except NotConvolutionalError as error:
        raise NotConvolutionalError(f"--score-map-stride {map_stride}: {error}") from None


def to_onnx(network: nn.Module, size: InputSpec, outputs: Sequence[str]) -> ModelProto:
    """Exports a network for any number of images of one size.

    Args:
        network: Images (N, 3, H, W) -> a tensor for each of `outputs`; on the CPU, in evaluation mode.
        size: H and W.
        outputs: Names that its outputs get.

    Raises:
        ConfigError: If ONNX has no operators for it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about its own future
        try:
            program = torch.onnx.export(
                network,
                (torch.zeros(2, 3, size.height, size.width),),
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=["image"],
                output_names=list(outputs),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise _NoMapError(f"the network cannot be written as ONNX ({_innermost(error)})") from None
    assert program is not None
    proto: ModelProto = program.model_proto
    # The exporter notes the source line of every node, with paths of this machine.
    for item in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        item.doc_string = ""
        del item.metadata_props[:]
    return proto


def _innermost(error: BaseException) -> str:
    """Returns what the first of a chain of errors says."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error, 200)

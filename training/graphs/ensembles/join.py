"""Several networks in torch -> one ONNX graph, whose activation map is checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from onnx import ModelProto

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import ActivationSpec, InputSpec
from training.checkpoint import Checkpoint
from training.graphs.activation_map import shown_logit
from training.graphs.ensembles.joint import Joint, Member, Traced, map_by_autograd
from training.graphs.parity import ACTIVATION_TOLERANCE, ParityError, inputs, runner
from training.graphs.receptive_field import Geometry, geometry
from training.graphs.trace import Graph, to_onnx


def require_one_input(first: InputSpec, other: InputSpec, name: str) -> None:
    """Checks that two networks can look at one input.

    Raises:
        ConfigError: If they differ in more than mean and standard deviation; of padded ones, in these as well.
    """
    names = ("height", "width", "resize_mode", "crop_fraction", "interpolation")
    padded = ("mean",) if first.resize_mode == "letterbox" else ()
    for attribute in (*names, *padded):
        ours, theirs = getattr(first, attribute), getattr(other, attribute)
        if ours != theirs:
            raise ConfigError(
                f"--checkpoint {name}: its {attribute.replace('_', ' ')} is {theirs}, the first one's {ours}; networks "
                "of one file see one input: distil them into one network instead, by training.train --teacher"
            )


def make(members: Sequence[Member], checkpoint: Checkpoint) -> tuple[Graph, Joint]:
    """Exports several networks as one.

    Args:
        members: The networks.
        checkpoint: Describes the whole: its task, its input, and the images to check the activation map on.

    Returns:
        The graph, and the network that it was made of, which has a map if the graph has.

    Raises:
        ParityError: If the activation map is not that of torch.
    """
    joint = Joint(members, checkpoint.task, checkpoint.input).eval()
    proto, names = _traced(joint, checkpoint.input)
    places = [geometry(proto, name) for name in names] if joint.has_map else []
    if joint.has_map and len({(place.stride, place.offset) for place in places}) > 1:
        joint = joint.without_map()
        proto, names = _traced(joint, checkpoint.input)
    shown = [output for output in proto.graph.output if output.name not in names]
    del proto.graph.output[:]
    proto.graph.output.extend(shown)
    if not joint.has_map:
        return Graph(proto, None, None), joint
    _check(proto, joint, checkpoint)
    return Graph(proto, _cells(places, members[0].split.feature_shape), None), joint


def _traced(joint: Joint, size: InputSpec) -> tuple[ModelProto, list[str]]:
    """The graph, and the names of the features of each member in it."""
    features = [f"features_{number}" for number in range(len(joint.bodies))]
    names = ["logits", "embedding", *(["activation"] if joint.has_map else []), *features]
    return to_onnx(Traced(joint).eval(), size, names), features


def _cells(places: Sequence[Geometry], shape: Sequence[int]) -> ActivationSpec:
    """Where the cells lie; each sees what the member sees that sees most."""
    down, across = ([place.receptive_field[axis] for place in places] for axis in (0, 1))
    field = (0 if 0 in down else max(down), 0 if 0 in across else max(across))
    _, rows, columns = shape
    return ActivationSpec("grad-cam", rows, columns, places[0].stride, field, places[0].offset)


def _check(proto: ModelProto, joint: Joint, checkpoint: Checkpoint) -> None:
    """Compares the activation maps of a few images with those by torch's own gradient of every head."""
    batch = np.stack([image() for image in inputs(checkpoint, 4)[1]])
    logits, found = runner(proto, ["logits", "activation"])(batch)
    classes = shown_logit(torch.from_numpy(logits), checkpoint.task)
    expected = map_by_autograd(joint, torch.from_numpy(batch), classes).numpy()
    difference = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-20))
    if not difference <= ACTIVATION_TOLERANCE:
        raise ParityError(
            f"the activation map of the networks together differs by {difference:.3g} of its size from torch's, "
            f"tolerance {ACTIVATION_TOLERANCE:g}; nothing is written; please report the backbones {checkpoint.backbone}"
        )

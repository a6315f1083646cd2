"""The network of a run or of a checkpoint: a backbone, and its own head or one that keeps where things are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnn_perception.errors import ConfigError, DataError, one_line
from cnn_perception.model.spec import Task
from training.checkpoint import Checkpoint, load
from training.config import TrainConfig
from training.networks import backbones, initialisation
from training.networks.grid_head import with_grid_head
from training.networks.libraries import own_module
from training.networks.weights import Loaded, classifier_name
from training.tasks.by_name import task_of

_AUXILIARY = ("aux1.", "aux2.")
"""How the parameters of auxiliary classifiers begin."""


def start(config: TrainConfig, outputs: int) -> tuple[nn.Module, Loaded]:
    """Builds the network of a new run.

    Args:
        config: The settings; their seed decides on the new head.
        outputs: Width of the last layer.

    Returns:
        The network with the weights to start from, and what they are.

    Raises:
        ConfigError: If the network or its weights cannot be had.
    """
    torch.manual_seed(config.seed)
    auxiliary = has_auxiliary(config)
    model = backbones.build(
        config.backbone, outputs, dropout=config.dropout, size=config.input_size, auxiliary=auxiliary
    )
    initialisation.draw(model, config.init)
    backbones.require_normalisation(config.backbone, config.input)
    loaded = backbones.load_weights(model, config.backbone, config.weights)
    network = _with_head(model, outputs, config.input_size, config.to_dict())
    if network is not model:
        initialisation.draw(network.get_submodule(classifier_name(network)), config.init)
    return network, loaded


def has_auxiliary(config: TrainConfig) -> bool:
    """Returns whether a run learns with auxiliary classifiers: from random weights, and with the network's own head."""
    from_scratch = config.weights == "none" and config.mode != "probe"
    own_head = config.feature_layer is None and config.grid is None
    return config.backbone in backbones.AUXILIARY and config.auxiliary_weight > 0 and from_scratch and own_head


def restore(saved: Checkpoint) -> nn.Module:
    """Builds the network of a checkpoint, with its weights; without the auxiliary classifiers that it learned with.

    Raises:
        DataError: If the weights do not fit the architecture, or it comes from a file that may not be run.
    """
    outputs = len(saved.class_names)
    size = (saved.input.height, saved.input.width)
    name = saved.backbone
    if own_module.is_own(name):
        name = own_module.found_again(saved.source, name)
    model = _with_head(backbones.build(name, outputs, size=size), outputs, size, saved.config)
    known = {name: tensor for name, tensor in saved.model.items() if not name.startswith(_AUXILIARY)}
    try:
        model.load_state_dict(known)
    except RuntimeError as error:
        reason = one_line(error, 160)
        raise DataError(f"the checkpoint does not fit {saved.backbone} ({reason}); train again") from None
    return model


def kept_name(backbone: str) -> str:
    """Returns the name of a network as a run keeps it: a user's own file with its whole path."""
    return own_module.absolute(backbone) if own_module.is_own(backbone) else backbone


def resumed_name(backbone: str, last: Path) -> str:
    """Returns the name under which the network of a run that is continued may be built, see `own_module`.

    Args:
        backbone: As the run's settings have it.
        last: Its last.pt, which there may be none of yet.

    Raises:
        DataError: If it comes from a file that is gone, another one now, or may not be run.
    """
    if not own_module.is_own(backbone):
        return backbone
    source = load(last).source if last.is_file() else own_module.fields_of(backbone)
    return own_module.found_again(source, backbone)


def identity(backbone: str) -> str:
    """Returns what stands for a network's code where its results are kept: of a user's own file its content, too."""
    return f"{backbone} {own_module.digest_of(backbone)}" if own_module.is_own(backbone) else backbone


def _with_head(model: nn.Module, outputs: int, size: tuple[int, int], config: dict[str, Any]) -> nn.Module:
    """The checkpoint of published weights has no settings of a run, and keeps its own head."""
    layer = config.get("feature_layer")
    cells = config.get("grid")
    if layer is None and cells is None:
        return model
    rows, columns = cells or (1, 1)
    return with_grid_head(model, outputs, layer=layer, cells=(rows, columns), size=size, dropout=config.get("dropout"))


def check_last_layer(model: nn.Module, backbone: str, task: Task) -> None:
    """Checks that a network can give any number.

    Raises:
        ConfigError: If numbers are to be learned and its last layer is no linear one with a bias, such as SqueezeNet's.
    """
    last = model.get_submodule(classifier_name(model))
    if task_of(task).needs_linear_layer and not (isinstance(last, nn.Linear) and last.bias is not None):
        raise ConfigError(f"{backbone} does not end in a linear layer with bias, as numbers need; take --grid 1x1")

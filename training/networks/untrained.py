"""Networks that were not trained here, as checkpoints: with the weights that were published, or with random ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnn_perception.commands import for_shell
from cnn_perception.errors import ConfigError, printable
from cnn_perception.model.spec import InputSpec
from training.checkpoint import UNCALIBRATED, Checkpoint, is_own
from training.class_names import of_networks
from training.class_names.of_networks import Carried
from training.config.preparation import Preparation
from training.data import classes_file
from training.networks import backbones
from training.networks.libraries import own_module
from training.networks.libraries.by_name import library_of
from training.networks.weights import Loaded, published_weights
from training.torch_files import read_tensors

_UNSAID = (
    "note: the file does not say how images were prepared for these weights: taken as for ImageNet, see --mean, --std, "
    "--interpolation, --resize-mode and --crop-fraction"
)


def untrained(backbone: str, weights: str, classes: str | None, given: Preparation) -> Checkpoint:
    """Returns the checkpoint of a network as it is published, or of random weights (seeded).

    Args:
        backbone: As for `backbones.build`.
        weights: As for `backbones.load_weights`.
        classes: How many there are, or the path of a file with their names; None for those that the weights were
            published for, or that their file names.
        given: How images are prepared.

    Raises:
        ConfigError: If the backbone, the weights or the names cannot be had, the weights know another number of
            classes or the same ones in another order, or their file contradicts itself.
    """
    backbones.check_name(backbone)
    if own_module.is_own(backbone):
        own_module.allow(backbone)
    usual = library_of(backbone).input_of(backbone)
    content = None if weights in ("imagenet", "none") else read_tensors(Path(weights))
    if is_own(content):
        told = for_shell("--checkpoint", Path(weights))
        raise ConfigError(f"{weights}: is a checkpoint of this package, with classes and preprocessing: give {told}")
    found = of_networks.carried(content)
    if weights == "imagenet":
        published = published_weights(backbone)
        found = Carried({"weights": tuple(published.classes)}) if classes is None else found
        usual = published.input
    names, notes = _class_names(classes, found, weights)
    torch.manual_seed(0)
    model = backbones.build(backbone, len(names), size=given.size or (usual.height, usual.width))
    loaded = backbones.load_weights(model, backbone, weights, content)
    if weights != "none" and not loaded.head:
        raise ConfigError(f"{loaded.origin}: {_of_last_layer(loaded, len(names))}")
    if loaded.normalisation:
        mean, std = loaded.normalisation
        usual = dataclasses.replace(usual, mean=mean, std=std)
    elif loaded.said and (given.mean is None or given.std is None):
        raise ConfigError(f"{loaded.origin}: says itself of several mean and std; give {loaded.flags()}")
    prepared = given.of(usual)
    backbones.require_normalisation(backbone, prepared)
    for line in (*loaded.lines(prepared), *notes):
        print(line)
    if loaded.note and not loaded.said and given.mean is None and given.std is None:
        print(_UNSAID)
    return _checkpoint(backbone, model, names, loaded.origin, prepared)


def _of_last_layer(loaded: Loaded, classes: int) -> str:
    """Says what is wrong with the last layer of weights that is not taken, and what to do."""
    if loaded.classes == classes:
        return "its last layer has another shape than that of this network; name the network that it was trained as"
    if loaded.classes:
        return f"its last layer is not one of {classes} classes, but of {loaded.classes}; give its --classes"
    return (
        "it holds no last layer as this network has one, so that it cannot answer: train that with training.train "
        "--weights, or give the network's own code as --backbone FILE.py:FUNCTION"
    )


def _checkpoint(
    backbone: str, model: nn.Module, class_names: tuple[str, ...], origin: str, size: InputSpec
) -> Checkpoint:
    training: dict[str, Any] = {"mode": "none", "weights": origin, "data": "", "data_sha256": ""}
    training |= {"train_images": 0, "val_images": 0, "metrics": {}}
    return Checkpoint(
        backbone=backbone,
        task="multiclass",
        class_names=class_names,
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
        source=own_module.fields_of(backbone),
    )


def _class_names(classes: str | None, found: Carried, weights: str) -> tuple[tuple[str, ...], list[str]]:
    """Returns the names of the classes, and what of those in the file of the weights its user should know."""
    name = Path(weights).name
    if classes is not None and not classes.isdecimal():
        given = classes_file.read(classes)
        return of_networks.settled(given, found, weights), _of_file(name, found.remarks(given))
    count = of_networks.require_possible(int(classes)) if classes is not None else len(found.names)
    if found.names and count == len(found.names):
        taken = f"the names of the classes are those of its {found.key!r}: {of_networks.some(found.names)}"
        told = [*found.remarks(()), *([taken] if weights != "imagenet" else [])]
        return of_networks.settled((), found, weights), _of_file(name, told)
    if classes is None:
        raise ConfigError("--classes is missing: give their number, or a file with their names, one a line")
    given = tuple(f"class {index}" for index in range(count))
    return given, _of_file(name, found.remarks(given))


def _of_file(name: str, told: Sequence[str]) -> list[str]:
    return [printable(f"note: {name}: {line}") for line in told]

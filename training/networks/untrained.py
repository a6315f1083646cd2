"""Networks that were not trained here, as checkpoints: with the weights that were published, or with random ones."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from training.checkpoint import UNCALIBRATED, Checkpoint
from training.networks import backbones
from training.networks.weights import published_weights


def untrained(backbone: str, weights: str, classes: str | None, size: tuple[int, int] | None) -> Checkpoint:
    """Returns the checkpoint of a network as it is published, or of random weights (seeded).

    Args:
        backbone: As for `backbones.build`.
        weights: As for `backbones.load_weights`.
        classes: How many there are, or the path of a JSON file with the list of their names; None for those that the
            weights were published for.
        size: Rows and columns of the input, pixels; None for those that the weights expect.

    Raises:
        ConfigError: If the backbone, the weights or the names cannot be had, or the weights know another number of
            classes.
    """
    backbones.check_name(backbone)
    expected = InputSpec(224, 224, "crop", 0.875, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    names = _class_names(classes)
    if weights == "imagenet":
        published = published_weights(backbone)
        names = names or _numbered(published.meta["categories"])
        expected = _input_of(published.transforms())
    if not names:
        raise ConfigError("--classes is missing: give their number, or a JSON file with the list of their names")
    if size is not None:
        expected = dataclasses.replace(expected, height=size[0], width=size[1])
    return _checkpoint(backbone, weights, tuple(names), expected)


def _checkpoint(backbone: str, weights: str, class_names: tuple[str, ...], size: InputSpec) -> Checkpoint:
    torch.manual_seed(0)
    model = backbones.build(backbone, len(class_names))
    origin = _load_published(model, backbone, weights, len(class_names))
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
    )


def _load_published(model: nn.Module, backbone: str, weights: str, classes: int) -> str:
    """Loads weights, the last layer's too; returns where they come from."""
    last = model.get_submodule(backbones.classifier_name(model))
    before = [parameter.clone() for parameter in last.parameters()]
    origin = backbones.load_weights(model, backbone, weights)
    if weights != "none" and all(torch.equal(old, new) for old, new in zip(before, last.parameters(), strict=True)):
        raise ConfigError(f"{origin}: its last layer is not one of {classes} classes; give its --classes")
    return origin


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

"""The networks that are tried, and how: those whose weights are at hand, and small ones that learn from nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import Task
from training import config
from training.auto.asked import DOWNLOAD, Asked, divided
from training.networks import backbones
from training.networks.layer_text import PREFIX
from training.networks.libraries import preparation
from training.networks.libraries.by_name import LIBRARIES, library_of
from training.tasks.by_name import task_of

LIKELY = (
    "mobilenet_v3_small", "mobilenet_v3_large", "resnet18", "efficientnet_b0", "resnet34", "resnet50", "resnet50_v1",
    "convnext_tiny", "vit_b_16", "vgg16",
)  # fmt: skip
"""Networks that a weights file without a name is tried with, and of which `imagenet` alone means the first five."""
MOST_AT_HAND = 12
"""Networks that are tried of those whose weights were downloaded before, by this program or another: each is exported
and timed first, which takes seconds."""
FEW_IMAGES = 2000
"""Training images below which fine-tuning goes by the recipe for few, which starts from the probe."""
SMALL_SIDE = 64
"""Pixels of an image's shorter side up to which small networks are tried beside those with weights."""
_SIDES = (32, 48, 64, 96, 128)
_STAGE = "conv {0} 3x3 p1, bn, relu, conv {0} 3x3 p1, bn, relu, pool 2x2"
SCRATCH = {
    "small CNN": f"{PREFIX} conv 16 3x3 p1, bn, relu, pool 2x2, conv 32 3x3 p1, bn, relu, pool 2x2, "
    "conv 64 3x3 p1, bn, relu, gap, fc",
    "CNN of 5 layers": f"{PREFIX} conv 24 3x3 p1, bn, relu, pool 2x2, conv 48 3x3 p1, bn, relu, pool 2x2, "
    "conv 96 3x3 p1, bn, relu, conv 96 3x3 p1, bn, relu, gap, dropout 0.2, fc",
    "CNN of 7 layers": f"{PREFIX} {_STAGE.format(32)}, {_STAGE.format(64)}, conv 128 3x3 p1, bn, relu, "
    "conv 128 3x3 p1, bn, relu, gap, dropout 0.2, fc",
}
"""Networks that learn from nothing where no weights are at hand, the fastest first."""
_SHIFTED = {"rotation_deg": 10.0, "scale_factor": 1.15}
"""Of images that may not be turned far or mirrored, such as of letters."""
_LEARNING = {"mode": "scratch", "weights": "none", "select": "last", "lr": 3e-3, "schedule": "onecycle"}
_STEPS = 1500
"""Steps that a small network takes to learn from nothing, within some limits of the epochs."""
_BATCH = 32
_LONGEST = 40
"""Characters of a network's name in the table; it may be a text of layers."""
FEWEST_EPOCHS = {"probe": 100, "finetune": 2, "scratch": 8}


@dataclass(frozen=True)
class Candidate:
    """A network and how it learns.

    Attributes:
        name: In the table.
        settings: Of training.train, but for data and output.
        variant: What tells it from others of the same network and mode.
    """

    name: str
    settings: Mapping[str, Any]
    variant: str = ""

    @property
    def backbone(self) -> str:
        """The name of the network."""
        return str(self.settings["backbone"])

    @property
    def mode(self) -> str:
        """How it learns."""
        return str(self.settings["mode"])

    @property
    def folder(self) -> str:
        """A name for its files, which no other one has."""
        facts = [self.name, dict(sorted(self.settings.items()))]
        digest = hashlib.sha256(json.dumps(facts, default=list).encode()).hexdigest()
        return f"{re.sub(r'[^a-z0-9]+', '-', self.name.lower())[:40].strip('-')}-{digest[:8]}"

    @property
    def graph(self) -> str:
        """What decides on the time of an image: the network and its input, not the weights."""
        parts = [self.settings.get(name) for name in ("backbone", "input_size", "feature_layer", "grid", "resize_mode")]
        return hashlib.sha256(json.dumps(parts, default=list).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Weighted:
    """A network and the weights that it starts from, as `--weights` of training.train names them."""

    backbone: str
    weights: str


def with_weights(asked: Asked) -> list[Weighted]:
    """Returns the networks whose weights are at hand, or may be downloaded because the user says so.

    Raises:
        ConfigError: If a file fits none of the networks, or there is no such network.
    """
    for name in asked.backbones:
        if "." not in name and not name.partition(":")[1]:  # another kind of name is checked where it is built
            backbones.check_name(name)
    found = [one for word in asked.weights if word != DOWNLOAD for one in _of_file(word, asked.backbones)]
    named = {one.backbone for one in found}
    others = [name for name in asked.backbones if name not in named]
    if DOWNLOAD in asked.weights:
        return [*found, *(Weighted(name, DOWNLOAD) for name in others or (LIKELY[:5] if not asked.backbones else ()))]
    if asked.backbones:
        return [*found, *(Weighted(name, DOWNLOAD) for name in others if library_of(name).has_downloaded(name))]
    return found if asked.weights else [Weighted(name, DOWNLOAD) for name in _at_hand()]


def _at_hand() -> list[str]:
    """The networks whose published weights lie in torch's cache or in that of the Hugging Face hub, so many at most."""
    found = [name for library in LIBRARIES for name in library.downloaded()]
    if len(found) > MOST_AT_HAND:
        print(f"weights of {len(found)} networks are at hand, of which {MOST_AT_HAND} are tried; see --backbones")
    return found[:MOST_AT_HAND]


def _of_file(word: str, names: Sequence[str]) -> list[Weighted]:
    """The networks that a file of weights is for."""
    name, file = divided(word)
    if not Path(file).is_file():
        raise ConfigError(f"--weights {word}: no such file; give a file, NETWORK=FILE, or imagenet")
    if name:
        return [Weighted(name, file)]
    fitting = [Weighted(each, file) for each in names or LIKELY if _fits(each, file)]
    if not fitting:
        tried = ", ".join(names or LIKELY)
        raise ConfigError(f"--weights {file}: fits none of {tried}; say which network it is for: NETWORK={file}")
    return fitting


def _fits(name: str, file: str) -> bool:
    try:
        backbones.load_weights(backbones.build(name, 2), name, file)
    except ConfigError:
        return False
    return True


def probes(found: Iterable[Weighted], task: Task, given: Mapping[str, Any]) -> list[Candidate]:
    """Returns linear layers on the features of networks with weights; numbers depend on where things are, too."""
    candidates = []
    for one in found:
        plain = _prepared({**_of_probe(given), **_of_weights(one, task, given), "mode": "probe"})
        candidates.append(Candidate(f"{label(one.backbone)}, probe", plain))
        for where, head in _heads(one.backbone) if task_of(task).least_squares else ():
            candidates.append(Candidate(f"{label(one.backbone)}, probe of {where}", {**plain, **head}))
    return candidates


def _heads(backbone: str) -> list[tuple[str, dict[str, Any]]]:
    """Heads that know where things are; of a ResNet also one on the stage before the last, whose cells are smaller."""
    cells: dict[str, Any] = {"grid": (3, 4)}
    is_residual = backbone.startswith(("resnet", "resnext", "wide_resnet"))
    return [("3x4 cells", cells), *[("3x4 cells of layer3", {**cells, "feature_layer": "layer3"})] * is_residual]


def label(backbone: str) -> str:
    """Returns a network's name as the table shows it."""
    return backbone if len(backbone) <= _LONGEST else f"{backbone[:_LONGEST]}..."


def fine_tuning(probe: Candidate, images: int, given: Mapping[str, Any]) -> Candidate:
    """Returns the fine-tuning that follows a probe.

    Args:
        probe: Of the same network.
        images: Training images.
        given: Settings that the user gave.
    """
    recipe = "small_data" if images < FEW_IMAGES else "finetune"
    shared = {name: value for name, value in {**probe.settings, **given}.items() if name != "mode"}
    settings = {**config.with_recipe({"recipe": recipe}), "select": "last", **shared}
    return Candidate(probe.name.replace("probe", "fine-tuned"), settings)


def usual_epochs(images: int) -> int:
    """Returns the epochs of a network that learns from nothing, of so many training images."""
    return min(max(round(_STEPS * _BATCH / images), 20), 120)


def epochs_of(one: Candidate, given: Mapping[str, Any]) -> int:
    """Returns the epochs of a candidate's training where there is time for all.

    Args:
        one: It.
        given: Settings of the data and the computing.
    """
    return config.make(**{**one.settings, **given, "output": "-"}).epochs


def fewest_epochs(one: Candidate, usual: int) -> int:
    """Returns the epochs below which a candidate, which usually takes so many, is not worth trying."""
    return min(FEWEST_EPOCHS[one.mode], usual)


def longer(one: Candidate) -> Candidate:
    """Returns a candidate that learns for more epochs than there was time for at first."""
    return Candidate(f"{one.name}, longer", one.settings, one.variant)


def from_scratch(
    network: str, backbone: str, variant: str, side: int, epochs: int, given: Mapping[str, Any]
) -> Candidate:
    """Returns the training of a network that begins with random weights.

    Args:
        network: Its name in the table.
        backbone: Its name for `backbones.build`.
        variant: `light` or `shifted`, how its images are augmented.
        side: Pixels of its input, where the network says no size of its own.
        epochs: Of its training.
        given: Settings that the user gave.
    """
    own = library_of(backbone).expects(backbone, str(_LEARNING["weights"]))
    size = (own.height, own.width) if own else (side, side)
    settings = {**_LEARNING, "backbone": backbone, "input_size": size, "epochs": epochs, "crop_fraction": 1.0}
    if given.get("resize_mode", "crop") != "crop":
        del settings["crop_fraction"]
    if variant == "shifted":
        settings |= {"translate_px": side / 12, "augment": ("rotate", "translate", "scale"), **_SHIFTED}
    return Candidate(f"{network}, {variant}", _prepared({**settings, **given}), variant)


def side_of(shorter: float) -> int:
    """Returns the input of networks that learn from nothing, for images of so many pixels on their shorter side."""
    return next((side for side in _SIDES if side >= 0.9 * shorter), _SIDES[-1])


def variants(task: Task, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns how images are augmented in turn for a network that learns from nothing."""
    return ("light",) if "augment" in given or task_of(task).least_squares else ("shifted", "light")


def _prepared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings as training.train completes them: a network is tried as it is trained at the end."""
    return preparation.completed(settings)[0]


def _of_probe(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "augment"}


def _of_weights(one: Weighted, task: Task, given: Mapping[str, Any]) -> dict[str, Any]:
    settings = {"backbone": one.backbone, "weights": one.weights}
    if task_of(task).least_squares and "resize_mode" not in given:
        settings["resize_mode"] = "squash"  # a number may depend on all of the image
    return settings

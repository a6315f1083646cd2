"""The image classifiers of torchvision, and those of `classic` that are built of its parts, by name."""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models  # type: ignore[import-untyped]

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import InputSpec
from training.networks import classic
from training.networks.libraries.library import Library, Order, Published, usual_input

OWN_INPUT_SCALING = ("googlenet", "inception_v3")
"""Networks whose published weights expect pixels scaled to [-1, 1]: they undo the ImageNet normalisation themselves.
Source: torchvision.models.googlenet and inception_v3, argument `transform_input`."""
AUXILIARY = ("googlenet_v1", "googlenet")
"""Networks that may learn with auxiliary classifiers, whose parameters begin with `aux`."""


def _check(name: str) -> None:
    known = [*models.list_models(module=models), *classic.NAMES]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "take a torchvision classifier such as resnet18"
        raise ConfigError(
            f"backbone {name!r} is no image classifier of torchvision or training.networks.classic; {hint}"
        )


def _build(order: Order) -> nn.Module:
    options: dict[str, bool] = {}
    if order.name in OWN_INPUT_SCALING:
        with_auxiliary = order.auxiliary and order.name in AUXILIARY
        options = {"transform_input": True, "aux_logits": with_auxiliary, "init_weights": True}
    model: nn.Module = models.get_model(order.name, weights=None, num_classes=order.classes, **options)
    if isinstance(model, models.MNASNet):
        # Its own loader refuses every state dict that is a plain dict, and only serves files of before 2019.
        model._load_from_state_dict = functools.partial(nn.Module._load_from_state_dict, model)
    return model


def _build_classic(order: Order) -> nn.Module:
    return classic.build(order.name, order.classes, order.size, auxiliary=order.auxiliary)


def _published(name: str) -> Published:
    if name not in models.list_models(module=models) or not len(models.get_model_weights(name)):
        raise ConfigError(f"torchvision publishes no weights for {name}; give a path or none")
    weights = models.get_model_weights(name)["DEFAULT"]
    return Published(
        title=str(weights),
        input=_input_of(weights.transforms()),
        classes=tuple(weights.meta["categories"]),
        state=functools.partial(_download, weights),
    )


def _download(weights: models.WeightsEnum) -> Mapping[str, Tensor]:
    has_terminal = sys.stderr.isatty()
    if not has_terminal and not _file_of(weights).is_file():  # torch's bar would fill a log
        print(f"downloading {weights}", file=sys.stderr, flush=True)
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=has_terminal, check_hash=True, map_location="cpu")
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"cannot download {weights} ({error}); give the path of a weights file instead") from None
    return state


def _has_downloaded(name: str) -> bool:
    """Whether the weights lie in torch's cache, where torchvision leaves them."""
    if name not in models.list_models(module=models) or not len(models.get_model_weights(name)):
        return False
    return _file_of(models.get_model_weights(name)["DEFAULT"]).is_file()


def _file_of(weights: models.WeightsEnum) -> Path:
    """Returns where torch keeps weights that it has downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / str(weights.url).rpartition("/")[2]


def _input_of(preset: Any) -> InputSpec:  # noqa: ANN401 - torchvision has no types
    """Returns the preprocessing that comes with published weights, a torchvision `ImageClassification` preset."""
    (side,) = preset.crop_size
    (resized,) = preset.resize_size
    mean = tuple(preset.mean)
    std = tuple(preset.std)
    return InputSpec(side, side, "crop", side / resized, preset.interpolation.value, mean, std)


CLASSIC = Library(
    owns=classic.NAMES.__contains__,
    check=_check,
    build=_build_classic,
    published=_published,
    input_of=lambda name: usual_input(classic.published_size(name)),
)
TORCHVISION = Library(
    owns=lambda _: True,
    check=_check,
    build=_build,
    published=_published,
    has_downloaded=_has_downloaded,
    downloaded=lambda: [name for name in models.list_models(module=models) if _has_downloaded(name)],
)

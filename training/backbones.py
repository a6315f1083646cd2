"""Every torchvision classifier by name: built, given weights, and cut where its last spatial features are.

The cut is found in the traced graph, not in a table of architectures: whatever torchvision adds is understood as
long as it pools its features and ends in one linear layer.
"""

from __future__ import annotations

import difflib
import hashlib
import operator
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional
from torchvision import models

from cnn_perception.errors import ConfigError

_OWN_INPUT_SCALING = ("googlenet", "inception_v3")
"""Networks whose published weights expect pixels scaled to [-1, 1]: they undo the ImageNet normalisation themselves.
Source: torchvision.models.googlenet and inception_v3, argument `transform_input`."""
_HEAD_NAMES = ("classifier", "dropout", "fc", "head", "heads")
_POOLINGS = (functional.adaptive_avg_pool2d, torch.mean, "mean")


@dataclass(frozen=True)
class Split:
    """A classifier in evaluation mode, cut at its last spatial features; the parameters are the model's own.

    Attributes:
        body: Image (N, 3, H, W) -> features (N, C, h, w); the embedding where the network has no spatial features.
        neck: Features -> embedding (N, D), the input of the classifier.
        head: Features -> (logits (N, K), embedding (N, D)).
        classifier: The last layer; a 1x1 convolution for SqueezeNet, whose embedding is its globally pooled input.
        classifier_name: Its name in the model.
        feature_shape: (C, h, w) of the features; (D,) where there are no spatial ones.
        spatial: Whether there are spatial features.
    """

    body: fx.GraphModule
    neck: fx.GraphModule
    head: fx.GraphModule
    classifier: nn.Linear | nn.Conv2d
    classifier_name: str
    feature_shape: tuple[int, ...]
    spatial: bool


@dataclass(frozen=True)
class Stages:
    """Names of all parameters, in the groups that fine-tuning unfreezes one after the other.

    Attributes:
        head: Everything after the features.
        last: The last stage of the body: what works at the lowest resolution that has parameters.
        below: The rest.
    """

    head: tuple[str, ...]
    last: tuple[str, ...]
    below: tuple[str, ...]


def build(name: str, class_count: int, *, dropout: float | None = None) -> nn.Module:
    """Builds a torchvision classifier with random weights, without auxiliary heads.

    Args:
        name: Its torchvision name, such as `resnet18` or `vgg16_bn`.
        class_count: Width of the last layer, at least 2.
        dropout: Probability in [0, 1) for every dropout of the head; a head without one drops its pooled features.
            None leaves the architecture's own.

    Raises:
        ConfigError: If the name is no image classifier, or the head has no place for a dropout.
    """
    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "take a torchvision classifier such as resnet18"
        raise ConfigError(f"backbone {name!r} is no image classifier of torchvision; {hint}")
    options: dict[str, Any] = {"init_weights": True}
    if name in _OWN_INPUT_SCALING:
        options.update(transform_input=True, aux_logits=False)
    elif not name.startswith("vgg"):
        del options["init_weights"]
    model: nn.Module = models.get_model(name, weights=None, num_classes=class_count, **options)
    if dropout is not None:
        _set_dropout(model, name, dropout)
    return model


def _set_dropout(model: nn.Module, name: str, probability: float) -> None:
    children = dict(model.named_children())
    heads = [children[key] for key in _HEAD_NAMES if key in children]
    dropouts = [module for head in heads for module in head.modules() if isinstance(module, nn.Dropout)]
    for module in dropouts:
        module.p = probability
    if not dropouts:
        pool = children.get("avgpool")
        if pool is None:
            raise ConfigError(f"the head of {name} has no place for a dropout; leave the dropout unset")
        # Neither of the two has parameters, so every name in the state dict stays torchvision's.
        model.avgpool = nn.Sequential(pool, nn.Dropout(probability))


def load_weights(model: nn.Module, name: str, source: str) -> str:
    """Loads published weights into a model; only its last layer may differ, and stays as it is where it does.

    Args:
        model: What `build` returned.
        name: Name of its architecture.
        source: `imagenet` for torchvision's download, `none`, or the path of a .pth, .pt or .safetensors file in
            torchvision's names, of any float width, bare or under `state_dict` or `model`.

    Returns:
        Where the weights come from, in words: `none`, the torchvision weights, or file name and SHA-256.

    Raises:
        ConfigError: If the weights cannot be read or do not fit the architecture.
    """
    if source == "none":
        return source
    if source == "imagenet":
        state, origin = _download(name)
    else:
        path = Path(source)
        state, origin = _read(path), f"{path.name} sha256:{_sha256(path)[:12]}"
    _load(model, name, state, origin)
    return origin


def classifier_name(model: nn.Module) -> str:
    """Returns the name of the last layer: torchvision registers it last, and it is linear or a 1x1 convolution."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]


def _download(name: str) -> tuple[Mapping[str, Tensor], str]:
    published = models.get_model_weights(name)
    if not len(published):
        raise ConfigError(f"torchvision publishes no weights for {name}; give a path or none")
    weights = published["DEFAULT"]
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, map_location="cpu")
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"cannot download {weights} ({error}); give the path of a weights file instead") from None
    return state, f"imagenet ({weights})"


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Tensors only: unpickling anything else would run code of the file's author.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such weights file; give imagenet, none or a path") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: not a file of plain tensors ({reason[:120]}); give a .pth or .safetensors") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(f"{path}: holds no state dict of tensors; save the model's state_dict()")
    return state


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _load(model: nn.Module, name: str, state: Mapping[str, Tensor], origin: str) -> None:
    """Loads what fits and refuses the rest; the model's own hooks translate the names of old files."""
    last = classifier_name(model) + "."
    own = model.state_dict()
    prefixed = all(key.startswith("module.") for key in state)
    loadable: dict[str, Tensor] = {}
    mismatched: list[str] = []
    for key, value in state.items():
        key = key.removeprefix("module.") if prefixed else key  # noqa: PLW2901
        # Old DenseNet files say norm.1 for norm1. Source: torchvision.models.densenet._load_state_dict
        key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key)  # noqa: PLW2901
        fits = key not in own or own[key].shape == value.shape
        if fits and not key.lower().startswith("aux"):
            loadable[key] = value.float() if value.is_floating_point() else value
        elif not fits and not key.startswith(last):
            mismatched.append(key)
    if any(key.startswith(last) for key in own.keys() - loadable.keys()):
        loadable = {key: value for key, value in loadable.items() if not key.startswith(last)}
    problems = [("of another shape", mismatched)]
    if not mismatched:
        result = model.load_state_dict(loadable, strict=False)
        absent = [k for k in result.missing_keys if not k.startswith(last) and not k.endswith("num_batches_tracked")]
        problems = [("missing", absent), ("unexpected", result.unexpected_keys)]
    found = [f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' * (len(keys) > 3)})" for what, keys in problems if keys]
    if found:
        raise ConfigError(f"{origin}: the weights do not fit {name}: {'; '.join(found)}; check the backbone's name")

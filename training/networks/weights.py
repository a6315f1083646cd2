"""Published weights, from torchvision's download or a file, into a model that may differ in its last layer only."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models  # type: ignore[import-untyped]

from cnn_perception.errors import ConfigError
from training.run_files import require_unpacked


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
        state = _read(path)
        origin = f"{path.name} sha256:{_sha256(path)[:12]}"
    _load(model, name, state, origin)
    return origin


def classifier_name(model: nn.Module) -> str:
    """Returns the name of the last layer: torchvision registers it last, and it is linear or a 1x1 convolution."""
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return names[-1]


def published_weights(name: str) -> models.WeightsEnum:
    """Returns torchvision's weights of an architecture.

    Raises:
        ConfigError: If it publishes none.
    """
    if name not in models.list_models(module=models) or not len(models.get_model_weights(name)):
        raise ConfigError(f"torchvision publishes no weights for {name}; give a path or none")
    return models.get_model_weights(name)["DEFAULT"]


def _download(name: str) -> tuple[Mapping[str, Tensor], str]:
    weights = published_weights(name)
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, map_location="cpu")
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"cannot download {weights} ({error}); give the path of a weights file instead") from None
    return state, f"imagenet ({weights})"


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        require_unpacked(path)
        # Tensors only: unpickling anything else would run code of the file's author.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such weights file; give imagenet, none or a path") from None
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{path}: not a file of plain tensors ({reason[:120]}); give a .pth or .safetensors"
        ) from None
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(f"{path}: holds no state dict of tensors; save the model's state_dict()")
    return state


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _load(model: nn.Module, name: str, state: Mapping[str, Tensor], origin: str) -> None:
    """Loads what fits and refuses the rest; the model's own hooks translate the names of old files."""
    last = classifier_name(model) + "."
    own = model.state_dict()
    prefixed = all(key.startswith("module.") for key in state)
    loadable: dict[str, Tensor] = {}
    mismatched: list[str] = []
    for name_in_file, value in state.items():
        key = name_in_file.removeprefix("module.") if prefixed else name_in_file
        # Old DenseNet files say norm.1 for norm1. Source: torchvision.models.densenet._load_state_dict
        key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key)
        fits = key not in own or own[key].shape == value.shape
        if fits and not key.lower().startswith("aux"):
            loadable[key] = value  # of any width: loading converts
        elif not fits and not key.startswith(last):
            mismatched.append(key)
    if any(key.startswith(last) for key in own.keys() - loadable.keys()):
        loadable = {key: value for key, value in loadable.items() if not key.startswith(last)}
    problems = [("of another shape", mismatched)]
    if not mismatched:
        result = model.load_state_dict(loadable, strict=False)
        absent = [key for key in result.missing_keys if not key.startswith(last)]
        problems = [("missing", absent), ("unexpected", result.unexpected_keys)]
    found = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' * (len(keys) > 3)})" for what, keys in problems if keys
    ]
    if found:
        raise ConfigError(f"{origin}: the weights do not fit {name}: {'; '.join(found)}; check the backbone's name")

"""The settings that a run keeps as config.json, and which of them may change when it is continued."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn_perception.errors import ConfigError
from training.config.fields import PATHS
from training.config.settings import TrainConfig

CHANGED_BY_RESUME = (
    "resume", "workers", "cache_dir", "device", "epochs", "early_stop", "lr", "clip_norm", "bad_steps", "amp",
    "compile", "tensorboard", "unknown", "false_alarm_rate", "outside", "baselines",
)  # fmt: skip
"""Settings that may differ when a run is continued."""
_ADDED = (
    "unlabelled",
    "unlabelled_images",
    "mean",
    "std",
    "classes",
    "on_conflict",
    "loss",
    "init",
    "rmsprop_alpha",
    "adam_betas",
    "baselines",
    "adapt_norm",
)
"""Settings that a run of an earlier version does not have; their defaults are what it did."""
_OFF = {"auxiliary_weight": 0.0}
"""The same, with what it did where that is no default."""


def sources(data: str | Path | Sequence[str | Path] | None) -> tuple[str, ...]:
    """Returns the folders and tables that the setting `data` names; one alone is a plain text in an older run."""
    if isinstance(data, str | Path):
        return (str(data),) if data else ()
    return tuple(map(str, data or ()))


def sources_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the same of the settings that a checkpoint carries; none of one that was not trained on images."""
    return sources(settings.get("data"))


def from_file(path: Path) -> dict[str, Any]:
    """Reads a config.json, see `from_json`.

    Raises:
        ConfigError: If it cannot be read, or is not the JSON of a TrainConfig.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeError:
        raise ConfigError(f"{path}: is no text in UTF-8; restore this file, or start a new run") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); restore this file, or start a new run") from None
    return from_json(text, str(path))


def from_json(text: str, where: str) -> dict[str, Any]:
    """Reads a config.json as arguments of `make` or `TrainConfig`; what an older one does not know is as usual.

    Raises:
        ConfigError: If it is not the JSON of a TrainConfig.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not JSON ({error}); start a new run") from None
    usual = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    added = {name: usual[name] for name in _ADDED} | _OFF
    if not isinstance(value, dict) or (added | value).keys() != usual.keys():
        raise ConfigError(f"{where} does not hold the settings of this version; start a new run")
    given: dict[str, Any] = added | value
    value = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    value |= {name: sources(value[name]) for name in PATHS if isinstance(value[name], str | None)}  # of older runs
    try:
        TrainConfig(**value)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}; restore this file, or start a new run") from None
    return value

"""The settings of a run from what the user gave: what depends on the mode or on other settings is filled in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from cnn_perception.errors import ConfigError
from training.config.augmentations import PRESETS, expand_augment
from training.config.fields import PATHS, flag_of
from training.config.settings import Mode, TrainConfig
from training.config.stored import sources

MODE_DEFAULTS: dict[Mode, dict[str, Any]] = {
    "probe": {"epochs": 100, "augment": (), "weight_decay": None, "baselines": "none"},
    "finetune": {"epochs": 15, "lr": 1e-3, "label_smoothing": 0.1},
    "scratch": {"weights": "none", "epochs": 60, "lr": 1e-3, "baselines": "none"},
}
"""Where a mode differs from the defaults of `TrainConfig`; what the user gives wins over both."""


def without_effect(given: Mapping[str, Any], config: TrainConfig) -> list[str]:
    """Says which of the settings that the user gave have no effect beside the others, a line each.

    Args:
        given: Arguments of `make`.
        config: What it made of them.
    """
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    lines = []
    for name, value in given.items():
        needs = fields[name].metadata["needs"].split(" and ")
        unmet = [need for need in needs if need and not _is_met(need, config)]
        if value and unmet:
            lines.append(f"warning: --{flag_of(name)} has no effect {_in_words(unmet[0])}")
    return lines


def _in_words(needs: str) -> str:
    if needs.startswith("not "):
        return f"with --{flag_of(needs.removeprefix('not '))}"
    wanted, _, values = needs.partition("=")
    return f"without --{flag_of(wanted)} {' or '.join(values.split(','))}".rstrip()


def _is_met(needs: str, config: TrainConfig) -> bool:
    """Returns whether a setting is on, or is or holds one of the values named after it."""
    if needs.startswith("not "):
        return not _is_met(needs.removeprefix("not "), config)
    name, _, values = needs.partition("=")
    value = getattr(config, name)
    if name == "augment" and value is None:
        value = PRESETS["light"]
    if not values:
        return bool(value)
    return not {*values.split(",")}.isdisjoint(value if isinstance(value, tuple) else (value,))


def make(**given: Any) -> TrainConfig:  # noqa: ANN401
    """Builds the settings of a run from what the user gave.

    Args:
        **given: Fields of `TrainConfig`; `data`, one text or several, and `output` are required.

    Returns:
        The settings, every default that depends on the mode or on the number of epochs resolved.

    Raises:
        ConfigError: If one is unknown, out of range, contradicts another, or has no effect in this mode.
    """
    fields = {f.name: f for f in dataclasses.fields(TrainConfig)}
    if unknown := sorted(given.keys() - fields.keys()):
        raise ConfigError(f"unknown settings {', '.join(unknown)}; see python -m training.train --help")
    needed = ("output",) if given.get("unlabelled") and given.get("teacher") else ("data", "output")
    if missing := [name for name in needed if not given.get(name)]:
        raise ConfigError(f"--{missing[0]} is missing; name a folder")
    mode = given.get("mode", fields["mode"].default)
    if mode == "probe" and (idle := [name for name in given if not fields[name].metadata["probe"]]):
        raise ConfigError(f"--{flag_of(idle[0])} has no effect in --mode probe; leave it out or use --mode finetune")
    values = {**MODE_DEFAULTS.get(mode, {}), **given, **{name: sources(given.get(name)) for name in PATHS}}
    if values.get("augment") is not None:
        values["augment"] = expand_augment(values["augment"])
    config = TrainConfig(**values)
    head = min(2, config.epochs // 2) if config.head_epochs is None else config.head_epochs
    last = min(3, (config.epochs - head) // 3) if config.last_stage_epochs is None else config.last_stage_epochs
    if mode != "finetune":
        head = last = 0
    rise = 0.3 if config.schedule == "onecycle" else 0.05  # Source: torch.optim.lr_scheduler.OneCycleLR, pct_start
    warmup = rise * config.epochs if config.warmup_epochs is None else config.warmup_epochs
    fraction = config.input.crop_fraction
    return dataclasses.replace(
        config, head_epochs=head, last_stage_epochs=last, warmup_epochs=warmup, crop_fraction=fraction
    )

"""The command line of `training.train`, whose options are the settings."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn

from cnn_perception.errors import ConfigError
from cnn_perception.files import given_name
from training.config.defaults import MODE_DEFAULTS
from training.config.fields import ONE_PATH, PATHS, as_given, flag_of, required_type
from training.config.normalisation import Colours, colours
from training.config.settings import Betas, TrainConfig
from training.recipes import recipe as recipes

GROUPS: dict[str, tuple[str, ...]] = {
    "most used": (
        "data", "output", "mode", "backbone", "weights", "epochs", "batch_size", "lr", "augment", "recipe",
    ),
    "data": (
        "task", "targets", "classes", "group_pattern", "strict", "on_conflict", "val_fraction", "test_fraction",
        "split", "folds", "fold",
    ),
    "network": (
        "input_size", "resize_mode", "crop_fraction", "interpolation", "mean", "std", "feature_layer", "grid",
        "dropout", "init", "head_init",
    ),
    "optimisation": (
        "loss", "auxiliary_weight", "optimizer", "momentum", "rmsprop_alpha", "adam_betas", "weight_decay",
        "lr_decay_per_stage", "schedule", "warmup_epochs", "step_epochs", "patience", "lr_gamma", "head_epochs",
        "last_stage_epochs", "freeze_norm", "adapt_norm", "label_smoothing", "balance", "accumulate", "clip_norm",
        "ema", "select", "early_stop", "bad_steps", "teacher", "unlabelled", "unlabelled_images", "distil_weight",
        "distil_temperature",
    ),
    "augmentation": (
        "crop_area", "color_strength", "rotation_deg", "translate_px", "scale_factor", "shear_deg", "stretch_factor",
        "randaugment_operations", "randaugment_magnitude", "mixup", "cutmix",
    ),
    "confidence": ("unknown", "false_alarm_rate", "outside", "baselines"),
    "run": (
        "seed", "workers", "cache_gb", "cache_dir", "device", "amp", "channels_last", "compile", "tensorboard",
        "find_lr", "resume",
    ),
}  # fmt: skip
"""The settings as `--help` shows them, each in one group."""


def parse(argv: Sequence[str] | None) -> dict[str, Any]:
    """Reads the command line; returns only what the user gave, as arguments of `make`."""
    return vars(_parser().parse_args(argv))


def with_recipe(given: dict[str, Any]) -> dict[str, Any]:
    """Adds the settings of the recipe that the user named; what the user gave wins.

    Args:
        given: Arguments of `make`.

    Raises:
        ConfigError: If there is no such recipe, or it holds what is no setting of a recipe.
    """
    name = given.get("recipe", recipes.NONE)
    if name == recipes.NONE:
        return given
    words = recipes.words(name)
    try:
        settings = vars(_parser(_RecipeParser).parse_args(words))
    except ValueError as error:
        raise ConfigError(f"{recipes.path_of(name)}: {error}; mend this recipe") from None
    if own := sorted(settings.keys() & {"output", "recipe", "resume", "find_lr"}):
        raise ConfigError(f"{recipes.path_of(name)}: --{flag_of(own[0])} belongs on the command line; remove it")
    return {**settings, **given}


class _RecipeParser(argparse.ArgumentParser):
    """Raises what the command line's parser prints before it ends the process."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _parser(kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser of the command line, whose options are the fields of `TrainConfig`."""
    made = kind(
        prog="python -m training.train",
        usage="%(prog)s --data DATA [DATA ...] --output OUTPUT [options]",
        description="Trains a network on labelled images: one class, several classes or numbers each.",
        argument_default=argparse.SUPPRESS,
    )
    for title, names in GROUPS.items():
        add_options(made.add_argument_group(title), names)
    return made


def add_options(parser: argparse._ActionsContainer, names: Sequence[str]) -> None:
    """Adds the options of some settings to a command line, or to a group of one."""
    hints = typing.get_type_hints(TrainConfig)
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    for name in names:
        parser.add_argument(f"--{flag_of(name)}", dest=name, **_option(fields[name], hints[name]))


def _option(field: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:  # noqa: ANN401
    """The arguments of `add_argument` for a field: type and choices follow from its annotation."""
    text = _help(field)
    hint = required_type(hint)
    if field.name in PATHS:  # one may hold commas
        return {"type": given_name, "action": "extend", "nargs": "+", "help": text}
    if field.name in ONE_PATH:
        return {"type": given_name, "help": text}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction, "help": text}
    if typing.get_origin(hint) is Literal:
        return {"choices": typing.get_args(hint), "help": text}
    if typing.get_origin(hint) is tuple:
        return {"type": _TUPLES[hint], "help": text}
    return {"type": hint, "help": text}


def _help(field: dataclasses.Field[Any]) -> str:
    """The help text of a field with its default, or with that of each mode where they differ."""
    text: str = field.metadata["help"]
    if field.default is dataclasses.MISSING or field.default is None:
        return text
    shown = {mode: _shown(field.name, values.get(field.name, field.default)) for mode, values in MODE_DEFAULTS.items()}
    if len(set(shown.values())) == 1:
        return f"{text} [{shown['finetune']}]"
    return f"{text} [{', '.join(f'{mode} {value}' for mode, value in shown.items())}]"


def _shown(name: str, value: object) -> str:
    """A default as it would be given on the command line."""
    if name == "input_size":
        return "224"
    return as_given(value)


def _size(text: str) -> tuple[int, int]:
    rows, _, columns = text.lower().partition("x")
    try:
        return int(rows), int(columns or rows)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write HxW or N, such as 224") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _betas(text: str) -> tuple[float, float]:
    try:
        first, second = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no pair of numbers; write such as 0.9,0.999") from None
    return first, second


_TUPLES: dict[Any, Callable[[str], Any]] = {
    tuple[int, int]: _size, Colours: colours, Betas: _betas, tuple[str, ...]: _names
}  # fmt: skip
"""How settings of several values are read."""

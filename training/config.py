"""Every setting of a training run, written once: `TrainConfig`.

The command line is derived from its fields, a run keeps it as config.json, and a checkpoint carries it. What a
setting means stands in its help text and nowhere else.
"""
# ruff: noqa: RUF009  (`_setting` is `dataclasses.field` with this file's metadata)

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, Interpolation, ResizeMode
from training.data.records import By, TaskChoice
from training.recipes import recipe as recipes

Mode = Literal["probe", "finetune", "scratch"]
Optimizer = Literal["sgd", "nesterov", "rmsprop", "adam", "adamw"]
Schedule = Literal["constant", "step", "plateau", "cosine", "onecycle"]
Balance = Literal["none", "weights", "sampler"]
Device = Literal["auto", "cpu", "cuda"]
HeadInit = Literal["random", "probe"]
Select = Literal["best", "last"]
Amp = Literal["auto", "off", "bf16", "fp16"]
UnknownChoice = Literal["auto", "energy", "distance", "none"]

PRESETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "light": ("crop", "flip", "color"),
    "classic": ("rotate", "translate", "scale", "shear", "stretch"),
}
SWITCHES = (
    "crop", "flip", "color", "rotate", "translate", "scale", "shear", "stretch", "randaugment", "trivialaugment",
)  # fmt: skip

MODE_DEFAULTS: dict[Mode, dict[str, Any]] = {
    "probe": {"epochs": 100, "augment": (), "weight_decay": None},
    "finetune": {"epochs": 15, "lr": 1e-3, "label_smoothing": 0.1},
    "scratch": {"weights": "none", "epochs": 60, "lr": 1e-3},
}
"""Where a mode differs from the defaults of `TrainConfig`; what the user gives wins over both."""

CHANGED_BY_RESUME = (
    "resume", "workers", "cache_dir", "device", "epochs", "early_stop", "lr", "clip_norm", "bad_steps", "amp",
    "compile", "tensorboard", "unknown", "false_alarm_rate", "outside",
)  # fmt: skip
"""Settings that may differ when a run is continued."""


def _setting(
    default: Any = dataclasses.MISSING,  # noqa: ANN401  (as dataclasses.field)
    *,
    help: str,  # noqa: A002  (as argparse)
    low: float = -math.inf,
    high: float = math.inf,
    probe: bool = True,
) -> Any:  # noqa: ANN401
    """A dataclass field with its help text, its range [low, high] and whether `--mode probe` heeds it."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high, "probe": probe})


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one run; see the help texts. Build it with `make`, which fills in the mode's defaults.

    Raises:
        ConfigError: If a setting is out of its range, or two contradict each other.
    """

    data: str = _setting(
        help="image folder: DIR/train|val|test/CLASS/*, or DIR/CLASS/*, which is then split; or a CSV file, see "
        "training/table.py"
    )
    output: str = _setting(help="folder of the run: checkpoints, history, report and figures")
    task: TaskChoice = _setting("auto", help="what to learn; auto: classes, or the numbers of --targets")
    targets: tuple[str, ...] = _setting(
        (), help="columns of numbers to learn, with their units, such as angle:rad,throttle"
    )
    group_pattern: str | None = _setting(
        None,
        help="regular expression for file names; images whose first group (or the one named group) is the same are "
        "never on both sides of the split",
    )
    strict: bool = _setting(False, help="refuse data with a single image that cannot be read; otherwise up to 5 %%")
    recipe: str = _setting(
        recipes.NONE,
        help=f"settings to start from, what is given here wins: {', '.join(recipes.NAMES)}, or a file like those in "
        "training/recipes",
    )
    backbone: str = _setting(
        "resnet18",
        help="any torchvision classifier by name, such as resnet50 or vgg16_bn, or one of training/classic.py",
    )
    weights: str = _setting("imagenet", help="'imagenet' (downloaded by torchvision), 'none', or a .pth/.safetensors")
    feature_layer: str | None = _setting(
        None, help="inner layer whose features the head sees, such as layer3 of a ResNet; by default the last"
    )
    grid: tuple[int, int] | None = _setting(
        None,
        help="RxC: average the features in so many cells and give all to the last layer, which then knows where things "
        "are; by default the architecture's own head",
        low=1,
        high=64,
    )
    mode: Mode = _setting(
        "finetune",
        help="probe: a linear layer on features of the frozen backbone (minutes on a CPU); finetune: head, then last "
        "stage, then all; scratch: all from the start",
    )
    epochs: int = _setting(15, help="passes over the training images; for probe, most L-BFGS iterations", low=1)
    batch_size: int = _setting(32, help="images per batch, of all processes together", low=2)
    input_size: tuple[int, int] = _setting((224, 224), help="rows x columns of the network's input: HxW or N", low=8)
    resize_mode: ResizeMode = _setting(
        "crop",
        help="crop: cover and cut the centre; letterbox: fit and pad; squash: all of it, as a steering angle needs",
    )
    crop_fraction: float | None = _setting(
        None, help="share of the shorter side the centre crop keeps; 0.875 for crop, 1 otherwise", low=0.01, high=1
    )
    interpolation: Interpolation = _setting("bilinear", help="antialiased filter of the resize")
    val_fraction: float = _setting(
        0.2, help="share of each class held out for validation if there is no val folder", low=0.01, high=0.9
    )
    test_fraction: float = _setting(0.0, help="share of each class held out for the final test", low=0, high=0.9)
    split: By = _setting(
        "random", help="hold out random images of each class, or the tail: the last by row, or by file name in a class"
    )
    folds: int | None = _setting(
        None,
        help="cross-validation: validate on one of so many parts of the training images, or on each in turn; val and "
        "test are not looked at",
        low=2,
        high=1000,
    )
    fold: int | None = _setting(None, help="which of the folds, from 1; by default all, one after the other", low=1)
    seed: int = _setting(0, help="seed of the split, the new head, the order and the augmentation", low=0, high=2**31)

    augment: tuple[str, ...] | None = _setting(
        None,
        help=f"comma list of {', '.join(SWITCHES)} and the presets none, light (crop,flip,color) and classic "
        "(rotate,translate,scale,shear,stretch); leave out flip where left and right differ; by default light, and "
        "color alone for numbers",
        probe=False,
    )
    crop_area: float = _setting(
        0.35, help="crop: smallest share of the image's area that is kept", low=0.01, high=1, probe=False
    )
    color_strength: float = _setting(
        0.3, help="color: brightness, contrast and saturation change by up to this share", low=0, high=0.99, probe=False
    )
    rotation_deg: float = _setting(360.0, help="rotate: by up to this angle, either way", low=0, high=360, probe=False)
    translate_px: float = _setting(
        10.0, help="translate: by up to this many pixels of the network's input, either way", low=0, probe=False
    )
    scale_factor: float = _setting(1.6, help="scale: log-uniform between 1/this and this", low=1, high=10, probe=False)
    shear_deg: float = _setting(20.0, help="shear: by up to this angle, either way", low=0, high=80, probe=False)
    stretch_factor: float = _setting(
        1.3, help="stretch: aspect ratio log-uniform between 1/this and this", low=1, high=10, probe=False
    )
    randaugment_operations: int = _setting(2, help="randaugment: operations an image", low=1, high=14, probe=False)
    randaugment_magnitude: int = _setting(9, help="randaugment: their strength", low=0, high=30, probe=False)
    mixup: float = _setting(
        0.0, help="blend pairs of images and labels, share from Beta(this, this); 0: off", low=0, high=100, probe=False
    )
    cutmix: float = _setting(
        0.0, help="paste boxes of other images, area from Beta(this, this); 0: off", low=0, high=100, probe=False
    )
    balance: Balance = _setting(
        "none", help="against rare classes: weights in the loss, or a sampler that shows them more often", probe=False
    )

    optimizer: Optimizer = _setting("adamw", help="nesterov is sgd with Nesterov momentum", probe=False)
    momentum: float = _setting(0.9, help="of sgd, nesterov and rmsprop", low=0, high=0.9999, probe=False)
    lr: float = _setting(1e-3, help="learning rate of the head", low=1e-12, high=1e3, probe=False)
    lr_decay_per_stage: float = _setting(
        0.1,
        help="finetune: the last stage learns at lr times this, everything below at lr times its square",
        low=1e-6,
        high=1,
        probe=False,
    )
    head_init: HeadInit = _setting(
        "random",
        help="how the last layer begins; probe: as what --mode probe finds on the training images, so that the layers "
        "below get no gradients of a random one",
        probe=False,
    )
    head_epochs: int | None = _setting(
        None, help="finetune: first epochs, in which the head alone learns; up to 2 by default", low=0, probe=False
    )
    last_stage_epochs: int | None = _setting(
        None,
        help="finetune: epochs after those, in which head and last stage learn; up to 3 by default",
        low=0,
        probe=False,
    )
    freeze_norm: bool = _setting(
        False,
        help="finetune: batch normalisation keeps the means and variances that came with the weights; those of small "
        "batches of few images are rough",
        probe=False,
    )
    schedule: Schedule = _setting("cosine", help="how the learning rate changes", probe=False)
    warmup_epochs: float | None = _setting(
        None, help="epochs in which it rises; by default 5 %% of the epochs, 30 %% for onecycle", low=0, probe=False
    )
    step_epochs: int = _setting(10, help="step: epochs between two falls", low=1, probe=False)
    patience: int = _setting(3, help="plateau: epochs without a lower validation loss to bear", low=0, probe=False)
    lr_gamma: float = _setting(0.1, help="step, plateau: factor of one fall", low=1e-6, high=1, probe=False)
    weight_decay: float | None = _setting(
        0.05, help="of weights, not of biases and norms; probe: L2 penalty, by default chosen by cross-validation",
        low=0, high=1e6,
    )  # fmt: skip
    dropout: float | None = _setting(
        None, help="rate before the final layer; the architecture's own by default", low=0, high=0.99, probe=False
    )
    label_smoothing: float = _setting(
        0.0, help="share of a label spread over all classes", low=0, high=0.9, probe=False
    )
    accumulate: int = _setting(1, help="batches of which one step learns", low=1, probe=False)
    clip_norm: float = _setting(0.0, help="largest norm of a step's gradient; 0: any", low=0, probe=False)
    ema: float = _setting(
        0.0, help="decay a step of the averaged weights that are validated and kept, such as 0.999; 0: no average",
        low=0, high=0.999999, probe=False,
    )  # fmt: skip
    select: Select = _setting(
        "best",
        help="which epoch best.pt holds: the best one by the validation images, whose own figure is then a little too "
        "good, or the last one, whatever they say",
        probe=False,
    )
    early_stop: int = _setting(0, help="epochs without a better one after which to end; 0: never", low=0, probe=False)
    bad_steps: int = _setting(
        3, help="steps in a row without a finite loss or gradient after which to give up", low=1, probe=False
    )
    teacher: str | None = _setting(None, help="best.pt of a run whose network this one shall imitate", probe=False)
    distil_weight: float = _setting(0.5, help="share of the teacher in the loss", low=0, high=1, probe=False)
    distil_temperature: float = _setting(
        4.0,
        help="softens the scores of the teacher and of the network that is compared",
        low=0.01,
        high=100,
        probe=False,
    )

    unknown: UnknownChoice = _setting(
        "auto",
        help="rule for images of none of the classes, fitted to the validation images: energy of the logits, or "
        "distance to the class centres; auto: what tells --outside better, without it distance; beyond 200 classes "
        "energy",
    )
    false_alarm_rate: float = _setting(
        0.05, help="share of the validation images that the rule may call unknown; 0 is no rule", low=0, high=0.5
    )
    outside: str | None = _setting(None, help="folder of images of none of the classes, on which the rule is measured")

    workers: int | None = _setting(
        None, help="processes that load images; by default up to 2 on a CPU, up to 8 with a GPU", low=0, high=256
    )
    cache_gb: float = _setting(
        4.0, help="decoded training images kept on the disk, in GB (10^9 bytes); 0: none", low=0, high=1e6, probe=False
    )
    cache_dir: str | None = _setting(
        None,
        help="where they are kept, and stay for other runs; by default OUTPUT/cache, removed after the training",
        probe=False,
    )
    device: Device = _setting("auto", help="auto takes the GPU if there is one")
    amp: Amp = _setting("auto", help="mixed precision; auto: off on a CPU, bf16 or else fp16 on a GPU", probe=False)
    channels_last: bool = _setting(True, help="memory layout; faster on CPUs and on GPUs with tensor cores")
    compile: bool = _setting(False, help="training steps by torch.compile, if it can", probe=False)
    tensorboard: bool = _setting(
        False, help="write history.csv for TensorBoard too (pip install tensorboard)", probe=False
    )
    find_lr: bool = _setting(False, help="train nothing: suggest a learning rate, with lr_finder.png", probe=False)
    resume: bool = _setting(False, help="continue the run in --output from its last checkpoint, with its settings")

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check(field, hints[field.name], getattr(self, field.name))
        if not self.data or not self.output:
            raise ConfigError(f"--{'output' if self.data else 'data'}: must not be empty; name a folder")
        if self.fold and self.fold > (self.folds or 0):
            raise ConfigError(f"--fold: {self.fold} is none of --folds {self.folds or 0}; lower it or give --folds")
        if self.val_fraction + self.test_fraction > 0.9:
            raise ConfigError("--val-fraction and --test-fraction leave less than a tenth for training; lower them")
        if self.resize_mode != "crop" and self.crop_fraction not in (None, 1.0):
            raise ConfigError(f"--crop-fraction: needs --resize-mode crop, got {self.resize_mode}")
        if self.mode == "scratch" and self.weights != "none":
            raise ConfigError(f"--mode scratch starts from no weights, got --weights {self.weights}; use finetune")
        if self.mode == "scratch" and (self.head_init != "random" or self.freeze_norm):
            flag = "--freeze-norm" if self.freeze_norm else "--head-init probe"
            raise ConfigError(f"{flag} needs features to begin with, and --mode scratch has none; use finetune")
        if self.select == "last" and self.early_stop:
            raise ConfigError("--early-stop ends by the validation images, --select last ignores them; leave out one")
        if (self.head_epochs or 0) + (self.last_stage_epochs or 0) > self.epochs:
            raise ConfigError(f"--head-epochs and --last-stage-epochs exceed --epochs {self.epochs}; lower them")
        if (self.warmup_epochs or 0) > self.epochs:
            raise ConfigError(f"--warmup-epochs: {self.warmup_epochs} exceeds --epochs {self.epochs}; lower it")

    @property
    def input(self) -> InputSpec:
        """The preprocessing that training, validation and the exported model share."""
        fraction = self.crop_fraction or (0.875 if self.resize_mode == "crop" else 1.0)
        return InputSpec(*self.input_size, self.resize_mode, fraction, self.interpolation, IMAGENET_MEAN, IMAGENET_STD)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as JSON and a checkpoint keep them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}


def make(**given: Any) -> TrainConfig:  # noqa: ANN401
    """Builds the settings of a run from what the user gave.

    Args:
        **given: Fields of `TrainConfig`; `data` and `output` are required.

    Returns:
        The settings, every default that depends on the mode or on the number of epochs resolved.

    Raises:
        ConfigError: If one is unknown, out of range, contradicts another, or has no effect in this mode.
    """
    fields = {f.name: f for f in dataclasses.fields(TrainConfig)}
    if unknown := sorted(given.keys() - fields.keys()):
        raise ConfigError(f"unknown settings {unknown}; see python -m training.train --help")
    if missing := [name for name in ("data", "output") if not given.get(name)]:
        raise ConfigError(f"--{missing[0]} is missing; name a folder")
    mode = given.get("mode", fields["mode"].default)
    if mode == "probe" and (idle := [name for name in given if not fields[name].metadata["probe"]]):
        raise ConfigError(f"--{_flag(idle[0])} has no effect in --mode probe; leave it out or use --mode finetune")
    values = {**MODE_DEFAULTS.get(mode, {}), **given}
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


def expand_augment(names: Sequence[str]) -> tuple[str, ...]:
    """Replaces presets by their switches, each once and in a fixed order.

    Raises:
        ConfigError: If a name is neither a preset nor a switch.
    """
    chosen: set[str] = set()
    for name in names:
        if name not in PRESETS and name not in SWITCHES:
            raise ConfigError(f"--augment: {name!r} is unknown; choose from {', '.join((*PRESETS, *SWITCHES))}")
        chosen.update(PRESETS.get(name, (name,)))
    return tuple(switch for switch in SWITCHES if switch in chosen)


def from_json(text: str, where: str) -> dict[str, Any]:
    """Reads a config.json as arguments of `make` or `TrainConfig`.

    Raises:
        ConfigError: If it is not the JSON of a TrainConfig.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON ({error}); start a new run") from None
    names = {f.name for f in dataclasses.fields(TrainConfig)}
    if not isinstance(value, dict) or value.keys() != names:
        raise ConfigError(f"{where} does not hold the settings of this version; start a new run")
    return {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}


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
        raise ConfigError(f"{recipes.path_of(name)}: --{_flag(own[0])} belongs on the command line; remove it")
    return {**settings, **given}


class _RecipeParser(argparse.ArgumentParser):
    """Raises what the command line's parser prints before it ends the process."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _parser(kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser of the command line, whose options are the fields of `TrainConfig`."""
    made = kind(
        prog="python -m training.train",
        description="Trains a network on labelled images: one class, several classes or numbers each.",
        argument_default=argparse.SUPPRESS,
    )
    add_options(made, [field.name for field in dataclasses.fields(TrainConfig)])
    return made


def add_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Adds the options of some settings to a command line."""
    hints = typing.get_type_hints(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        if field.name in names:
            parser.add_argument(f"--{_flag(field.name)}", dest=field.name, **_option(field, hints[field.name]))


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _option(field: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:  # noqa: ANN401
    """The arguments of `add_argument` for a field: type and choices follow from its annotation."""
    text = field.metadata["help"]
    if field.default is not dataclasses.MISSING and field.default is not None:
        defaults = {mode: values.get(field.name, field.default) for mode, values in MODE_DEFAULTS.items()}
        shown = {m: ",".join(map(str, v)) or "none" if isinstance(v, tuple) else v for m, v in defaults.items()}
        if field.name == "input_size":
            shown = dict.fromkeys(shown, "224")
        same = len(set(map(str, shown.values()))) == 1
        text += f" [{next(iter(shown.values())) if same else ', '.join(f'{m} {v}' for m, v in shown.items())}]"
    hint = _required_type(hint)
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction, "help": text}
    if typing.get_origin(hint) is Literal:
        return {"choices": typing.get_args(hint), "help": text}
    if typing.get_origin(hint) is tuple:
        return {"type": _size if typing.get_args(hint)[0] is int else _names, "help": text}
    return {"type": hint, "help": text}


def _required_type(hint: Any) -> Any:  # noqa: ANN401
    """The type of a setting without its None."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def _size(text: str) -> tuple[int, int]:
    rows, _, columns = text.lower().partition("x")
    try:
        return int(rows), int(columns or rows)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write HxW or N, such as 224") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _check(field: dataclasses.Field[Any], hint: Any, value: Any) -> None:  # noqa: ANN401
    """Raises ConfigError if a value does not fit its annotation or its range."""
    low, high = field.metadata["low"], field.metadata["high"]
    numbers = value if isinstance(value, tuple) else (value,)
    if value is None and type(None) in typing.get_args(hint):
        return
    hint = _required_type(hint)
    if typing.get_origin(hint) is Literal and value not in typing.get_args(hint):
        raise ConfigError(f"--{_flag(field.name)}: {value!r} is none of {', '.join(typing.get_args(hint))}")
    if hint in (int, float) or hint == tuple[int, int]:
        fits = all(isinstance(n, int | float) and not isinstance(n, bool) and low <= n <= high for n in numbers)
        whole = hint is float or all(isinstance(n, int) for n in numbers)
        if not (fits and whole and all(map(math.isfinite, numbers))):
            raise ConfigError(f"--{_flag(field.name)}: {value} is out of range; it must be in [{low:g}, {high:g}]")

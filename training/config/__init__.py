"""The settings of a training run: what they are, what the user gave, what a run keeps. Needs no torch."""

from training.config.augmentations import PRESETS, SWITCHES, expand_augment
from training.config.command_line import add_options, parse, with_recipe
from training.config.defaults import MODE_DEFAULTS, make, without_effect
from training.config.settings import TrainConfig, UnknownChoice
from training.config.stored import CHANGED_BY_RESUME, from_file, from_json, sources_of

__all__ = [
    "CHANGED_BY_RESUME", "MODE_DEFAULTS", "PRESETS", "SWITCHES", "TrainConfig", "UnknownChoice", "add_options",
    "expand_augment", "from_file", "from_json", "make", "parse", "sources_of", "with_recipe", "without_effect",
]  # fmt: skip

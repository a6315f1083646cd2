"""How images are prepared for a network of elsewhere, as far as its owner says it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from cnn_perception.errors import ConfigError, ModelError
from cnn_perception.model.spec import InputSpec, Interpolation, ResizeMode
from training.config import normalisation
from training.config.command_line import add_options
from training.config.normalisation import Colours

NAMES = ("resize_mode", "crop_fraction", "interpolation", "mean", "std")
"""Settings of `training.train` that say how images are prepared, beside their size."""


@dataclass(frozen=True)
class Preparation:
    """What was said; None is what nobody said.

    Attributes:
        size: Rows and columns of the input, pixels.
        resize_mode: As in `InputSpec`, and so are the others.
        crop_fraction: Likewise.
        interpolation: Likewise.
        mean: Likewise, in the order red, green, blue.
        std: Likewise.
    """

    size: tuple[int, int] | None = None
    resize_mode: ResizeMode | None = None
    crop_fraction: float | None = None
    interpolation: Interpolation | None = None
    mean: Colours | None = None
    std: Colours | None = None

    def of(self, usual: InputSpec) -> InputSpec:
        """Returns the preprocessing, with the usual one where nothing is said.

        Raises:
            ConfigError: If it cannot be.
        """
        rows, columns = self.size or (usual.height, usual.width)
        mode = self.resize_mode or usual.resize_mode
        mean, std = self.mean or usual.mean, self.std or usual.std
        normalisation.check(mean, std)
        if mode != "crop" and self.crop_fraction not in (None, 1.0):
            raise ConfigError(f"--crop-fraction: needs --resize-mode crop, got {mode}")
        whole = usual.crop_fraction if mode == "crop" else 1.0
        fraction = whole if self.crop_fraction is None else self.crop_fraction
        try:
            return InputSpec(rows, columns, mode, fraction, self.interpolation or usual.interpolation, mean, std)
        except ModelError as error:
            raise ConfigError(f"{error}; give another") from None


def add(group: argparse._ArgumentGroup) -> None:
    """Adds the options of `NAMES`, each None where it is not given."""
    add_options(group, NAMES)
    group.set_defaults(**dict.fromkeys(NAMES))


def given_in(options: argparse.Namespace, size: tuple[int, int] | None) -> Preparation:
    """Returns what the options of `add` say, and the size."""
    return Preparation(size, **{name: getattr(options, name) for name in NAMES})

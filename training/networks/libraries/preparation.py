"""How images are prepared where the user does not say it: as the network's weights were trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.config import TrainConfig
from training.config.fields import as_given
from training.config.normalisation import as_text
from training.networks.libraries import own_module
from training.networks.libraries.by_name import library_of
from training.networks.libraries.library import usual_input


def completed(given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Adds to the settings of a new run the preprocessing that its network expects, where the user gave none.

    A user's own file is named by its whole path from here on; that it is named allows it to be run, see `own_module`.

    Args:
        given: Arguments of `config.make`.

    Returns:
        The settings, and what was taken, in a line; empty where that are the usual ones.

    Raises:
        ConfigError: If there is no such network.
    """
    settings = dict(given)
    backbone = str(given.get("backbone", _default("backbone")))
    library = library_of(backbone)
    library.check(backbone)
    if own_module.is_own(backbone):
        own_module.allow(backbone)
        backbone = own_module.absolute(backbone)
        settings["backbone"] = backbone
    weights = str(given.get("weights", "none" if given.get("mode") == "scratch" else _default("weights")))
    expected = library.expects(backbone, weights)
    if expected is None:
        return settings, ""
    found: dict[str, Any] = {
        "input_size": (expected.height, expected.width),
        "resize_mode": expected.resize_mode,
        "crop_fraction": expected.crop_fraction,
        "interpolation": expected.interpolation,
        "mean": expected.mean,
        "std": expected.std,
    }
    if given.get("resize_mode", expected.resize_mode) != expected.resize_mode:
        del found["crop_fraction"]
    taken = {name: value for name, value in found.items() if name not in given and value != _default(name)}
    words = ", ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in taken.items())
    return settings | taken, f"{library.title(backbone)} was made for {words}: taken" if words else ""


def _default(name: str) -> Any:  # noqa: ANN401
    """Returns what a setting is where neither user nor network says it."""
    if name == "crop_fraction":
        return usual_input().crop_fraction
    return TrainConfig.__dataclass_fields__[name].default


def _shown(value: Any) -> str:  # noqa: ANN401
    return as_text(value) if isinstance(value, tuple) and isinstance(value[0], float) else as_given(value)

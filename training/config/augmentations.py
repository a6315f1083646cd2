"""The names of augmentations, alone and in presets."""

from __future__ import annotations

from collections.abc import Sequence

from cnn_perception.errors import ConfigError

PRESETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "light": ("crop", "flip", "color"),
    "classic": ("rotate", "translate", "scale", "shear", "stretch"),
}
SWITCHES = (
    "crop", "flip", "color", "rotate", "translate", "scale", "shear", "stretch", "randaugment", "trivialaugment",
)  # fmt: skip


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

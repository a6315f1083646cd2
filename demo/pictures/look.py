"""Parts of the page that the demo's look into its network leaves: patches, visualisations, where a unit is on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cnn_perception.errors import DataError
from cnn_perception.masks.folder import read_masks
from demo.pictures import compressed
from demo.pictures.sources import Sources
from training.look.subject import stem_of

_STAGES = 2
_VISUALISED = ("no_entry", "pedestrian_crossing", "stop")
_DISSECTED = ("no_entry", "speed_30")


def patches(sources: Sources, path: Path) -> str:
    """Shows what excites a unit of each of the last stages most: the unit that stands out most there.

    Args:
        sources: Of which the demo is used.
        path: The file.

    Returns:
        What it shows: stages and units.

    Raises:
        DataError: If the demo has left no such pictures.
    """
    layers = _section(sources, "patches")["layers"]
    chosen = [(name, int(layer["units"][0]["unit"])) for name, layer in list(layers.items())[-_STAGES:]][::-1]
    _join(sources, "patches", [f"{stem_of(name)}_{unit}" for name, unit in chosen], path)
    return ", ".join(f"{name} unit {unit}" for name, unit in chosen)


def visualisation(sources: Sources, path: Path) -> str:
    """Shows what the answers of some classes look for.

    Args:
        sources: Of which the demo is used.
        path: The file.

    Returns:
        What it shows: the classes.

    Raises:
        DataError: If the demo has left no such pictures, or has other classes.
    """
    classes = _record(sources)["classes"]
    _require(_VISUALISED, classes, sources)
    _join(sources, "visualisation", [f"answer_{classes.index(name)}" for name in _VISUALISED], path)
    return ", ".join(_VISUALISED)


def dissection(sources: Sources, path: Path) -> str:
    """Shows where the best units of some concepts are on.

    Args:
        sources: Of which the demo is used.
        path: The file.

    Returns:
        What it shows: concepts, units and how well they match.

    Raises:
        DataError: If the demo has left no such pictures, or has other concepts.
    """
    found = _section(sources, "dissection")["concepts"]
    _require(_DISSECTED, found, sources)
    concepts = read_masks(sources.of_demo("masks")).concepts
    _join(sources, "dissection", [f"concept_{concepts.index(name):02}" for name in _DISSECTED], path)
    return ", ".join(
        f"{name} {one['layer']} unit {one['unit']}, IoU {one['iou']:.2f} of at most {one['cap']:.2f}"
        for name, one in ((name, found[name]) for name in _DISSECTED)
    )


def _record(sources: Sources) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(sources.of_demo("look", "look.json").read_text(encoding="utf-8"))
    return record


def _section(sources: Sources, name: str) -> dict[str, Any]:
    sections: dict[str, dict[str, Any]] = _record(sources)["sections"]
    if name not in sections:
        raise DataError(f"{sources.demo / 'look'}: has no section {name}; give the demo of drawn images")
    return sections[name]


def _require(names: tuple[str, ...], known: list[str] | dict[str, Any], sources: Sources) -> None:
    if missing := [name for name in names if name not in known]:
        raise DataError(f"{sources.demo / 'look'}: knows nothing of {missing[0]}; give the demo of drawn images")


def _join(sources: Sources, section: str, names: list[str], path: Path) -> None:
    files = [sources.of_demo("look", "figures", section, f"{name}.png") for name in names]
    compressed.write(compressed.beside(files), path)

"""The filters of the first convolution as pictures, sorted by what they prefer."""

from __future__ import annotations

from collections import Counter

import numpy as np
from torch import nn

from training.look.drawing import grid, in_squares
from training.look.methods.filters import Preference, as_picture, preference
from training.look.section import Block, CannotLookError, Picture, Section
from training.look.subject import Subject
from training.networks import backbones

_SIDE = 56
_COLUMNS = 16


def look(subject: Subject) -> Section:
    """Draws every filter of the first convolution and says which orientation and colour it prefers.

    Raises:
        CannotLookError: If the network has no convolution that reads the image.
    """
    name, layer = _first_convolution(subject)
    weights = [row.numpy() for row in layer.weight.detach().double().cpu()]
    if layer.in_channels == 3:
        # the network divides colours by std: so much less do its weights for colours in [0, 1] weigh
        std = np.array(subject.checkpoint.input.std).reshape(3, 1, 1)
        weights = [row / std for row in weights]
    preferences = [preference(row) for row in weights]
    order = sorted(range(len(weights)), key=lambda unit: _place(preferences[unit]))
    pictures = [in_squares(as_picture(weights[unit]), _SIDE) for unit in order]
    kinds = Counter(found.kind for found in preferences)
    height, width = layer.kernel_size
    intro = (
        f"The {len(weights)} filters of {name}, {height}x{width} pixels, each a picture of what it responds to "
        "most: the colours are its weights for red, green and blue, grey is no weight. Sorted: grey stripes and "
        "edges by their direction, then coloured ones, then blobs. Networks that have learned to see show edges of "
        "all directions and opponent colours here; noise means too little training or too high a rate "
        "(Krizhevsky et al. 2012)."
    )
    table = (("kind", "filters"), *((kind, str(count)) for kind, count in sorted(kinds.items())))
    block = Block("", "", (Picture("filters", grid(pictures, _COLUMNS), _order_in_words(order)),), 0, table)
    return Section(intro, (block,), {"layer": name, "filters": list(map(_fact, preferences))})


def _first_convolution(subject: Subject) -> tuple[str, nn.Conv2d]:
    for node in subject.traced.graph.nodes:
        module = backbones.module_of(node, subject.traced)
        if isinstance(module, nn.Conv2d):
            if module.in_channels not in (1, 3) or module.groups != 1:
                raise CannotLookError(f"the first convolution, {node.target}, reads neither colours nor grey")
            return str(node.target), module
    raise CannotLookError(f"{subject.checkpoint.backbone} has no convolution whose filters could be drawn")


def _place(found: Preference) -> tuple[bool, str, float]:
    angle = found.orientation_deg
    return angle is None, "" if found.colour == "grey" else found.colour, -1.0 if angle is None else angle


def _order_in_words(order: list[int]) -> str:
    shown = ", ".join(map(str, order[:_COLUMNS]))
    return f"first row: units {shown}" if len(order) > _COLUMNS else f"units {shown}"


def _fact(found: Preference) -> dict[str, float | str | None]:
    return {
        "orientation_deg": None if found.orientation_deg is None else round(found.orientation_deg, 1),
        "wavelength_px": None if found.wavelength_px is None else round(found.wavelength_px, 1),
        "colour": found.colour,
    }

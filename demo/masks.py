"""What every pixel of the demo's pictures shows, since it is known what was drawn there.

A mask is a PNG with a palette; its class table says what the colours stand for, and that all but the signs counts as a
clear road. A pixel belongs to what covers more than half of it, shadows aside.
"""

from __future__ import annotations

import colorsys
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.scene import by_distance, first_row_of_ground, ground_below, hills, project
from demo.shots import CLEAR, Shot
from demo.signs import SIGNS

SCENERY = ("sky", "hills", "grass", "road", "pole", "tree", "bush", "house", "fence", "billboard", "lamp", "car")
CONCEPTS = (*SIGNS, *SCENERY)
"""What masks tell apart; their indices are those here."""


def label(shot: Shot) -> NDArray[np.uint8]:
    """Returns of each pixel of a picture the index in `CONCEPTS` of what it shows, (height, width)."""
    view = shot.view
    labels = np.full((view.height, view.width), CONCEPTS.index("sky"), np.uint8)
    hilly = hills(view, shot.road.seed)
    labels[: len(hilly)][hilly] = CONCEPTS.index("hills")
    first = first_row_of_ground(view)
    if first < view.height:
        on_road = ground_below(first, view).band(shot.road.left, shot.road.right) > 0.5
        labels[first:] = np.where(on_road, CONCEPTS.index("road"), CONCEPTS.index("grass"))
    for panel in by_distance(shot.panels):
        seen = project(panel, view) if panel.name else None
        if seen is not None:
            labels[seen.region][seen.patch[..., 3] > 0.5] = CONCEPTS.index(panel.name)
    return labels


def encode_mask(labels: NDArray[np.uint8]) -> bytes:
    """Returns a mask as the bytes of its PNG."""
    image = Image.fromarray(labels)
    image.putpalette([value for colour in _colours() for value in colour])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_table(folder: Path) -> None:
    """Writes the class table of masks, classes.csv."""
    lines = ["name,r,g,b,class"]
    for name, (red, green, blue) in zip(CONCEPTS, _colours(), strict=True):
        lines.append(f"{name},{red},{green},{blue},{name if name in SIGNS else CLEAR}")
    (folder / "classes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _colours() -> list[tuple[int, int, int]]:
    """Strong colours for the signs and soft ones for the rest, around the circle of hues."""
    colours = []
    for index, name in enumerate(CONCEPTS):
        strength = (0.9, 0.95) if name in SIGNS else (0.35, 0.75)
        red, green, blue = colorsys.hsv_to_rgb(index * 0.381966 % 1.0, *strength)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return colours

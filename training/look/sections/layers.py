"""What each layer gives for some images: its strongest maps, how many of its units are on, which are dead."""

from __future__ import annotations

import numpy as np
import torch

from cnn_perception.image.messages import RgbImage
from training.look.drawing import grid, map_picture, resized
from training.look.section import Block, Picture, Section
from training.look.subject import Layer, Shown, Subject
from training.look.survey import Numbers, UnitRecord
from training.report import figures

_SIDE = 96
_COLUMNS = 3


def look(subject: Subject) -> Section:
    """Shows the strongest maps of every layer for the shown images, and how sparse the layers are over all.

    Raises:
        CannotLookError: If the network has no maps.
    """
    subject.require_maps()
    records = subject.survey.units
    rows = [_row(layer, records[layer.name]) for layer in subject.layers]
    intro = (
        f"The strongest of each layer's maps, brightest at the unit's largest activation in "
        f"{len(subject.survey.samples)} images; a unit is dead when it is above zero in none of them. A cell sees its "
        "receptive field of the image, and cells lie a stride apart (pixels of the network's input)."
    )
    head = ("layer", "maps", "cells", "stride", "receptive field", "cells above zero", "dead units")
    shares = {layer.name: records[layer.name].active_share for layer in subject.layers}
    overview = Block("", "", (Picture("sparsity", figures.shares_of_units(shares)),), 0, (head, *rows))
    blocks = [overview]
    if subject.shown:
        blocks += _of_shown(subject)
    facts = {"layers": [_fact(layer, records[layer.name]) for layer in subject.layers]}
    return Section(intro, tuple(blocks), facts)


def _of_shown(subject: Subject) -> list[Block]:
    names = ", ".join(one.path.name for one in subject.shown)
    seen = Picture("images", grid([_small(subject.as_picture(one.image)) for one in subject.shown], 8), names)
    of_images = [_maps(subject, one, place) for place, one in enumerate(subject.shown)]
    blocks = [Block("The images, as the network gets them", "", (seen,), 320)]
    for layer, pictures in zip(subject.layers, zip(*of_images, strict=True), strict=True):
        channels, rows, columns = layer.shape
        blocks.append(Block(layer.name, f"{channels} maps of {rows}x{columns} cells", pictures, 220))
    return blocks


@torch.inference_mode()
def _maps(subject: Subject, shown: Shown, place: int) -> list[Picture]:
    """Returns the strongest maps of each layer for an image."""
    *maps, _, _, _ = subject.opened(shown.image[None])
    rows = zip(subject.layers, maps, strict=True)
    return [_strongest(subject, layer, found[0].float().cpu().numpy(), shown, place) for layer, found in rows]


def _strongest(subject: Subject, layer: Layer, maps: Numbers, shown: Shown, place: int) -> Picture:
    largest = np.maximum(subject.survey.units[layer.name].largest, 1e-12)
    units = np.argsort(-maps.max((1, 2)) / largest, kind="stable")[: subject.options.units]
    drawn = [map_picture(maps[unit], float(largest[unit]), _SIDE, _SIDE) for unit in units]
    caption = f"{shown.path.name}: units {', '.join(map(str, units))}"
    return Picture(f"{layer.stem}_{place}", grid(drawn, _COLUMNS), caption)


def _small(picture: RgbImage) -> RgbImage:
    return resized(picture, _SIDE, round(_SIDE * picture.shape[1] / picture.shape[0]))


def _field(layer: Layer) -> str:
    return "all" if not all(layer.geometry.receptive_field) else "x".join(map(str, layer.geometry.receptive_field))


def _row(layer: Layer, record: UnitRecord) -> tuple[str, ...]:
    channels, rows, columns = layer.shape
    stride = "x".join(f"{step:g}" for step in layer.geometry.stride)
    share = f"{float(record.map_shares.mean()):.0%}"
    return layer.name, str(channels), f"{rows}x{columns}", stride, _field(layer), share, str(_dead(record))


def _dead(record: UnitRecord) -> int:
    return int((record.largest <= 0).sum())


def _fact(layer: Layer, record: UnitRecord) -> dict[str, object]:
    return {
        "name": layer.name,
        "shape": list(layer.shape),
        "stride": list(layer.geometry.stride),
        "receptive_field": list(layer.geometry.receptive_field),
        "share_above_zero": round(float(record.map_shares.mean()), 4),
        "dead_units": np.flatnonzero(record.largest <= 0).tolist(),
    }

"""What each layer gives for some images: its strongest maps, how many of its units are on, which are dead."""

from __future__ import annotations

import numpy as np
import torch

from cnn_perception.image.messages import RgbImage
from training.look.drawing import grid, map_picture, resized
from training.look.section import Block, Picture, Section
from training.look.subject import Layer, Subject
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
        names = [path.name for path, _ in subject.shown]
        tensors = torch.stack([subject.tensor(picture) for _, picture in subject.shown])
        with torch.inference_mode():
            outputs = subject.opened(tensors)
        seen = Picture("images", grid([_small(subject.as_picture(tensor)) for tensor in tensors], 8), ", ".join(names))
        blocks.append(Block("The images, as the network gets them", "", (seen,), 320))
        for layer, maps in zip(subject.layers, outputs, strict=False):
            blocks.append(_maps(subject, layer, records[layer.name], maps.float().cpu().numpy(), names))
    return Section(
        "Every layer", intro, tuple(blocks), {"layers": [_fact(layer, records[layer.name]) for layer in subject.layers]}
    )


def _maps(subject: Subject, layer: Layer, record: UnitRecord, maps: Numbers, names: list[str]) -> Block:
    pictures = []
    largest = np.maximum(record.largest, 1e-12)
    for number, (found, name) in enumerate(zip(maps, names, strict=True)):
        reached = found.max((1, 2)) / largest
        units = np.argsort(-reached, kind="stable")[: subject.options.units]
        drawn = [map_picture(found[unit], float(largest[unit]), _SIDE, _SIDE) for unit in units]
        caption = f"{name}: units {', '.join(map(str, units))}"
        pictures.append(Picture(f"{layer.name.replace('.', '_')}_{number}", grid(drawn, _COLUMNS), caption))
    channels, rows, columns = layer.shape
    return Block(layer.name, f"{channels} maps of {rows}x{columns} cells", tuple(pictures), 220)


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

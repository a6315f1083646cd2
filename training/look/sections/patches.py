"""The patches of the data that excite units most, found in the pictures by the arithmetic of receptive fields."""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path

import numpy as np

from cnn_perception.image.messages import RgbImage, read_image
from training.look.methods.fields import Box, effective_side, receptive_box, square
from training.look.section import Block, CannotLookError, Picture, Section
from training.look.sheets import cropped, resized, sheet, with_box
from training.look.subject import Layer, Subject
from training.look.survey import UnitRecord

_SIDE = 72
_MEASURED = 6
"""Units by which the effective field of a layer is measured."""
_SEEN_SHARE = 0.002
"""A unit that is above zero in fewer cells shows its few images and nothing that it stands for."""


def look(subject: Subject) -> Section:
    """Shows for some units of every layer the nine strongest patches, and where they lie in their pictures.

    Raises:
        CannotLookError: If the network has no maps.
    """
    if not subject.layers:
        raise CannotLookError(f"{subject.checkpoint.backbone} has no maps: its units have no place in the image")
    survey = subject.survey
    blocks = []
    facts = {}
    for layer in subject.layers:
        record = survey.units[layer.name]
        units = chosen(record, subject.options.units)
        side = _patch_side(subject, layer, record, units[:_MEASURED])
        blocks.append(_block(subject, layer, record, units, side))
        facts[layer.name] = {
            "patch_side": side,
            "units": [{"unit": unit, "activations": record.strongest[unit].tolist()} for unit in units],
        }
    intro = (
        f"For some units of every layer the patches of {len(survey.samples)} images that excite them most, one of an "
        "image, the strongest first. The picture beside them shows where the first one lies: the box is what the cell "
        "can see at all. Where that is larger than what matters to it, the patch is the square that holds "
        "90 % of the gradient's energy (Luo et al. 2016). Source of the figure: Zeiler and Fergus 2014."
    )
    return Section("What excites a unit", intro, tuple(blocks), {"layers": facts})


def chosen(record: UnitRecord, count: int) -> list[int]:
    """Returns the units whose strongest activations stand out most from their mean: those that stand for something."""
    mean = np.maximum(record.mean, 1e-12)
    contrast = np.where(record.active_share >= _SEEN_SHARE, record.strongest.mean(1) / mean, 0.0)
    if not contrast.any():
        contrast = record.strongest.mean(1)
    return [int(unit) for unit in np.argsort(-contrast, kind="stable")[:count]]


def _patch_side(subject: Subject, layer: Layer, record: UnitRecord, units: list[int]) -> int:
    """Returns the side of a layer's patches: the effective field of some of its units, the median."""
    network = subject.cut(layer.node)
    sides = []
    for unit in units:
        image = subject.tensor(read_image(subject.survey.samples[int(record.images[unit, 0])].path))
        row, column = map(int, record.places[unit, 0])
        sides.append(effective_side(network, layer.geometry, image, unit, (row, column)))
    field = min(layer.geometry.receptive_field) or max(subject.checkpoint.input.height, subject.checkpoint.input.width)
    return max(min(round(statistics.median(sides)), field), min(field, 5))


def _block(subject: Subject, layer: Layer, record: UnitRecord, units: list[int], side: int) -> Block:
    pictures = [_unit(subject, layer, record, unit, side) for unit in units]
    sides = layer.geometry.receptive_field
    field = f"{sides[0]}x{sides[1]}" if all(sides) else "all"
    note = f"a cell sees {field} pixels; patches of {side}x{side}"
    return Block(layer.name, note, tuple(pictures), 330)


def _unit(subject: Subject, layer: Layer, record: UnitRecord, unit: int, side: int) -> Picture:
    size = (subject.checkpoint.input.height, subject.checkpoint.input.width)
    samples = [subject.survey.samples[int(row)] for row in record.images[unit]]
    cells = [(int(row), int(column)) for row, column in record.places[unit]]
    seen = [_as_seen(subject, sample.path) for sample in samples]
    patches = [
        resized(cropped(picture, square(layer.geometry, cell, side, size)), _SIDE, _SIDE)
        for picture, cell in zip(seen, cells, strict=True)
    ]
    whole = _whole(seen[0], receptive_box(layer.geometry, cells[0], size))
    caption = (
        f"unit {unit}: {float(record.strongest[unit, 0]):.3g}{_classes(subject, [sample.label for sample in samples])}"
    )
    return Picture(f"{layer.name.replace('.', '_')}_{unit}", _beside(sheet(patches, 3), whole), caption)


def _classes(subject: Subject, labels: list[int]) -> str:
    if subject.checkpoint.task != "multiclass":
        return ""
    (label, count), *_ = Counter(labels).most_common(1)
    return f"; {count} of {len(labels)} {subject.class_names[label]}"


def _as_seen(subject: Subject, path: Path) -> RgbImage:
    return subject.as_picture(subject.tensor(read_image(path)))


def _whole(picture: RgbImage, box: Box) -> RgbImage:
    side = 3 * _SIDE + 4
    drawn = with_box(picture, box)
    return resized(drawn, side, round(side * picture.shape[1] / picture.shape[0]))


def _beside(left: RgbImage, right: RgbImage) -> RgbImage:
    height = max(left.shape[0], right.shape[0])
    gap = np.full((height, 4, 3), 255, np.uint8)
    padded = [np.pad(one, ((0, height - one.shape[0]), (0, 0), (0, 0)), constant_values=255) for one in (left, right)]
    return RgbImage(np.concatenate([padded[0], gap, padded[1]], 1))

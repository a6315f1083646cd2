"""Units of a layer: those that stand for something, and the patches of the data that say what."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np

from cnn_perception.image.messages import RgbImage, read_image
from training.look.drawing import cropped
from training.look.methods.fields import Box, effective_side, square
from training.look.subject import Layer, Subject
from training.look.survey import UnitRecord

_MEASURED = 6
"""Units by which the effective field of a layer is measured."""
_SEEN_SHARE = 0.002
"""A unit that is above zero in fewer cells shows its few images and nothing that it stands for."""
_SMALLEST_PX = 5


def chosen(record: UnitRecord, count: int) -> list[int]:
    """Returns the units whose strongest activations stand out most from their mean: those that stand for something."""
    mean = np.maximum(record.mean, 1e-12)
    contrast = np.where(record.active_share >= _SEEN_SHARE, record.strongest.mean(1) / mean, 0.0)
    if not contrast.any():
        contrast = record.strongest.mean(1)
    return [int(unit) for unit in np.argsort(-contrast, kind="stable")[:count]]


def patch_side(subject: Subject, layer: Layer) -> int:
    """Returns the side of a layer's patches, pixels: the effective field of some of its units, the median."""
    if layer.name not in subject.patch_sides:
        subject.patch_sides[layer.name] = _measured_side(subject, layer)
    return subject.patch_sides[layer.name]


def _measured_side(subject: Subject, layer: Layer) -> int:
    record = subject.survey.units[layer.name]
    network = subject.cut(layer.node)
    sides = []
    for unit in chosen(record, _MEASURED):
        image = subject.tensor(read_image(subject.survey.samples[int(record.images[unit, 0])].path))
        sides.append(effective_side(network, layer.geometry, image, unit, cells(record, unit)[0]))
    size = subject.checkpoint.input
    field = min(layer.geometry.receptive_field) or max(size.height, size.width)
    return max(min(round(statistics.median(sides)), field), min(field, _SMALLEST_PX))


def cells(record: UnitRecord, unit: int) -> list[tuple[int, int]]:
    """Returns row and column of a unit's strongest place in each of its strongest images."""
    return [(int(row), int(column)) for row, column in record.places[unit]]


def part(subject: Subject, layer: Layer, cell: tuple[int, int]) -> Box:
    """Returns the square of the network's input that matters to a cell, moved into the image."""
    size = subject.checkpoint.input
    return square(layer.geometry, cell, patch_side(subject, layer), (size.height, size.width))


def seen(subject: Subject, path: Path) -> RgbImage:
    """Returns a picture as the network gets it."""
    return subject.as_picture(subject.tensor(read_image(path)))


def strongest(subject: Subject, layer: Layer, unit: int, count: int) -> list[tuple[RgbImage, tuple[int, int]]]:
    """Returns the pictures that excite a unit most, each with the cell where it does; fewer of fewer images."""
    record = subject.survey.units[layer.name]
    places = list(zip(record.images[unit], cells(record, unit), strict=True))[:count]
    return [(seen(subject, subject.survey.samples[int(row)].path), cell) for row, cell in places]


def patches(subject: Subject, layer: Layer, unit: int, count: int) -> list[RgbImage]:
    """Returns where the strongest images excite a unit most, as parts of the pictures; fewer of fewer images."""
    found = strongest(subject, layer, unit, count)
    return [cropped(picture, part(subject, layer, cell)) for picture, cell in found]

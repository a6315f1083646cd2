"""The patches of the data that excite units most, found in the pictures by the arithmetic of receptive fields."""

from __future__ import annotations

from collections import Counter

import numpy as np

from cnn_perception.image.messages import RgbImage
from training.look.drawing import grid, resized, with_box
from training.look.methods.fields import Box, receptive_box
from training.look.section import Block, Picture, Section
from training.look.subject import Layer, Subject
from training.look.survey import UnitRecord
from training.look.units import cells, chosen, patch_side, patches, seen
from training.tasks.by_name import task_of

_SIDE = 72


def look(subject: Subject) -> Section:
    """Shows for some units of every layer the nine strongest patches, and where they lie in their pictures.

    Raises:
        CannotLookError: If the network has no maps.
    """
    subject.require_maps()
    survey = subject.survey
    blocks = []
    facts = {}
    for layer in subject.layers:
        record = survey.units[layer.name]
        units = chosen(record, subject.options.units)
        side = patch_side(subject, layer)
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


def _block(subject: Subject, layer: Layer, record: UnitRecord, units: list[int], side: int) -> Block:
    pictures = [_unit(subject, layer, record, unit) for unit in units]
    sides = layer.geometry.receptive_field
    field = f"{sides[0]}x{sides[1]}" if all(sides) else "all"
    note = f"a cell sees {field} pixels; patches of {side}x{side}"
    return Block(layer.name, note, tuple(pictures), 330)


def _unit(subject: Subject, layer: Layer, record: UnitRecord, unit: int) -> Picture:
    samples = [subject.survey.samples[int(row)] for row in record.images[unit]]
    shown = grid([resized(patch, _SIDE, _SIDE) for patch in patches(subject, layer, unit, len(samples))], 3)
    size = subject.checkpoint.input
    box = receptive_box(layer.geometry, cells(record, unit)[0], (size.height, size.width))
    whole = _whole(seen(subject, samples[0].path), box, shown.shape[0])
    classes = _classes(subject, [sample.label for sample in samples])
    caption = f"unit {unit}: {float(record.strongest[unit, 0]):.3g}{classes}"
    return Picture(f"{layer.name.replace('.', '_')}_{unit}", _beside(shown, whole), caption)


def _classes(subject: Subject, labels: list[int]) -> str:
    if not task_of(subject.checkpoint.task).one_class:
        return ""
    (label, count), *_ = Counter(labels).most_common(1)
    return f"; {count} of {len(labels)} {subject.class_names[label]}"


def _whole(picture: RgbImage, box: Box, side: int) -> RgbImage:
    return resized(with_box(picture, box), side, round(side * picture.shape[1] / picture.shape[0]))


def _beside(left: RgbImage, right: RgbImage) -> RgbImage:
    height = max(left.shape[0], right.shape[0])
    gap = np.full((height, 4, 3), 255, np.uint8)
    padded = [np.pad(one, ((0, height - one.shape[0]), (0, 0), (0, 0)), constant_values=255) for one in (left, right)]
    return RgbImage(np.concatenate([padded[0], gap, padded[1]], 1))

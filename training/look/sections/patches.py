"""The patches of the data that excite units most, found in the pictures by the arithmetic of receptive fields."""

from __future__ import annotations

from collections import Counter

import numpy as np

from cnn_perception.image.messages import RgbImage
from training.look.drawing import cropped, grid, resized, with_box
from training.look.methods.fields import receptive_box
from training.look.section import Block, Picture, Section
from training.look.subject import Layer, Subject
from training.look.survey import STRONGEST, UnitRecord
from training.look.units import chosen, part, patch_side, strongest
from training.tasks.by_name import task_of

_SIDE = 72
_COLUMNS = 3
_GAP = 8


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
        "image, the strongest first. Beside them the whole pictures show where they lie: the box is what the cell can "
        "see at all. Where that is larger than what matters to it, the patch is the square that holds "
        "90 % of the gradient's energy (Luo et al. 2016). Source of the figure: Zeiler and Fergus 2014."
    )
    return Section(intro, tuple(blocks), {"layers": facts})


def _block(subject: Subject, layer: Layer, record: UnitRecord, units: list[int], side: int) -> Block:
    pictures = [_unit(subject, layer, record, unit) for unit in units]
    sides = layer.geometry.receptive_field
    field = f"{sides[0]}x{sides[1]}" if all(sides) else "all"
    note = f"a cell sees {field} pixels; patches of {side}x{side}"
    return Block(layer.name, note, tuple(pictures), 450)


def _unit(subject: Subject, layer: Layer, record: UnitRecord, unit: int) -> Picture:
    found = strongest(subject, layer, unit, STRONGEST)
    patches = [resized(cropped(picture, part(subject, layer, cell)), _SIDE, _SIDE) for picture, cell in found]
    whole = [_whole(layer, picture, cell) for picture, cell in found]
    classes = _classes(subject, [subject.survey.samples[int(row)].label for row in record.images[unit]])
    caption = f"unit {unit}: {float(record.strongest[unit, 0]):.3g}{classes}"
    return Picture(f"{layer.stem}_{unit}", _beside(grid(patches, _COLUMNS), grid(whole, _COLUMNS)), caption)


def _classes(subject: Subject, labels: list[int]) -> str:
    if not task_of(subject.checkpoint.task).one_class:
        return ""
    (label, count), *_ = Counter(labels).most_common(1)
    return f"; {count} of {len(labels)} {subject.class_names[label]}"


def _whole(layer: Layer, picture: RgbImage, cell: tuple[int, int]) -> RgbImage:
    """Returns a picture of the input's size, as high as a patch, with the box of what a cell sees."""
    height, width = picture.shape[:2]
    box = receptive_box(layer.geometry, cell, (height, width))
    return resized(with_box(picture, box), _SIDE, max(round(_SIDE * width / height), 1))


def _beside(left: RgbImage, right: RgbImage) -> RgbImage:
    gap = np.full((left.shape[0], _GAP, 3), 255, np.uint8)
    return RgbImage(np.concatenate([left, gap, right], 1))

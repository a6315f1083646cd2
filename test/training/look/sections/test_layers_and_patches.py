"""Owns: the sections of filters, layers and patches, on planted units. Leaves to others: the survey, the boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from looked_at import subject_of

from cnn_perception.image.messages import read_image
from training.look.section import CannotLookError
from training.look.sections import filters, layers, patches
from training.look.units import chosen
from training.networks import backbones

GREEN_UNIT, DEAD_UNIT = 5, 9


def planted() -> torch.nn.Module:
    """A ResNet-18 whose first layer has a unit that likes green, and one that is never on."""
    torch.manual_seed(0)
    model = backbones.build("resnet18", 3)
    with torch.no_grad():
        model.conv1.weight[GREEN_UNIT] = torch.tensor([-1.0, 1.0, -1.0]).reshape(3, 1, 1) / 49
        model.conv1.weight[DEAD_UNIT] = 0
        model.bn1.bias[DEAD_UNIT] = -1
    return model


@pytest.fixture(scope="module")
def subject(photos):
    return subject_of("resnet18", 64, photos, planted(), units=64)


def test_a_dead_unit_is_named_and_the_share_of_cells_that_are_on_is_that_of_the_survey(subject):
    found = layers.look(subject)

    first = found.facts["layers"][0]
    assert DEAD_UNIT in first["dead_units"]
    assert GREEN_UNIT not in first["dead_units"]
    assert first["share_above_zero"] == pytest.approx(subject.survey.units["conv1"].map_shares.mean(), abs=1e-4)
    table = {row[0]: row for row in found.blocks[0].table[1:]}
    assert table["layer2"][1:5] == ("128", "8x8", "8x8", "99x99")
    # every shown image has a picture of every layer
    assert [len(block.pictures) for block in found.blocks[2:]] == [4] * 5


def test_the_strongest_patches_of_a_unit_that_likes_green_are_green(subject):
    record = subject.survey.units["conv1"]
    colours = []
    for row, (down, across) in zip(record.images[GREEN_UNIT], record.places[GREEN_UNIT], strict=True):
        picture = subject.as_picture(subject.tensor(read_image(subject.survey.samples[row].path)))
        colours.append(picture[2 * down, 2 * across].astype(int))
    greenness = np.array(colours) @ [-1, 2, -1]

    assert (greenness > 0).all()
    assert GREEN_UNIT in chosen(record, 64)
    assert DEAD_UNIT not in chosen(record, 32)


def test_every_layer_has_a_picture_of_each_chosen_unit_and_its_activations(photos):
    found = patches.look(subject_of("squeezenet1_1", 64, photos, units=2))

    assert [len(block.pictures) for block in found.blocks] == [2] * len(found.blocks)
    for facts in found.facts["layers"].values():
        for unit in facts["units"]:
            assert unit["activations"] == sorted(unit["activations"], reverse=True)


def test_each_of_the_nine_patches_is_boxed_in_its_whole_picture(subject):
    layer = subject.layer("conv1")
    record = subject.survey.units["conv1"]

    shown = patches._unit(subject, layer, record, GREEN_UNIT).pixels.astype(int)

    side, gap = 72, 3
    assert shown.shape == (3 * side + 2 * gap, 2 * (3 * side + 2 * gap) + 8, 3)
    for place, cell in enumerate(record.places[GREEN_UNIT]):
        top, left = place // 3 * (side + gap), 3 * side + 2 * gap + 8 + place % 3 * (side + gap)
        whole = shown[top : top + side, left : left + side]
        rows, columns = np.nonzero(np.abs(whole - [255, 64, 0]).sum(2) < 120)
        ends = [2 * middle + edge for middle in cell for edge in (-3, 3)]  # 7 pixels around stride * cell
        expected = np.array(ends).clip(0, 63) * side / 64
        found = [rows.min(), rows.max(), columns.min(), columns.max()]
        np.testing.assert_allclose(found, expected, atol=3)


def test_the_filter_that_was_planted_is_told_by_its_colour(subject):
    found = filters.look(subject)

    assert found.facts["layer"] == "conv1"
    assert found.facts["filters"][GREEN_UNIT] == {
        "orientation_deg": None, "wavelength_px": None, "colour": "green against magenta",
    }  # fmt: skip


def test_networks_without_maps_or_convolutions_are_told(photos):
    transformer = subject_of("vit_b_16", 224, photos)

    assert filters.look(transformer).facts["layer"] == "conv_proj"
    with pytest.raises(CannotLookError, match="vit_b_16 has no maps"):
        layers.look(transformer)
    with pytest.raises(CannotLookError, match="no maps"):
        patches.look(transformer)

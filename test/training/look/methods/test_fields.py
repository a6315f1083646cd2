"""Owns: that a receptive field's box holds all that a cell depends on. Leaves to others: the arithmetic per layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from looked_at import subject_of
from torch import nn

from training.graphs.receptive_field import Geometry
from training.look.methods.fields import Box, effective_side, receptive_box, square


@pytest.fixture(scope="module")
def subject(photos):
    return subject_of("resnet18", 128, photos)


@pytest.mark.parametrize("name", ["conv1", "layer1", "layer2"])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_nothing_outside_the_box_changes_the_activation_and_a_row_inside_does(subject, name, where):
    layer = subject.layer(name)
    network = subject.cut(layer.node)
    _, rows, columns = layer.shape
    cell = (round(where * (rows - 1)), round((1 - where) * (columns - 1)))
    box = receptive_box(layer.geometry, cell, (128, 128))
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    masked = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    masked[..., box.top : box.bottom, box.left : box.right] = image[..., box.top : box.bottom, box.left : box.right]
    first_row = image.clone()
    first_row[..., box.top, box.left : box.right] += 5

    with torch.no_grad():
        # all units, since a single one may be off
        of_whole, of_masked, of_changed = (network(one)[0, :, cell[0], cell[1]] for one in (image, masked, first_row))

    torch.testing.assert_close(of_masked, of_whole, rtol=0, atol=0)
    assert (of_changed != of_whole).any()


def test_a_box_is_cut_at_the_border_and_the_whole_image_where_a_cell_sees_all():
    geometry = Geometry((4.0, 4.0), (11, 11), (1.5, 1.5))

    assert receptive_box(geometry, (0, 3), (64, 64)) == Box(0, 8, 7, 19)
    assert receptive_box(Geometry((4.0, 4.0), (0, 0), (1.5, 1.5)), (0, 3), (64, 48)) == Box(0, 0, 64, 48)
    assert square(geometry, (0, 15), 9, (64, 64)) == Box(0, 55, 9, 64)


def test_the_effective_field_holds_nine_tenths_of_the_energy_of_a_known_kernel():
    convolution = nn.Conv2d(3, 1, 9, padding=4, bias=False)
    with torch.no_grad():
        weight = torch.zeros(9, 9)
        weight[4, 4], weight[4, 6], weight[0, 0] = 3.0, 1.0, 0.9  # energies 9, 1, 0.81: 9 is 83 %, with the next 92.5 %
        convolution.weight.copy_(weight.expand(1, 3, 9, 9))
    geometry = Geometry((1.0, 1.0), (9, 9), (0.0, 0.0))

    assert effective_side(convolution, geometry, torch.zeros(3, 32, 32), 0, (16, 16)) == 5
    assert effective_side(nn.Sequential(convolution, nn.ReLU()), geometry, torch.zeros(3, 32, 24), 0, (9, 9)) == 32
    assert np.isclose(9 / 10.81, 0.83, atol=0.01)

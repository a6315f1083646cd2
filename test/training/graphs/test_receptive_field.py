"""Owns: what a cell of a feature map sees. Leaves to others: what the features mean."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.graphs.receptive_field import Geometry, geometry
from training.networks import backbones

HEIGHT, WIDTH = 96, 160

# (kernel, stride, padding) of each layer on the longest way through the network, from its paper or torchvision's source
CONV3 = (3, 1, 1)
RESNET_STEM = [(7, 2, 3), (3, 2, 1)]
ALEXNET = [(11, 4, 2), (3, 2, 0), (5, 1, 2), (3, 2, 0), CONV3, CONV3, CONV3, (3, 2, 0)]
RESNET50 = (  # stride in the 3x3 layer, as torchvision has it
    RESNET_STEM
    + [(1, 1, 0), CONV3, (1, 1, 0)] * 3
    + [layer for blocks in (4, 6, 3) for layer in [(1, 1, 0), (3, 2, 1), (1, 1, 0)] + [(1, 1, 0), CONV3] * (blocks - 1)]
)


def chain(layers):
    """Stride, receptive field and offset by the recursion r += (k - 1) j, c += ((k - 1) / 2 - p) j, j *= s."""
    jump, field, centre = 1, 1, 0.0
    for kernel, stride, padding in layers:
        field += (kernel - 1) * jump
        centre += ((kernel - 1) / 2 - padding) * jump
        jump *= stride
    return Geometry((jump, jump), (field, field), (centre, centre))


def exported(module, height=HEIGHT, width=WIDTH):
    program = torch.onnx.export(
        module.eval(),
        (torch.zeros(2, 3, height, width),),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=["features"],
    )
    return program.model_proto


def body(name):
    return exported(backbones.split(backbones.build(name, 2), HEIGHT, WIDTH).body)


@pytest.mark.parametrize(
    ("name", "layers", "field"),
    [("alexnet", ALEXNET, 195), ("resnet50", RESNET50, 427)],
)
def test_published_networks_have_the_geometry_of_their_layers(name, layers, field):
    expected = chain(layers)
    assert expected.receptive_field == (field, field)  # the recursion itself, against the literature

    assert geometry(body(name), "features") == expected


class Branches(nn.Module):
    """Asymmetric in both axes, with dilation, two branches of different reach and a channel shuffle."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, (3, 5), stride=(2, 1), padding=(1, 0))
        self.left = nn.Conv2d(4, 4, (5, 1), padding=(2, 0), dilation=1)
        self.right = nn.Conv2d(4, 4, 3, padding=(3, 2), dilation=(3, 2))
        self.pool = nn.AvgPool2d((2, 3), stride=(2, 3), padding=(0, 1))

    def forward(self, image):
        image = self.stem(image)
        both = torch.cat([self.left(image), self.right(image)], 1)
        count, channels, rows, columns = both.shape
        mixed = both.view(count, 2, channels // 2, rows, columns).transpose(1, 2).reshape(both.shape)
        per_pixel = nn.functional.layer_norm(mixed.permute(0, 2, 3, 1), (channels,))
        return self.pool(per_pixel.permute(0, 3, 1, 2) + mixed)


class Positive(Branches):
    """The same without the normalisation, whose gradient can cancel out: every pixel that is seen has a gradient."""

    def __init__(self):
        super().__init__()
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)

    def forward(self, image):
        image = self.stem(image)
        return self.pool(torch.cat([self.left(image), self.right(image)], 1))


@pytest.mark.parametrize("network", [Branches, Positive])
def test_the_geometry_is_the_support_of_the_gradient(network):
    image = torch.zeros(1, 3, 61, 83, requires_grad=True)
    row, column = 7, 11
    Positive()(image)[0, :, row, column].sum().backward()
    seen_rows = image.grad[0].sum((0, 2)).nonzero().flatten()
    seen_columns = image.grad[0].sum((0, 1)).nonzero().flatten()

    found = geometry(exported(network(), 61, 83), "features")

    for axis, (seen, cell) in enumerate([(seen_rows, row), (seen_columns, column)]):
        centre = found.offset[axis] + found.stride[axis] * cell
        reach = (found.receptive_field[axis] - 1) / 2
        assert (centre - reach, centre + reach) == (seen[0], seen[-1])
    assert found.stride == (4, 3)


def test_features_that_were_pooled_over_the_image_see_all_of_it():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1))

    assert geometry(exported(pooled, 64, 96), "features") == Geometry((64.0, 96.0), (0, 0), (31.5, 47.5))

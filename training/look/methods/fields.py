"""Where in the image a unit looks: its receptive field as a box, and the part of it that matters."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.graphs.receptive_field import Geometry

ENERGY = 0.9
"""Share of the squared gradient that the effective field holds."""


class Box(NamedTuple):
    """Rows top to bottom and columns left to right of an image, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int


def receptive_box(geometry: Geometry, cell: tuple[int, int], size: tuple[int, int]) -> Box:
    """Returns the pixels that a cell depends on.

    Args:
        geometry: Of its map.
        cell: Row and column in the map.
        size: Rows and columns of the image.
    """
    sides = [
        _side(place, stride, field, offset, pixels)
        for place, stride, field, offset, pixels in zip(
            cell, geometry.stride, geometry.receptive_field, geometry.offset, size, strict=True
        )
    ]
    (top, bottom), (left, right) = sides
    return Box(top, left, bottom, right)


def _side(place: int, stride: float, field: int, offset: float, pixels: int) -> tuple[int, int]:
    if not field:  # all of the image
        return 0, pixels
    first = math.floor(offset + place * stride - (field - 1) / 2)
    return max(first, 0), min(first + field, pixels)


def square(geometry: Geometry, cell: tuple[int, int], side: int, size: tuple[int, int]) -> Box:
    """Returns a square of `side` pixels around the centre of a cell, moved into the image where it leaves it."""
    starts = []
    for place, stride, offset, pixels in zip(cell, geometry.stride, geometry.offset, size, strict=True):
        start = round(offset + place * stride - (side - 1) / 2)
        starts.append(min(max(start, 0), max(pixels - side, 0)))
    return Box(starts[0], starts[1], min(starts[0] + side, size[0]), min(starts[1] + side, size[1]))


def effective_side(network: nn.Module, geometry: Geometry, image: Tensor, unit: int, cell: tuple[int, int]) -> int:
    """Returns the side of the smallest square around a cell that holds `ENERGY` of its gradient's energy.

    Source: W. Luo, Y. Li, R. Urtasun, R. Zemel, Understanding the effective receptive field in deep convolutional
    neural networks, NeurIPS 2016.

    Args:
        network: Images (N, 3, H, W) -> maps (N, C, h, w).
        geometry: Of the maps.
        image: (3, H, W).
        unit: Channel of the map.
        cell: Row and column in the map.
    """
    pixels = image[None].clone().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(network(pixels)[0, unit, cell[0], cell[1]], pixels)
    energy = gradient[0].double().square().sum(0).cpu().numpy()
    centre = [
        offset + place * stride for place, stride, offset in zip(cell, geometry.stride, geometry.offset, strict=True)
    ]
    return _holding(energy, (centre[0], centre[1]))


def _holding(energy: npt.NDArray[np.float64], centre: tuple[float, float]) -> int:
    total = energy.sum()
    if not total:  # a unit that is off has no gradient
        return int(max(energy.shape))
    rows, columns = np.indices(energy.shape)
    distance = np.maximum(np.abs(rows - centre[0]), np.abs(columns - centre[1]))
    order = np.argsort(distance, axis=None, kind="stable")
    held = np.cumsum(energy.ravel()[order]) >= ENERGY * total
    return 2 * math.floor(float(distance.ravel()[order][int(held.argmax())])) + 1

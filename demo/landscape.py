"""Places villages, woods and open country at random along the demo's road."""

from __future__ import annotations

import math

import numpy as np

from demo.scene import Panel, Road
from demo.scenery import VARIANTS, pyramid

_STRETCH_M = 18.0
_NAMES = {"wall": "house"}
"""What sprites are, where that is not their own name."""


def _upright(kind: str, variant: int, x: float, z: float, width: float, height: float, gain: float = 1.0) -> Panel:
    """A sprite that stands on the ground and faces the camera."""
    left, right = x - width / 2, x + width / 2
    corners = np.array([(left, height, z), (right, height, z), (right, 0, z), (left, 0, z)])
    return Panel(pyramid(kind, variant), corners, z, gain, name=kind)


def _shadow(x: float, z: float, width: float) -> Panel:
    left, right, near, far = x - width * 0.6, x + width * 1.1, z - width * 0.3, z + width * 0.3
    corners = np.array([(left, 0, far), (right, 0, far), (right, 0, near), (left, 0, near)])
    return Panel(pyramid("shadow", 0), corners, math.inf, hazed=False)


def _along(kind: str, variant: int, x: float, near: float, far: float, height: float) -> Panel:
    """A sprite in a plane along the road."""
    corners = np.array([(x, height, far), (x, height, near), (x, 0, near), (x, 0, far)])
    return Panel(pyramid(kind, variant), corners, far, name=_NAMES.get(kind, kind))


def _house(rng: np.random.Generator, side: int, x: float, z: float) -> list[Panel]:
    """A house whose long wall, at x, is along the road; side is +1 to the right of the road."""
    variant = int(rng.integers(VARIANTS))
    length = rng.uniform(9, 13)
    eaves = rng.uniform(4.6, 5.8)
    depth = side * rng.uniform(6, 8)
    far = z + length
    ridge = eaves * 1.5
    roof = np.array([(x + depth / 2, ridge, far), (x + depth / 2, ridge, z), (x, eaves, z), (x, eaves, far)])
    gable = np.array([(x, ridge, z), (x + depth, ridge, z), (x + depth, 0, z), (x, 0, z)])
    return [
        Panel(pyramid("roof", variant), roof, far, name="house"),
        _along("wall", variant, x, z, far, eaves),
        Panel(pyramid("gable", variant), gable, far, name="house"),
    ]


def landscape(rng: np.random.Generator, road: Road, start: float, stop: float) -> list[Panel]:
    """Returns what stands on both sides of a road.

    Args:
        rng: Decides everything.
        road: What is kept free.
        start: Where the landscape begins, metres along the road.
        stop: Where it ends.
    """
    starts = np.arange(start, stop, _STRETCH_M)
    panels = []
    for z in starts:
        panels += _stretch(rng, road, float(z), float(z) + _STRETCH_M)
    return panels


def _stretch(rng: np.random.Generator, road: Road, start: float, stop: float) -> list[Panel]:
    """Returns the panels of a village, a wood or open country."""
    panels: list[Panel] = []
    place = rng.choice(["village", "wood", "country", "country"])
    for side, edge in ((-1, road.left), (1, road.right)):
        z = start + rng.uniform(0, 2)
        while z < stop:
            variant = int(rng.integers(VARIANTS))
            x = edge + side * rng.uniform(2.6, 4.0)
            if place == "village" and rng.random() < 0.6:
                panels += _house(rng, side, x + side * 2.2, z)
                panels.append(_along("fence", variant, x - side * 0.4, z - 1, z + 11, rng.uniform(0.8, 1.1)))
                z += rng.uniform(12, 16)
                continue
            panels += _roadside(rng, side, x, z, variant, 0.8 if place == "wood" else 0.45)
            z += rng.uniform(1.2, 2.6) if place == "wood" else rng.uniform(3, 7)
        if rng.random() < 0.5:
            panels.append(_upright("lamp", 0, edge + side * 1.3, rng.uniform(start, stop), side * 1.6, 6.5))
        if rng.random() < 0.35:
            x, z = edge + side * rng.uniform(4.5, 7), rng.uniform(start, stop)
            panels.append(_upright("billboard", int(rng.integers(VARIANTS)), x, z, 4.6, 3.6))
    if rng.random() < 0.45:
        x = max(road.left + 1.2, road.right - 1.2, key=abs)  # in the lane that is farther from the camera
        z = rng.uniform(start, stop)
        panels += [_shadow(x, z, 1.7), _upright("car", int(rng.integers(VARIANTS)), x, z, 1.75, 1.5)]
    return panels


def _roadside(rng: np.random.Generator, side: int, x: float, z: float, variant: int, trees: float) -> list[Panel]:
    """Returns a tree, with the probability `trees`, or a fence or a bush."""
    gain = rng.uniform(0.85, 1.1)
    if rng.random() < trees:
        tall = rng.uniform(4.5, 8.5)
        x += side * rng.uniform(0.5, 7)
        return [_shadow(x, z, tall * 0.4), _upright("tree", variant, x, z, tall * 0.75, tall, gain)]
    if rng.random() < 0.3:
        return [_along("fence", variant, x, z, z + rng.uniform(8, 14), rng.uniform(0.8, 1.1))]
    wide = rng.uniform(1.4, 2.8)
    x += side * rng.uniform(0.3, 3)
    return [_shadow(x, z, wide * 0.7), _upright("bush", variant, x, z, wide, wide * 0.56, gain)]


def random_road(rng: np.random.Generator, left: float, right: float) -> Road:
    """A road between two edges (x, metres) with tar and grass of any shade."""
    grey = rng.uniform(0.28, 0.48)
    dry = rng.uniform(0, 1)
    grass = (0.30 + 0.18 * dry, 0.42 + 0.02 * dry, 0.18 + 0.06 * dry)
    return Road(left, right, bool(rng.random() < 0.7), (grey, grey, grey + 0.02), grass, int(rng.integers(1 << 16)))

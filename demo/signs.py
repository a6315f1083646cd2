"""Draws the traffic signs of the demo from plain geometry, large and with transparency.

A sprite is premultiplied RGBA, so that scaling, warping and blending need no special case at its edge.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Sprite: TypeAlias = NDArray[np.uint8]
"""(h, w, 4) RGBA, colour premultiplied by alpha."""
Point: TypeAlias = tuple[float, float]

SIGNS = ("no_entry", "pedestrian_crossing", "speed_30", "speed_60", "stop", "turn_left", "turn_right", "yield")
SIGN_PIXELS = 256
_CANVAS = 1024  # four times SIGN_PIXELS: the area average of the reduction is the antialiasing

_RED = (196, 22, 34, 255)
_BLUE = (14, 78, 168, 255)
_WHITE = (242, 242, 240, 255)
_BLACK = (24, 24, 26, 255)


@functools.cache
def draw_sign(name: str) -> Sprite:
    """Draws the front of a sign, filling its square.

    Args:
        name: One of `SIGNS`.

    Returns:
        A sprite of `SIGN_PIXELS` squared; treat as read-only.

    Raises:
        KeyError: If there is no sign of that name.
    """
    canvas = np.zeros((_CANVAS, _CANVAS, 4), np.uint8)
    _PAINTERS[name](canvas)
    sprite = cv2.resize(canvas, (SIGN_PIXELS, SIGN_PIXELS), interpolation=cv2.INTER_AREA).astype(np.uint8)
    sprite.setflags(write=False)
    return sprite


def _pixels(points: Sequence[Point]) -> NDArray[np.int32]:
    """Canvas coordinates of points in [-1, 1]: x to the right, y down."""
    return np.rint((np.asarray(points) * 0.5 + 0.5) * (_CANVAS - 1)).astype(np.int32)


def _fill(canvas: Sprite, points: Sequence[Point], colour: Sequence[int]) -> None:
    cv2.fillPoly(canvas, [_pixels(points)], colour)


def _disc(canvas: Sprite, centre: Point, radius: float, colour: Sequence[int]) -> None:
    _fill(canvas, _arc(centre, (radius, radius), 0, 360), colour)


def _stroke(canvas: Sprite, points: Sequence[Point], width: float, colour: Sequence[int]) -> None:
    cv2.polylines(canvas, [_pixels(points)], False, colour, round(width * _CANVAS / 2))


def _arc(centre: Point, radii: Point, start_deg: float, stop_deg: float) -> list[Point]:
    """Points of an elliptic arc; angles run clockwise from +x, as y points down."""
    angles = np.radians(np.linspace(start_deg, stop_deg, 73))
    return [(centre[0] + radii[0] * math.cos(a), centre[1] + radii[1] * math.sin(a)) for a in angles]


def _rounded(points: Sequence[Point], radius: float) -> list[Point]:
    """A convex polygon grown by a radius, as the hull of a disc at every corner."""
    discs: list[Point] = []
    for corner in points:
        discs += _arc(corner, (radius, radius), 0, 360)
    return [(float(x), float(y)) for x, y in cv2.convexHull(np.array(discs, np.float32))[:, 0]]


def _ring(sides: int, radius: float, first_deg: float) -> list[Point]:
    return _arc((0, 0), (radius, radius), first_deg, first_deg + 360)[:: 72 // sides]


# Glyphs as strokes in the unit square: no font file decides what the signs look like.
_GLYPHS: dict[str, tuple[list[Point], ...]] = {
    "0": (_arc((0.5, 0.5), (0.5, 0.5), 0, 360),),
    "3": (_arc((0.45, 0.25), (0.5, 0.25), 205, 450), _arc((0.45, 0.75), (0.55, 0.25), 270, 520)),
    "6": (_arc((0.5, 0.68), (0.5, 0.32), 0, 360), _arc((0.95, 0.68), (0.95, 0.68), 180, 262)),
    "S": (_arc((0.5, 0.25), (0.5, 0.25), 335, 90), _arc((0.5, 0.75), (0.5, 0.25), 270, 515)),
    "T": ([(0, 0), (1, 0)], [(0.5, 0), (0.5, 1)]),
    "O": (_arc((0.5, 0.5), (0.5, 0.5), 0, 360),),
    "P": ([(0, 1), (0, 0), (0.5, 0), *_arc((0.5, 0.28), (0.5, 0.28), 270, 450), (0, 0.56)],),
}


def _write(canvas: Sprite, text: str, glyph: Point, gap: float, width: float, colour: Sequence[int]) -> None:
    left = -(len(text) * glyph[0] + (len(text) - 1) * gap) / 2
    for i, letter in enumerate(text):
        for line in _GLYPHS[letter]:
            shifted = [(left + i * (glyph[0] + gap) + x * glyph[0], (y - 0.5) * glyph[1]) for x, y in line]
            _stroke(canvas, shifted, width, colour)


def _stop(canvas: Sprite) -> None:
    for radius, colour in ((1.0, _WHITE), (0.94, _RED)):
        _fill(canvas, _ring(8, radius / math.cos(math.pi / 8), 22.5), colour)
    _write(canvas, "STOP", (0.26, 0.6), 0.15, 0.11, _WHITE)


def _yield(canvas: Sprite) -> None:
    corners = ((-0.9, -0.78), (0.9, -0.78), (0.0, 0.86))
    _fill(canvas, _rounded(corners, 0.1), _RED)
    _fill(canvas, _rounded([(x * 0.56, (y + 0.24) * 0.56 - 0.24) for x, y in corners], 0.05), _WHITE)


def _no_entry(canvas: Sprite) -> None:
    _disc(canvas, (0, 0), 1.0, _WHITE)
    _disc(canvas, (0, 0), 0.95, _RED)
    _fill(canvas, [(-0.7, -0.18), (0.7, -0.18), (0.7, 0.18), (-0.7, 0.18)], _WHITE)


def _speed(canvas: Sprite, text: str) -> None:
    _disc(canvas, (0, 0), 1.0, _RED)
    _disc(canvas, (0, 0), 0.8, _WHITE)
    _write(canvas, text, (0.4, 0.8), 0.24, 0.17, _BLACK)


def _turn(canvas: Sprite, side: int) -> None:
    """A bent arrow; side is +1 for right, -1 for left."""
    _disc(canvas, (0, 0), 1.0, _WHITE)
    _disc(canvas, (0, 0), 0.95, _BLUE)
    shaft = [(-0.46, 0.66), (-0.46, -0.34), (0.16, -0.34), (0.16, 0.0), (-0.1, 0.0), (-0.1, 0.66)]
    _fill(canvas, [(x * side, y) for x, y in shaft], _WHITE)
    _fill(canvas, [(x * side, y) for x, y in ((0.14, -0.64), (0.78, -0.17), (0.14, 0.3))], _WHITE)


def _pedestrian_crossing(canvas: Sprite) -> None:
    square = ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88))
    _fill(canvas, _rounded(square, 0.12), _WHITE)
    _fill(canvas, _rounded(square, 0.07), _BLUE)
    _fill(canvas, [(0, -0.8), (0.82, 0.72), (-0.82, 0.72)], _WHITE)
    for x in (-0.55, -0.27, 0.01, 0.29):  # the stripes of the crossing
        _fill(canvas, [(x, 0.52), (x + 0.16, 0.52), (x + 0.22, 0.68), (x + 0.06, 0.68)], _BLACK)
    _disc(canvas, (0.02, -0.36), 0.1, _BLACK)
    _stroke(canvas, [(0.02, -0.2), (-0.03, 0.1)], 0.17, _BLACK)
    for limb in ([(-0.02, 0.1), (0.14, 0.26), (0.2, 0.46)], [(-0.03, 0.1), (-0.12, 0.28), (-0.27, 0.46)]):
        _stroke(canvas, limb, 0.1, _BLACK)
    for limb in ([(0.04, -0.2), (0.17, -0.02), (0.27, 0.02)], [(0.0, -0.2), (-0.18, -0.06), (-0.22, 0.08)]):
        _stroke(canvas, limb, 0.075, _BLACK)


_PAINTERS: dict[str, Callable[[Sprite], None]] = {
    "no_entry": _no_entry,
    "pedestrian_crossing": _pedestrian_crossing,
    "speed_30": functools.partial(_speed, text="30"),
    "speed_60": functools.partial(_speed, text="60"),
    "stop": _stop,
    "turn_left": functools.partial(_turn, side=-1),
    "turn_right": functools.partial(_turn, side=1),
    "yield": _yield,
}

"""Draws the sprites that stand along the demo's road, such as trees, houses and cars, and the noise for textures."""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.signs import Sprite, draw_sign

VARIANTS = 6
"""Number of variants of every kind of sprite."""
NOISE_PIXELS = 512
_GREENS = ((72, 98, 38), (54, 88, 44), (88, 106, 44), (60, 80, 30), (112, 108, 44), (42, 78, 50))
_WALLS = ((206, 190, 160), (178, 112, 84), (222, 214, 202), (152, 162, 168), (196, 166, 116), (140, 92, 80))
_ROOFS = ((122, 62, 48), (88, 84, 88), (140, 84, 60), (74, 66, 70), (108, 60, 52), (96, 92, 84))
_CARS = ((168, 30, 36), (36, 66, 128), (190, 192, 196), (38, 40, 44), (222, 222, 220), (58, 92, 78))
_POSTERS = ((206, 36, 40), (24, 84, 176), (244, 196, 40), (238, 238, 236), (34, 130, 82), (230, 120, 30))


@functools.cache
def noise(beta: float, seed: int) -> NDArray[np.float32]:
    """Periodic fractal noise with the power spectrum 1 / f^beta, spread about evenly over [0, 1].

    Returns:
        (NOISE_PIXELS, NOISE_PIXELS) float32 that tiles without a seam; treat as read-only.
    """
    rng = np.random.default_rng(seed)
    frequency = np.fft.fftfreq(NOISE_PIXELS)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = np.inf  # removes the mean
    spectrum = np.fft.fft2(rng.standard_normal((NOISE_PIXELS, NOISE_PIXELS))) * radius ** (-beta / 2)
    field = np.fft.ifft2(spectrum).real
    tile: NDArray[np.float32] = (0.5 + 0.5 * np.tanh(0.8 * field / field.std())).astype(np.float32)
    return tile


@functools.cache
def pyramid(kind: str, variant: int) -> tuple[Sprite, ...]:
    """The sprite of one thing with its halvings, largest first.

    Args:
        kind: A name of this file's painters, or of a traffic sign.
        variant: In [0, VARIANTS).
    """
    if kind not in _PAINTERS:
        return halvings(draw_sign(kind))
    return halvings(_PAINTERS[kind](np.random.default_rng([variant, *kind.encode()]), variant))


def halvings(sprite: Sprite) -> tuple[Sprite, ...]:
    """A sprite, its half, its quarter, ... down to a few pixels, so that it can be shrunk without aliasing."""
    levels = [sprite]
    while min(levels[-1].shape[:2]) >= 8:
        height, width = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        levels.append(half.astype(np.uint8, copy=False))
    return tuple(levels)


def _blank(height: int, width: int) -> Sprite:
    return np.zeros((height, width, 4), np.uint8)


def _shade(colour: tuple[int, ...], gain: float) -> tuple[int, ...]:
    return (*(int(min(255.0, max(0.0, c * gain))) for c in colour[:3]), 255)


def _foliage(canvas: Sprite, rng: np.random.Generator, clumps: NDArray[np.float64], colour: tuple[int, ...]) -> None:
    """Leaves over clumps (n, 3: x, y, radius in pixels), from the dark inside to the lit top left."""
    x, y, radius = np.repeat(clumps, 14, axis=0).T
    for light in np.linspace(0.5, 1.3, 9):
        away = rng.uniform(0, 1, len(x)) ** 0.5 * radius * (1.15 - 0.35 * light)
        angle = rng.uniform(0, 2 * np.pi, len(x))
        shift = (light - 0.8) * radius * 0.7
        size = np.maximum(1.5, rng.uniform(0.06, 0.21, len(x)) * radius)
        at = np.stack([x + away * np.cos(angle) - shift, y + away * np.sin(angle) - shift, size], 1) * 16
        gains = light * rng.uniform(0.82, 1.16, len(x))
        for (u, v, r), gain in zip(at.astype(int).tolist(), gains.tolist(), strict=True):
            cv2.circle(canvas, (u, v), r, _shade(colour, gain), -1, cv2.LINE_AA, 4)


def _tree(rng: np.random.Generator, variant: int) -> Sprite:
    canvas = _blank(384, 288)
    bark = (84, 66, 50)
    cv2.fillPoly(canvas, [np.array([(134, 384), (139, 190), (151, 190), (158, 384)])], _shade(bark, 0.85), cv2.LINE_AA)
    cv2.fillPoly(canvas, [np.array([(134, 384), (139, 190), (144, 190), (144, 384)])], _shade(bark, 1.15), cv2.LINE_AA)
    if variant % 3 == 2:  # a conifer: tiers that widen downwards
        clumps: list[tuple[float, float, float]] = []
        for tier in range(10):
            columns = range(-tier // 2, tier // 2 + 1)
            clumps += [(144 + column * 15, 30 + tier * 29, 11 + tier * 1.6) for column in columns]
        _foliage(canvas, rng, np.array(clumps), _GREENS[variant])
        return canvas
    angle = rng.uniform(0, 2 * np.pi, 26)
    away = rng.uniform(0, 1, 26) ** 0.5
    x, y = 144 + 84 * away * np.cos(angle), 150 + 108 * away * np.sin(angle)
    _foliage(canvas, rng, np.stack([x, y, rng.uniform(26, 42, 26)], 1), _GREENS[variant])
    return canvas


def _bush(rng: np.random.Generator, variant: int) -> Sprite:
    canvas = _blank(160, 288)
    x = rng.uniform(50, 238, 18)
    y = 140 - rng.uniform(0, 0.75, 18) * (110 - np.abs(x - 144) * 0.6)
    _foliage(canvas, rng, np.stack([x, y, rng.uniform(18, 30, 18)], 1), _GREENS[(variant + 2) % VARIANTS])
    return canvas


def _branch(rng: np.random.Generator, variant: int) -> Sprite:
    canvas = _blank(256, 256)
    for _ in range(5):
        tip = rng.uniform(60, 230, 2)
        cv2.line(canvas, (0, 0), (int(tip[0]), int(tip[1])), (66, 52, 40, 255), 4, cv2.LINE_AA)
        for part in np.linspace(0.25, 1.0, 9):
            for _ in range(3):
                at = tuple(int(v) for v in tip * part + rng.normal(0, 12, 2))
                leaf = (int(rng.uniform(9, 15)), int(rng.uniform(4, 7)))
                green = _shade(_GREENS[variant], rng.uniform(0.7, 1.4))
                cv2.ellipse(canvas, at, leaf, float(rng.uniform(0, 180)), 0, 360, green, -1, cv2.LINE_AA)
    return canvas


def _wall(rng: np.random.Generator, variant: int) -> Sprite:
    """A house wall of two storeys; its left half shows a door."""
    canvas = _blank(256, 384)
    grain = 1 + 0.14 * (noise(1.4, variant)[:256, :384, None] - 0.5)
    canvas[...] = (np.array([*_WALLS[variant], 255]) * grain).clip(0, 255)
    canvas[..., 3] = 255
    cv2.rectangle(canvas, (0, 238), (383, 255), _shade(_WALLS[variant], 0.6), -1)
    for row in (34, 142):
        for left in range(28, 384, 72):
            box = (left, row, 36, 60)
            door = row == 142 and left == 100
            frame = _shade((96, 66, 48) if door else (236, 234, 228), 1.0)
            glass = _shade((70, 48, 36) if door else (70, 88, 104), rng.uniform(0.7, 1.3))
            bottom = 255 if door else box[1] + box[3]
            cv2.rectangle(canvas, (left - 4, row - 4), (left + box[2] + 4, bottom), frame, -1)
            cv2.rectangle(canvas, (left, row), (left + box[2], bottom - 4), glass, -1)
            if not door:
                cv2.line(canvas, (left + 18, row), (left + 18, bottom), frame, 3)
                cv2.rectangle(canvas, (left - 7, bottom), (left + 43, bottom + 4), _shade(_WALLS[variant], 0.75), -1)
    return canvas


def _gable(rng: np.random.Generator, variant: int) -> Sprite:
    """The end wall of a house: the wall below, the triangle under the roof above."""
    canvas = _blank(384, 384)
    canvas[128:] = _wall(rng, variant)
    cv2.fillPoly(canvas, [np.array([(0, 128), (192, 0), (383, 128)])], _shade(_WALLS[variant], 0.97), cv2.LINE_AA)
    cv2.polylines(canvas, [np.array([(0, 128), (192, 4), (383, 128)])], False, _shade(_ROOFS[variant], 0.8), 9)
    canvas[..., :3] = (canvas[..., :3] * np.float32(0.86)).astype(np.uint8)  # this side is turned from the light
    return canvas


def _roof(rng: np.random.Generator, variant: int) -> Sprite:
    tiles = 1 + 0.3 * (noise(1.0, variant + 9)[:128, :256, None] - 0.5)
    tiles = tiles * np.where(np.arange(128) % 12 < 3, 0.82, 1.0)[:, None, None]
    canvas = _blank(128, 256)
    canvas[...] = (np.array([*_ROOFS[variant], 255]) * tiles).clip(0, 255)
    canvas[..., 3] = 255
    return canvas


def _fence(rng: np.random.Generator, variant: int) -> Sprite:
    """A wooden fence, or a clipped hedge."""
    canvas = _blank(96, 512)
    if variant % 2:
        x = np.arange(0, 520, 13.0)
        for y in (74, 46):
            clumps = np.stack([x, np.full_like(x, y), np.full_like(x, 20)], 1)
            _foliage(canvas, rng, clumps, _GREENS[variant])
        return canvas
    wood = (138, 112, 84) if variant % 4 else (206, 204, 196)
    for y in (22, 56):
        cv2.rectangle(canvas, (0, y), (511, y + 10), _shade(wood, rng.uniform(0.85, 1.0)), -1)
    for left in range(8, 512, 42):
        cv2.rectangle(canvas, (left, 8), (left + 9, 95), _shade(wood, rng.uniform(0.75, 1.1)), -1)
    return canvas


def _car(rng: np.random.Generator, variant: int) -> Sprite:
    canvas = _blank(224, 256)
    paint = _CARS[variant]
    for x in (26, 188):
        cv2.rectangle(canvas, (x, 176), (x + 42, 222), (26, 26, 28, 255), -1)
    body = np.array([(14, 112), (40, 92), (62, 24), (78, 12), (178, 12), (194, 24), (216, 92), (242, 112), (248, 190)])
    cv2.fillPoly(canvas, [np.vstack([body, [(240, 204), (16, 204), (8, 190)]])], _shade(paint, 1.0), cv2.LINE_AA)
    glass = np.array([(54, 90), (72, 30), (184, 30), (202, 90)])
    cv2.fillPoly(canvas, [glass], (58, 72, 84, 255), cv2.LINE_AA)
    cv2.fillPoly(canvas, [np.array([(72, 88), (98, 32), (126, 32), (96, 88)])], (104, 122, 136, 255), cv2.LINE_AA)
    cv2.rectangle(canvas, (10, 158), (246, 184), _shade(paint, 0.72), -1)
    for x in (36, 220):
        cv2.ellipse(canvas, (x, 132), (20, 12), 0, 0, 360, (236, 232, 214, 255), -1, cv2.LINE_AA)
    cv2.rectangle(canvas, (72, 122), (184, 146), _shade(paint, 0.45), -1)
    cv2.rectangle(canvas, (96, 162), (160, 180), (226, 226, 220, 255), -1)
    return canvas


def _billboard(rng: np.random.Generator, variant: int) -> Sprite:
    """An advertisement in the colours of signs: what a colour histogram alone would fall for."""
    canvas = _blank(224, 288)
    for x in (56, 224):
        cv2.rectangle(canvas, (x, 120), (x + 9, 223), (92, 92, 96, 255), -1)
    first, second, third = (_shade(_POSTERS[i], 0.9) for i in rng.permutation(len(_POSTERS))[:3])
    cv2.rectangle(canvas, (6, 6), (281, 138), (120, 120, 122, 255), -1)
    cv2.rectangle(canvas, (12, 12), (275, 132), first, -1)
    cv2.fillPoly(canvas, [np.array([(12, 132), (12, 84), (150, 52), (275, 96), (275, 132)])], second, cv2.LINE_AA)
    cv2.ellipse(canvas, (int(rng.uniform(60, 220)), 58), (34, 26), 0, 0, 360, third, -1, cv2.LINE_AA)
    for y in (104, 116):
        cv2.line(canvas, (32, y), (int(rng.uniform(120, 250)), y), third, 5)
    return canvas


def _lamp(rng: np.random.Generator, variant: int) -> Sprite:
    canvas = _blank(384, 96)
    cv2.line(canvas, (84, 383), (84, 24), (104, 108, 112, 255), 6, cv2.LINE_AA)
    cv2.line(canvas, (84, 26), (34, 10), (104, 108, 112, 255), 5, cv2.LINE_AA)
    cv2.ellipse(canvas, (26, 12), (22, 6), 8, 0, 360, (168, 170, 168, 255), -1, cv2.LINE_AA)
    return canvas


def _pole(rng: np.random.Generator, variant: int) -> Sprite:
    """Galvanised tube; also the edge of a sign seen from the side."""
    canvas = _blank(64, 32)
    canvas[..., :3] = (np.array([150, 154, 158]) * (1.1 - 0.55 * np.linspace(0, 1, 32)[:, None])).astype(np.uint8)
    canvas[..., 3] = 255
    return canvas


def _shadow(rng: np.random.Generator, variant: int) -> Sprite:
    canvas = _blank(64, 64)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    canvas[..., 3] = 150 * np.clip(1.5 * (1 - np.hypot(x, y)), 0, 1)
    return canvas


_PAINTERS: dict[str, Callable[[np.random.Generator, int], Sprite]] = {
    "billboard": _billboard,
    "branch": _branch,
    "bush": _bush,
    "car": _car,
    "fence": _fence,
    "gable": _gable,
    "lamp": _lamp,
    "pole": _pole,
    "roof": _roof,
    "shadow": _shadow,
    "tree": _tree,
    "wall": _wall,
}

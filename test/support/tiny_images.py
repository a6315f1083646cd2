"""Labelled images drawn for tests: a bar of the class's colour on a noisy ground, 24 x 40 pixels, as PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = ((220, 40, 40), (40, 60, 220), (40, 200, 60))


def picture(color: tuple[int, int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 150, (24, 40, 3), np.uint8)
    top, left = rng.integers(0, 8), rng.integers(0, 12)
    pixels[top : top + 16, left : left + 28] = color
    return pixels


def scene(seed: int, height: int = 120, width: int = 180) -> np.ndarray:
    """A smooth random picture: no two are alike, and JPEG changes it little."""
    cells = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC))


def write_folder(root: Path, counts: Mapping[str, int], first_seed: int = 0) -> Path:
    """Writes root/CLASS/NN.png; the classes get their colours in the order given."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = picture(COLORS[number % len(COLORS)], first_seed + 1000 * number + index)
            Image.fromarray(pixels).save(root / name / f"{index:02}.png")
    return root


def blob(u: float, v: float, height: int, width: int, sigma: float) -> np.ndarray:
    """(height, width) picture of light around a place."""
    rows, columns = np.mgrid[:height, :width]
    return np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * sigma**2))

"""Pictures that differ, and recordings of them, for the tests of collecting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny_bag
from tiny_bag import SECOND, START_NS, write_bag


def scene(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture of six by eight cells of random colours: no two are near each other."""
    cells = np.random.default_rng(number).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return cells.repeat(8, axis=0).repeat(8, axis=1)


def scenes(
    path: Path, numbers, start_s: float = 0.0, topic: str = "/front/image_raw", make=tiny_bag.raw, **options
) -> Path:
    """Writes a bag of scenes, one each 100 ms."""
    messages = []
    for index, number in enumerate(numbers):
        time_ns = START_NS + round(start_s * SECOND) + index * SECOND // 10
        messages.append((topic, time_ns, make(scene(number), time_ns)))
    return write_bag(path, messages, **options)


def stamps(rows) -> list[int]:
    """Which of the images, a tenth of a second apart, the rows are of."""
    return [(int(row["stamp_ns"]) - START_NS) * 10 // SECOND for row in rows]

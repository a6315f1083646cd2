"""Frames of the demo's drive as the node draws them: the answer, and where in the image it comes from."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np

from cnn_perception import Pipeline, read_image
from cnn_perception.errors import DataError
from cnn_perception.image.messages import RgbImage
from cnn_perception.pipeline.overlay import draw_overlay
from demo.pictures import compressed
from demo.pictures.sources import Sources
from demo.run import RATE_HZ
from demo.shots import CLEAR
from training.look.drawing import grid

_COUNT, _COLUMNS = 6, 3
_HEIGHT, _WIDTH = 288, 384
_PLACE = 0.75
"""Of a frame in the time of its sign, which is near by then: a rule that knows nothing of the answers."""


def make(sources: Sources, path: Path) -> str:
    """Draws a frame of each of the drive's first signs.

    Args:
        sources: Of which the demo is used.
        path: The file.

    Returns:
        What it shows: classes and answers.

    Raises:
        DataError: If the demo has left no drive past so many signs.
    """
    pipeline = Pipeline.load(sources.of_demo("model.onnx"))
    frames = sorted(sources.of_demo("drive", "frames").iterdir())
    tiles, shown = [], []
    for name, number in _signs(sources.of_demo("drive", "labels.csv")):
        image = read_image(frames[number])
        prediction = pipeline.infer(pipeline.prepare_image(image)).prediction
        small = cv2.resize(np.ascontiguousarray(image), (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
        tiles.append(draw_overlay(RgbImage(np.asarray(small, np.uint8)), prediction, pipeline.spec.input))
        best, score = prediction.ranked(1)[0]
        shown.append(f"{name}: {best} {score:.0%}")
    compressed.write(grid(tiles, _COLUMNS, gap=0), path)
    return ", ".join(shown)


def _signs(labels: Path) -> list[tuple[str, int]]:
    """Returns the first signs, each class once, and the numbers of their frames."""
    found: dict[str, int] = {}
    with labels.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            start_s, end_s = float(row["start_s"]), float(row["end_s"])
            if row["class"] != CLEAR:
                found.setdefault(row["class"], round(RATE_HZ * (start_s + _PLACE * (end_s - start_s))))
    if len(found) < _COUNT:
        raise DataError(f"{labels}: names {len(found)} signs, fewer than {_COUNT}; give the demo of drawn images")
    return list(found.items())[:_COUNT]

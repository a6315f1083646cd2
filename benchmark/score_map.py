"""How long the score map of a 1280x720 frame takes, over what the classifier takes for a window at each of its cells.

    python -m benchmark.score_map

Both see the frame at its own pixels and preprocess what they see: the map the frame, the other a crop for each window,
which are run in batches. They take turns, and the ratio is taken pair by pair, because the speed of a shared machine
drifts.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmark.pairs import Target, machine, summary
from benchmark.processes import drawn, exported
from cnn_perception.errors import EXIT_OK
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.outputs import FloatArray
from cnn_perception.pipeline.preprocess import preprocess
from cnn_perception.pipeline.score_map import Cells, ScoreMap, dense_scores

_TARGET = Target(0.1)
_HEIGHT, _WIDTH = 720, 1280


def sliding_windows(model: OnnxModel, image: RgbImage, cells: Cells, shape: tuple[int, ...], batch: int) -> FloatArray:
    """Runs the classifier on a crop for each cell of a map; returns the logits (K, rows, columns).

    A window of the last row or column that would reach over the edge is moved back into the image.
    """
    size = dataclasses.replace(model.spec.input, resize_mode="squash", crop_fraction=1.0)  # a crop has its size already
    logits = []
    rows, columns = shape[-2:]
    places = [cells.pixel(row, column) for row in range(rows) for column in range(columns)]
    corners = [(int(v - (size.height - 1) / 2), int(u - (size.width - 1) / 2)) for v, u in places]
    inside = [(min(top, _HEIGHT - size.height), min(left, _WIDTH - size.width)) for top, left in corners]
    for start in range(0, len(inside), batch):
        crops = [
            image[top : top + size.height, left : left + size.width] for top, left in inside[start : start + batch]
        ]
        images = np.empty((len(crops), 3, size.height, size.width), np.float32)
        for crop, slot in zip(crops, images, strict=True):
            preprocess(RgbImage(crop), size, out=slot)
        logits += [outputs.logits for outputs in model.run(images, activation=False)]
    return np.stack(logits, 1).reshape(-1, rows, columns)


def _ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.score_map", description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18", help="a torchvision name (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="windows at a time (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="intra-op; 0: one a core (default: %(default)s)")
    parser.add_argument("--provider", default="cpu", help="of both (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark"), help="folder (default: %(default)s)")
    options = parser.parse_args(argv)
    batches = (1, options.batch)
    settings = SessionOptions((options.provider,), intra_op_threads=options.threads, warm_up_batches=batches)
    model = OnnxModel(exported(options.output, options.backbone), settings)
    image = drawn(_HEIGHT, _WIDTH)[0]
    found: ScoreMap = dense_scores(model, image)
    rows, columns = found.scores.shape[1:]
    print(f"{machine()}, {options.backbone}, {model.provider}: {rows}x{columns} cells of a {_WIDTH}x{_HEIGHT} frame")
    rounds = [
        (
            _ms(lambda: dense_scores(model, image)),
            _ms(lambda: sliding_windows(model, image, found.cells, found.scores.shape, options.batch)),
        )
        for _ in range(options.rounds)
    ]
    dense, sliding = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(f"{dense:.0f} ms for the score map, {sliding:.0f} ms for {rows * columns} windows (medians)")
    print(f"  score map / sliding windows: {summary([own / other for own, other in rounds], _TARGET)}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

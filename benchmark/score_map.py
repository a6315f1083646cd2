"""The time of the score map of a 1280x720 frame, over that of the classifier at a sliding window for each cell.

    python -m benchmark.score_map

Both see the frame at its own pixels and preprocess what they see: the map the frame, the other a crop for each window,
which are run in batches. They take turns, and the ratio is taken pair by pair, because the speed of a shared machine
drifts.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmark.support.options import OUTPUT, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import draw_images, export_model
from cnn_perception.errors import EXIT_OK
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.outputs import FloatArray
from cnn_perception.pipeline.preprocess import preprocess
from cnn_perception.pipeline.score_map import Cells, ScoreMap, dense_scores

_TARGET = Target(0.035)
_HEIGHT, _WIDTH = 720, 1280


def sliding_windows(model: OnnxModel, image: RgbImage, cells: Cells, shape: tuple[int, ...], batch: int) -> FloatArray:
    """Returns the logits (K, rows, columns) of the classifier, run on a crop for each cell of a map.

    A window of the last row or column that would reach over the edge is moved back into the image.
    """
    size = dataclasses.replace(model.spec.input, resize_mode="squash", crop_fraction=1.0)  # a crop is the window
    logits = []
    rows, columns = shape[-2:]
    height, width = (round(side) for side in cells.window)
    crops_of_cells = []
    for row, column in np.ndindex(rows, columns):
        v, u = cells.pixel(row, column)
        top = min(max(round(v - (height - 1) / 2), 0), image.shape[0] - height)
        left = min(max(round(u - (width - 1) / 2), 0), image.shape[1] - width)
        crops_of_cells.append(image[top : top + height, left : left + width])
    for start in range(0, len(crops_of_cells), batch):
        crops = crops_of_cells[start : start + batch]
        images = np.empty((len(crops), 3, size.height, size.width), np.float32)
        for crop, slot in zip(crops, images, strict=True):
            preprocess(RgbImage(crop), size, out=slot)
        logits += [outputs.logits for outputs in model.run(images, activation=False)]
    return np.stack(logits, 1).reshape(-1, rows, columns)


def _duration_ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser(
        "score_map", __doc__, backbone="resnet18", rounds=5, threads=1, provider="cpu", output=OUTPUT
    )
    parser.add_argument("--batch", type=int, default=16, help="windows at a time (default: %(default)s)")
    options = parser.parse_args(argv)
    batches = (1, options.batch)
    settings = SessionOptions((options.provider,), intra_op_threads=options.threads, warm_up_batches=batches)
    model = OnnxModel(export_model(options.output, options.backbone), settings)
    (image,) = draw_images(_HEIGHT, _WIDTH, count=1)
    found: ScoreMap = dense_scores(model, image)
    rows, columns = found.scores.shape[1:]
    print(f"{machine()}, {options.backbone}, {model.provider}: {rows}x{columns} cells of a {_WIDTH}x{_HEIGHT} frame")
    pairs = []
    for _ in range(options.rounds):
        dense_ms = _duration_ms(lambda: dense_scores(model, image))
        sliding_ms = _duration_ms(lambda: sliding_windows(model, image, found.cells, found.scores.shape, options.batch))
        pairs.append((dense_ms, sliding_ms))
    dense_ms, sliding_ms = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{dense_ms:.0f} ms for the score map, {sliding_ms:.0f} ms for {rows * columns} windows (medians)")
    circumstances = f"{options.backbone}, {_WIDTH}x{_HEIGHT}"
    report(circumstances, "score map / sliding windows", [own / other for own, other in pairs], _TARGET)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

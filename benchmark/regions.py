"""The time of 20 regions of one frame, over that of 20 bare inferences of one image each.

    python -m benchmark.regions

Regions are what a node does with boxes of another detector: crops of a 1280x720 image, preprocessed and run in batches,
and their answers. Both run the same network in this process, with the same threads, and take turns; the ratio is taken
pair by pair, because the speed of a shared machine drifts.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmark.support.options import CPU, OUTPUT, at_least_one, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import export_model
from cnn_perception.errors import EXIT_OK
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.regions.answering import RegionSettings, answer_boxes
from cnn_perception.regions.box import Box

REGIONS = 20
_TARGET = Target(1.1)


def boxes_of(height: int, width: int) -> list[Box]:
    """Returns so many boxes of the sizes that a detector finds: a tenth to half of the image's height."""
    rng = np.random.default_rng(0)
    sides = rng.uniform(0.1, 0.5, (REGIONS, 2)) * height
    centres = rng.uniform(0.25, 0.75, (REGIONS, 2)) * (width, height)
    pairs = zip(centres.tolist(), sides.tolist(), strict=True)
    return [Box(x, y, columns, rows) for (x, y), (columns, rows) in pairs]


def seconds(work: Callable[[], object]) -> float:
    """Returns how long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("regions", __doc__, backbone="resnet50", rounds=15, threads=1, provider=CPU, output=OUTPUT)
    parser.add_argument("--batch", type=at_least_one, default=4, help="boxes in one run (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="model file, in place of an untrained backbone")
    options = parser.parse_args(argv)
    model = options.model or export_model(options.output, options.backbone)
    batches = tuple(range(1, options.batch + 1))
    session = SessionOptions((options.provider,), intra_op_threads=options.threads, warm_up_batches=batches)
    pipeline = Pipeline.load(model, session)
    height, width = 720, 1280
    image = RgbImage(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))
    boxes = boxes_of(height, width)
    settings = RegionSettings(batch_size=options.batch)
    tensor = pipeline.prepare_image(image).tensor[np.newaxis]

    def bare() -> None:
        for _ in range(REGIONS):
            pipeline.model.run(tensor, activation=False)

    rounds = [
        (seconds(lambda: answer_boxes(pipeline, image, boxes, settings)), seconds(bare)) for _ in range(options.rounds)
    ]
    own, alone = (statistics.median(times) * 1e3 for times in zip(*rounds, strict=True))
    print(f"{machine()}, {options.provider}, {model.stem}, {options.threads} threads, batches of {options.batch}")
    print(f"{REGIONS} regions of a frame: {own:.0f} ms; {REGIONS} bare inferences: {alone:.0f} ms (medians)")
    report(f"{REGIONS} boxes, {model.stem}", "regions / bare", [one / other for one, other in rounds], _TARGET)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

"""The time of 20 regions of one frame, over that of 20 bare inferences of one image each; and the same of the node.

    python -m benchmark.regions

Regions are what a node does with boxes of another detector: crops of a 1280x720 image, preprocessed and run in batches,
and their answers. First both run the same network in this process, with the same threads, and take turns. Then a node
gets images of a camera and a detector's boxes, 20 of each image, faster than it can answer them, and takes turns with a
bare loop; what it does in a second is its answers to boxes and to whole frames together, each an inference. Ratios are
taken pair by pair, because the speed of a shared machine drifts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from vision_msgs.msg import BoundingBox2D, Classification, Detection2D, Detection2DArray, Point2D, Pose2D

from benchmark.support.node_client import NodeClient
from benchmark.support.options import CPU, OUTPUT, at_least_one, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import BareLoop, export_model, running, write_frames
from cnn_perception.errors import EXIT_OK
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.regions.answering import RegionSettings, answer_boxes
from cnn_perception.regions.box import Box
from cnn_perception.ros import transport

REGIONS = 20
_TARGET = Target(1.1)
_HEIGHT, _WIDTH = 720, 1280
_NODE = "/perception_node"
_BOXES = "/detector/detections"
_SETTLING_S = 1.0
_SHORTEST_S = 10.0
"""Of a round of the node: boxes come twenty at once, which is then some per cent of all."""


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


class Detector:
    """Stands in for a detector: for each frame that was answered it publishes the same boxes, and counts their answers.

    Attributes:
        answered: Boxes that the node has answered.
    """

    def __init__(self, client: NodeClient) -> None:
        self.answered = 0
        self._boxes = [_detection(box) for box in boxes_of(_HEIGHT, _WIDTH)]
        self._publisher = client.node.create_publisher(Detection2DArray, _BOXES, 10)
        client.node.create_subscription(Classification, f"{_NODE}/classification", self._on_frame, 10)
        client.node.create_subscription(Detection2DArray, f"{_NODE}/detections", self._on_answers, 10)

    def _on_frame(self, message: Classification) -> None:
        self._publisher.publish(Detection2DArray(header=message.header, detections=self._boxes))

    def _on_answers(self, message: Detection2DArray) -> None:
        self.answered += sum(bool(one.results) for one in message.detections)


def _detection(box: Box) -> Detection2D:
    centre = Pose2D(position=Point2D(x=box.x, y=box.y))
    return Detection2D(bbox=BoundingBox2D(center=centre, size_x=box.width, size_y=box.height))


def rounds_of_node(options: argparse.Namespace, model: Path) -> list[tuple[float, float]]:
    """Returns of each round the milliseconds of an inference in the node, boxes and frames alike, and of a bare one."""
    os.environ.update(transport.environment())
    seconds_each = max(options.seconds, _SHORTEST_S)
    camera: dict[str, Any] = {
        "source": write_frames(options.output, _HEIGHT, _WIDTH),
        "loop": "true",
        "preload": "true",
    }
    node: dict[str, Any] = {"model": model, "intra_op_threads": options.threads, "providers": f"[{options.provider}]"}
    node |= {"rois_topic": _BOXES, "max_batch_size": options.batch}
    found = []
    with contextlib.closing(BareLoop(model, options.threads, options.provider)) as bare:
        # A frame costs itself and its boxes; the camera brings twice as many as can be answered.
        rate_hz = 2 * bare.rate_hz(2.0) / (1 + REGIONS)
        with running("perception_node", **node), running("camera_node", rate_hz=rate_hz, **camera):
            topic = f"{_NODE}/classification"
            client = NodeClient([topic])
            detector = Detector(client)
            for _ in range(max(1, options.rounds // 3)):
                client.set_active(_NODE, False)
                client.spin(_SETTLING_S)
                alone_hz = bare.rate_hz(seconds_each)
                client.set_active(_NODE, True)
                client.spin(_SETTLING_S)
                before, started_s = detector.answered, time.perf_counter()
                frames_hz = client.rates_hz(seconds_each)[topic]
                boxes_hz = (detector.answered - before) / (time.perf_counter() - started_s)
                print(
                    f"  node: {frames_hz:.1f} frames/s and {boxes_hz:.1f} boxes/s; bare loop {alone_hz:.1f}/s",
                    flush=True,
                )
                found.append((1e3 / (frames_hz + boxes_hz), 1e3 / alone_hz))
            rclpy.shutdown()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser(
        "regions", __doc__, backbone="resnet50", rounds=15, seconds=5.0, threads=1, provider=CPU, output=OUTPUT
    )
    parser.add_argument("--batch", type=at_least_one, default=4, help="boxes in one run (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="model file, in place of an untrained backbone")
    options = parser.parse_args(argv)
    model = options.model or export_model(options.output, options.backbone)
    batches = tuple(range(1, options.batch + 1))
    session = SessionOptions((options.provider,), intra_op_threads=options.threads, warm_up_batches=batches)
    pipeline = Pipeline.load(model, session)
    image = RgbImage(np.random.default_rng(1).integers(0, 256, (_HEIGHT, _WIDTH, 3), np.uint8))
    boxes = boxes_of(_HEIGHT, _WIDTH)
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
    live = rounds_of_node(options, model)
    report(f"{REGIONS} boxes a frame, {model.stem}", "node / bare", [one / other for one, other in live], _TARGET)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

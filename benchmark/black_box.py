"""What a black box costs the answers: their rate, and their age, while it keeps every image and saves a window.

    python -m benchmark.black_box

A camera process publishes images at half the model's rate. Two nodes run throughout, one of them with a black box, and
are active in turn; the one that has it is told to save at the start of each measurement. The ratios are taken pair by
pair, because the speed of a shared machine drifts, for each size of image. An answer's age is that at which it arrives
in this process.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rclpy
from rclpy.publisher import Publisher
from std_msgs.msg import String

from benchmark.support.answers_in_turn import MEDIAN_AGE, P99_AGE, RATE
from benchmark.support.node_client import NodeClient
from benchmark.support.options import CPU, OUTPUT, option_parser
from benchmark.support.pairs import report
from benchmark.support.processes import half_as_fast, running, write_frames
from cnn_perception.errors import EXIT_OK
from cnn_perception.ros import transport

BOXED, PLAIN = "/boxed", "/plain"
_SIZES = ((480, 640), (720, 1280))
_TARGETS = {"answers a second": RATE, "median age": MEDIAN_AGE, "p99 age": P99_AGE}
_SETTLING_S = 2.0
_WINDOW_S = 3.0
_MOST_MB = 20_000.0
"""Room for every window of a run: one that is not saved would cost nothing."""


def measure(client: NodeClient, saves: Publisher[String], node: str, seconds: float) -> tuple[float, float, float]:
    """Returns the rate (1/s), the median and the 99th percentile of the age (s) of a node's answers; it is active."""
    topic = f"{node}/classification"
    client.set_active(node, True)
    client.spin(_SETTLING_S)
    if node == BOXED:
        saves.publish(String(data="benchmark"))
    client.ages_s[topic].clear()
    rate_hz = client.rates_hz(seconds)[topic]
    median_s, p99_s = np.percentile(client.ages_s[topic], (50, 99))
    client.set_active(node, False)
    return rate_hz, float(median_s), float(p99_s)


def compare(client: NodeClient, saves: Publisher[String], size: str, rounds: int, seconds: float) -> None:
    """Measures both nodes in turn, and prints the ratios."""
    ratios: dict[str, list[float]] = {name: [] for name in _TARGETS}
    for number in range(rounds):
        plain = measure(client, saves, PLAIN, seconds)
        boxed = measure(client, saves, BOXED, seconds)
        for name, one, other in zip(_TARGETS, boxed, plain, strict=True):
            ratios[name].append(one / other)
        texts = [f"{rate_hz:6.2f}/s {1e3 * median_s:6.1f} ms" for rate_hz, median_s, _ in (boxed, plain)]
        print(f"  round {number + 1}: with a black box {texts[0]}, without {texts[1]}", flush=True)
    for name, target in _TARGETS.items():
        report(size, f"with / without a black box, {name}", ratios[name], target)


def _box_of(folder: Path) -> dict[str, object]:
    box = folder / "black_box"
    shutil.rmtree(box, ignore_errors=True)
    window = {"black_box_before_s": _WINDOW_S, "black_box_after_s": _WINDOW_S}
    return {"black_box_dir": box, "black_box_max_mb": _MOST_MB, **window}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser(
        "black_box", __doc__, backbone="resnet18", rounds=5, seconds=10.0, threads=0, provider=CPU, output=OUTPUT
    )
    options = parser.parse_args(argv)
    os.environ.update(transport.environment())
    node, camera_hz = half_as_fast(options)
    box = _box_of(options.output)
    with (
        running("perception_node", ["__node:=plain"], **node),
        running("perception_node", ["__node:=boxed"], **node, **box),
    ):
        client = NodeClient([f"{BOXED}/classification", f"{PLAIN}/classification"])
        saves = client.node.create_publisher(String, f"{BOXED}/black_box_trigger", 10)
        for name in (BOXED, PLAIN):
            client.set_active(name, False)
        for height, width in _SIZES:
            frames = write_frames(options.output, height, width)
            with running("camera_node", source=frames, loop="true", preload="true", rate_hz=camera_hz):
                size = f"{width}x{height} rgb8"
                print(size)
                compare(client, saves, size, options.rounds, options.seconds)
        rclpy.shutdown()
    shutil.rmtree(options.output / "black_box")  # gigabytes
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

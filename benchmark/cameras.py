"""The rate and the memory of one node with four cameras, over those of four nodes with a camera each.

    python -m benchmark.cameras

Four camera processes publish 640x480 rgb8 images throughout, together faster than they can be answered. The one node
and the four take turns (the others are inactive meanwhile); the ratio is taken pair by pair. Memory is the proportional
set size while active, in which pages that processes share are counted once; all five hold their model throughout.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy

from benchmark.support.growth import sample_process
from benchmark.support.node_client import NodeClient
from benchmark.support.options import CPU, OUTPUT, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import HEIGHT, WIDTH, BareLoop, export_model, running, write_frames
from cnn_perception.errors import EXIT_OK
from cnn_perception.ros import transport

CAMERAS = ("front", "rear", "left", "right")
_RATE = Target(1.4, is_lower_bound=True)
_MEMORY = Target(0.33)
_SETTLING_S = 1.5
"""After a switch, before counting: discovery, and the frames under way."""
_ALONE = tuple(f"only_{name}" for name in CAMERAS)
"""The nodes with a camera each; the one node with all of them is `all`."""
_TOPICS_OF_ALL = tuple(f"/all/{name}/classification" for name in CAMERAS)
_TOPICS_OF_ALONE = tuple(f"/{node}/classification" for node in _ALONE)


@dataclass(frozen=True)
class Usage:
    """What one of the two sides does while it is active.

    Attributes:
        rates_hz: Classifications a second, by camera.
        memory_mb: Proportional set size of its processes, MB.
    """

    rates_hz: list[float]
    memory_mb: float

    @property
    def rate_hz(self) -> float:
        """Classifications a second of all cameras."""
        return sum(self.rates_hz)


def start_cameras(stack: contextlib.ExitStack, frames: Path, rate_hz: float) -> None:
    """Starts the camera processes, which end with the stack."""
    for name in CAMERAS:
        settings = {"source": frames, "rate_hz": rate_hz, "loop": "true", "preload": "true"}
        stack.enter_context(running("camera_node", (f"__ns:=/{name}",), **settings))


def start_nodes(
    stack: contextlib.ExitStack, model: Path, threads: int, batch: int
) -> tuple[subprocess.Popen[Any], list[subprocess.Popen[Any]]]:
    """Returns the process of the node with all cameras, and those of the nodes with one; they end with the stack."""
    shared = {"model": model, "providers": "[cpu]", "intra_op_threads": threads}
    cameras = f"[{', '.join(CAMERAS)}]"
    together = stack.enter_context(
        running("perception_node", ("__node:=all",), cameras=cameras, max_batch_size=batch, **shared)
    )
    alone = []
    for node, name in zip(_ALONE, CAMERAS, strict=True):
        process = running("perception_node", (f"__node:={node}",), image_topic=f"/{name}/image_raw", **shared)
        alone.append(stack.enter_context(process))
    return together, alone


def measure_usage(
    client: NodeClient,
    nodes: Sequence[str],
    topics: Sequence[str],
    processes: Sequence[subprocess.Popen[Any]],
    seconds: float,
) -> Usage:
    """Returns what nodes do for some seconds; they are active meanwhile only."""
    for name in nodes:
        client.set_active(f"/{name}", True)
    client.spin(_SETTLING_S)
    rates_hz = client.rates_hz(seconds)
    memory_mb = sum(sample_process(process.pid, 0.0, 0.0).pss_mb for process in processes)
    for name in nodes:
        client.set_active(f"/{name}", False)
    return Usage([rates_hz[topic] for topic in topics], memory_mb)


def measure(options: argparse.Namespace) -> None:
    """Runs all rounds and prints them."""
    os.environ.update(transport.environment())
    model = export_model(options.output, options.backbone)
    frames = write_frames(options.output)
    bare = BareLoop(model, 0, CPU)
    camera_hz = options.camera_rate or 0.6 * bare.rate_hz(2.0)
    bare.close()
    print(f"{options.backbone}; {len(CAMERAS)} cameras of {WIDTH}x{HEIGHT} rgb8 at {camera_hz:.0f} Hz each")
    rates = []
    memories = []
    with contextlib.ExitStack() as stack:
        start_cameras(stack, frames, camera_hz)
        together, alone = start_nodes(stack, model, options.threads, options.batch)
        client = NodeClient([*_TOPICS_OF_ALL, *_TOPICS_OF_ALONE])
        for name in ("all", *_ALONE):
            client.set_active(f"/{name}", False)
        for number in range(options.rounds):
            one = measure_usage(client, ["all"], _TOPICS_OF_ALL, [together], options.seconds)
            four = measure_usage(client, _ALONE, _TOPICS_OF_ALONE, alone, options.seconds)
            rates.append(one.rate_hz / four.rate_hz)
            memories.append(one.memory_mb / four.memory_mb)
            by_camera = ", ".join(f"{rate:.1f}" for rate in one.rates_hz)
            print(
                f"  round {number + 1}: one node {one.rate_hz:6.2f}/s ({by_camera}), {one.memory_mb:.0f} MB; "
                f"four nodes {four.rate_hz:6.2f}/s, {four.memory_mb:.0f} MB",
                flush=True,
            )
        rclpy.shutdown()
    report("four cameras", "one node / four, answers a second", rates, _RATE)
    report("four cameras", "one node / four, memory", memories, _MEMORY)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("cameras", __doc__, backbone="resnet18", rounds=3, seconds=8.0, output=OUTPUT)
    parser.add_argument("--threads", type=int, default=0, help="intra-op, of every node; 0: one a core (default)")
    parser.add_argument("--batch", type=int, default=4, help="max_batch_size of the one node (default: %(default)s)")
    parser.add_argument("--camera-rate", type=float, default=0.0, help="Hz (default: 0.6 of the bare model's rate)")
    options = parser.parse_args(argv)
    print(machine())
    measure(options)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

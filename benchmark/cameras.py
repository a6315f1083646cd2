"""Four cameras in one node, over four nodes with a camera each: answers a second, and memory.

    python -m benchmark.cameras

Four camera processes publish 640x480 rgb8 images throughout, together faster than they can be answered. The one node
and the four take turns (the others are inactive meanwhile); the ratio is taken pair by pair. Memory is the proportional
set size while active, in which pages that processes share are counted once; all five hold their model throughout.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from vision_msgs.msg import Classification

from benchmark.growth import look
from benchmark.pairs import Target, machine, summary
from benchmark.processes import HEIGHT, WIDTH, BareLoop, drawn_frames, exported, running
from cnn_perception.errors import EXIT_OK
from cnn_perception.ros import transport

CAMERAS = ("front", "rear", "left", "right")
_RATE, _MEMORY = Target(1.0, least=True), Target(0.4)
_SETTLE_S = 1.5
"""After a switch, before counting: discovery, and the frames under way."""


class Observer:
    """Subscribes to the answers of both sides, and switches them on and off."""

    def __init__(self) -> None:
        rclpy.init()
        self._node = Node("benchmark")
        self.answers = dict.fromkeys([f"/all/{name}" for name in CAMERAS] + [f"/only_{name}" for name in CAMERAS], 0)
        for source in self.answers:
            self._node.create_subscription(
                Classification, f"{source}/classification", lambda _, source=source: self._count(source), 10
            )

    def _count(self, source: str) -> None:
        self.answers[source] += 1

    def spin(self, seconds: float) -> None:
        """Receives for this long."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            rclpy.spin_once(self._node, timeout_sec=left)

    def switch(self, names: Sequence[str], active: bool) -> None:
        """Activates or deactivates nodes."""
        number = Transition.TRANSITION_ACTIVATE if active else Transition.TRANSITION_DEACTIVATE
        for name in names:
            client = self._node.create_client(ChangeState, f"/{name}/change_state")
            if not client.wait_for_service(timeout_sec=60):
                raise SystemExit(f"error: {name} does not start; see its log above")
            future = client.call_async(ChangeState.Request(transition=Transition(id=number)))
            rclpy.spin_until_future_complete(self._node, future, timeout_sec=60)
            if not future.done() or not future.result().success:
                raise SystemExit(f"error: {name} does not change its state; see its log above")
            self._node.destroy_client(client)

    def rates_hz(self, seconds: float, sources: Sequence[str]) -> list[float]:
        """Counts the answers of some sources a second."""
        before, started = dict(self.answers), time.perf_counter()
        self.spin(seconds)
        taken = time.perf_counter() - started
        return [(self.answers[source] - before[source]) / taken for source in sources]


def measure(options: argparse.Namespace) -> None:
    """Runs all rounds and prints them."""
    os.environ.update(transport.environment())
    model, frames = exported(options.output, options.backbone), drawn_frames(options.output)
    bare = BareLoop(model, 0, "CPUExecutionProvider")
    camera_hz = options.camera_rate or 0.6 * bare.rate_hz(2.0)
    bare.close()
    shared = {"model": model, "providers": "[cpu]", "intra_op_threads": options.threads}
    alone = [f"only_{name}" for name in CAMERAS]
    print(f"{options.backbone}; {len(CAMERAS)} cameras of {WIDTH}x{HEIGHT} rgb8 at {camera_hz:.0f} Hz each")
    with contextlib.ExitStack() as stack:
        for name in CAMERAS:
            settings = {"source": frames, "rate_hz": camera_hz, "loop": "true", "preload": "true"}
            stack.enter_context(running("camera_node", remap=(f"__ns:=/{name}",), **settings))
        names = f"[{', '.join(CAMERAS)}]"
        together = stack.enter_context(
            running("perception_node", remap=("__node:=all",), cameras=names, max_batch_size=options.batch, **shared)
        )
        each = [
            stack.enter_context(
                running("perception_node", remap=(f"__node:={node}",), image_topic=f"/{name}/image_raw", **shared)
            )
            for node, name in zip(alone, CAMERAS, strict=True)
        ]
        observer = Observer()
        observer.switch(["all", *alone], active=False)
        rates, memories = [], []
        for number in range(options.rounds):
            observer.switch(["all"], active=True)
            observer.spin(_SETTLE_S)
            one = observer.rates_hz(options.seconds, [f"/all/{name}" for name in CAMERAS])
            one_mb = look(together.pid, 0.0, 0.0).pss_mb
            observer.switch(["all"], active=False)
            observer.switch(alone, active=True)
            observer.spin(_SETTLE_S)
            four = observer.rates_hz(options.seconds, [f"/only_{name}" for name in CAMERAS])
            four_mb = sum(look(process.pid, 0.0, 0.0).pss_mb for process in each)
            observer.switch(alone, active=False)
            rates.append(sum(one) / sum(four))
            memories.append(one_mb / four_mb)
            by_camera = ", ".join(f"{rate:.1f}" for rate in one)
            print(
                f"  round {number + 1}: one node {sum(one):6.2f}/s ({by_camera}), {one_mb:.0f} MB; "
                f"four nodes {sum(four):6.2f}/s, {four_mb:.0f} MB",
                flush=True,
            )
        rclpy.shutdown()
    print(f"one node / four, answers a second: {summary(rates, _RATE)}")
    print(f"one node / four, memory: {summary(memories, _MEMORY)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.cameras", description=__doc__)
    parser.add_argument("--backbone", default="resnet18", help="torchvision name (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of measurements (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="intra-op, of every node; 0: one a core (default)")
    parser.add_argument("--batch", type=int, default=4, help="max_batch_size of the one node (default: %(default)s)")
    parser.add_argument("--camera-rate", type=float, default=0.0, help="Hz (default: 0.6 of the bare model's rate)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark"), help="folder (default: %(default)s)")
    options = parser.parse_args(argv)
    print(machine())
    measure(options)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

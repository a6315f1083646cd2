"""`make bench`: how many frames a second the node answers, over what the bare model does on the same machine.

One camera process publishes 640x480 rgb8 images throughout, faster than they can be answered. The node (active,
classification and activation subscribed) and a bare ONNX Runtime loop (while the node is inactive) take turns; the
ratio is taken pair by pair, because the speed of a shared machine drifts. Of a camera faster than the model the newest
frame waits for the end of the inference under way, so what the node adds to a frame's time is taken with a slower one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification

from benchmark.pairs import Target, machine, summary
from benchmark.processes import HEIGHT, WIDTH, BareLoop, drawn_frames, exported, running
from cnn_perception.errors import EXIT_OK
from cnn_perception.ros import transport

NODE = "/perception_node"
_TARGETS = {"resnet18": Target(0.92, least=True), "resnet50": Target(0.95, least=True)}
_OWN_TIME = Target(0.15)
_SETTLE_S = 1.0
"""After a switch, before counting: discovery, and the frames under way."""
_UNHURRIED_FRAMES = 400
"""More than the diagnostics' percentiles look back, with the camera's start."""


@dataclass(frozen=True)
class Round:
    """One pair: frames a second of the node and of the bare loop."""

    node_hz: float
    bare_hz: float

    @property
    def ratio(self) -> float:
        """What the node keeps of the bare model's rate."""
        return self.node_hz / self.bare_hz


class Observer:
    """Subscribes as a robot would, counts the answers, and switches the node on and off."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = Node("benchmark")
        self.answers = 0
        self.stages: dict[str, float] = {}
        self.node.create_subscription(Classification, f"{NODE}/classification", self._count, 10)
        self.node.create_subscription(Image, f"{NODE}/activation", lambda _: None, 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10)
        self._transitions = self.node.create_client(ChangeState, f"{NODE}/change_state")

    def _count(self, _: Classification) -> None:
        self.answers += 1

    def _diagnose(self, message: DiagnosticArray) -> None:
        values = {pair.key: pair.value for status in message.status for pair in status.values}
        stages = {key: value for key, value in values.items() if key.endswith("p50/p95 (ms)")}
        self.stages = {key.split()[0]: float(value.split()[0]) for key, value in stages.items()} or self.stages

    def spin(self, seconds: float) -> None:
        """Receives for this long."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            rclpy.spin_once(self.node, timeout_sec=left)

    def switch(self, active: bool) -> None:
        """Activates or deactivates the node."""
        number = Transition.TRANSITION_ACTIVATE if active else Transition.TRANSITION_DEACTIVATE
        if not self._transitions.wait_for_service(timeout_sec=30):
            raise SystemExit("error: the node does not start; see its log above")
        future = self._transitions.call_async(ChangeState.Request(transition=Transition(id=number)))
        rclpy.spin_until_future_complete(self.node, future, timeout_sec=30)
        if not future.done() or not future.result().success:
            raise SystemExit("error: the node does not change its state; see its log above")

    def rate_hz(self, seconds: float) -> float:
        """Counts answers a second."""
        before, started = self.answers, time.perf_counter()
        self.spin(seconds)
        return (self.answers - before) / (time.perf_counter() - started)


@dataclass(frozen=True)
class Measured:
    """All pairs, and the median milliseconds of the node's stages, with a camera that hurries it and without."""

    rounds: list[Round]
    rushed: dict[str, float]
    unhurried: dict[str, float]


def measure(options: argparse.Namespace, threads: int) -> Measured:
    """Runs all rounds, then the node alone with a camera of half the model's rate."""
    os.environ.update(transport.environment())
    model, frames = exported(options.output, options.backbone), drawn_frames(options.output)
    bare = BareLoop(model, threads, options.provider)
    bare_hz = bare.rate_hz(2.0)
    camera_hz = options.camera_rate or 1.5 * bare_hz
    camera: dict[str, Any] = {"source": frames, "loop": "true", "preload": "true"}
    node: dict[str, Any] = {"model": model, "intra_op_threads": threads, "providers": f"[{options.provider}]"}
    rounds: list[Round] = []
    words = f"{threads} threads" if threads else "a thread a core"
    print(f"\n{options.backbone}, {words}; camera {WIDTH}x{HEIGHT} rgb8 at {camera_hz:.0f} Hz")
    with running("perception_node", **node):
        observer = Observer()
        with running("camera_node", rate_hz=camera_hz, **camera):
            for number in range(options.rounds):
                observer.switch(active=False)
                observer.spin(_SETTLE_S)
                bare_hz = bare.rate_hz(options.seconds)
                observer.switch(active=True)
                observer.spin(_SETTLE_S)
                rounds.append(Round(observer.rate_hz(options.seconds), bare_hz))
                last = rounds[-1]
                print(f"  round {number + 1}: node {last.node_hz:6.2f}/s, bare {last.bare_hz:6.2f}/s, {last.ratio:.3f}")
            rushed = observer.stages
        with running("camera_node", rate_hz=bare_hz / 2, **camera):
            observer.spin(2 * _UNHURRIED_FRAMES / bare_hz)
        result = Measured(rounds, rushed, observer.stages)
        rclpy.shutdown()
    bare.close()
    return result


def _report(measured: Measured, options: argparse.Namespace) -> None:
    target = _TARGETS.get(options.backbone)
    print(f"node / bare loop, frames a second: {summary([r.ratio for r in measured.rounds], target)}")
    print(f"node {statistics.median(r.node_hz for r in measured.rounds):.1f} frames/s on {options.provider}")
    print("Where a frame's time goes in the node (median, ms)         that camera   one half as fast as the model")
    for name in ("decode", "preprocess", "inference", "postprocess", "publish"):
        print(f"  {name:<55} {measured.rushed[name]:10.2f} {measured.unhurried[name]:10.2f}")
    own, shares = zip(*map(_own_time, (measured.rushed, measured.unhurried)), strict=True)
    print(f"  {'callback to publish, less the inference':<55} {own[0]:10.2f} {own[1]:10.2f}")
    print(f"  {'  over the inference':<55} {shares[0]:10.3f} {shares[1]:10.3f}", end="")
    print(f", {_OWN_TIME.verdict(shares[1])}" if options.backbone == "resnet18" else "")


def _own_time(stages: dict[str, float]) -> tuple[float, float]:
    """Milliseconds, and their share of the inference's."""
    own = stages["callback_to_publish"] - stages["inference"]
    return own, own / stages["inference"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.node_rate", description=__doc__)
    parser.add_argument("--backbone", default="resnet18", help="torchvision name (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each measurement (default: %(default)s)")
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[max(1, (os.cpu_count() or 1) - 1), 0],
        help="intra-op threads of both; 0: one a core (default: one core left to the rest, then 0)",
    )
    parser.add_argument("--provider", default="CPUExecutionProvider", help="of both (default: %(default)s)")
    parser.add_argument("--camera-rate", type=float, default=0.0, help="Hz (default: 1.5 times the bare loop's rate)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark"), help="folder (default: %(default)s)")
    options = parser.parse_args(argv)
    print(machine())
    for threads in options.threads:
        _report(measure(options, threads), options)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

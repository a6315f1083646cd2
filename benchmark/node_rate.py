"""The rate at which the node classifies frames, over that of the model alone on the same machine.

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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image

from benchmark.support.node_client import NodeClient
from benchmark.support.options import CPU, OUTPUT, option_parser
from benchmark.support.pairs import Target, machine, summary
from benchmark.support.processes import HEIGHT, WIDTH, BareLoop, export_model, running, write_frames
from cnn_perception.errors import EXIT_OK
from cnn_perception.ros import transport
from demo.diagnostics import diagnostic_values, median_latencies_ms

NODE = "/perception_node"
_TOPIC = f"{NODE}/classification"
_TARGETS = {"resnet18": Target(0.92, is_lower_bound=True), "resnet50": Target(0.95, is_lower_bound=True)}
_OWN_TIME = Target(0.15)
_SETTLING_S = 1.0
"""After a switch, before counting: discovery, and the frames under way."""
_FASTEST_CAMERA_HZ = 1000.0
"""What `camera_node` admits; a GPU may be faster."""
_SLOW_FRAMES = 400
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


class StageLatencies:
    """The median milliseconds of the node's stages, as its diagnostics say them.

    Attributes:
        medians_ms: The newest by the names of the stages.
    """

    def __init__(self, client: NodeClient) -> None:
        self.medians_ms: dict[str, float] = {}
        client.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        medians = median_latencies_ms(diagnostic_values(message))
        if medians:
            self.medians_ms = {stage: float(text) for stage, text in medians.items()}


@dataclass(frozen=True)
class Result:
    """All pairs, and the median milliseconds of the node's stages with a camera above the model's rate and below it."""

    rounds: list[Round]
    fast_camera_ms: dict[str, float]
    slow_camera_ms: dict[str, float]


def measure(options: argparse.Namespace, threads: int) -> Result:
    """Runs all rounds, then the node alone with a camera of half the model's rate."""
    os.environ.update(transport.environment())
    model = export_model(options.output, options.backbone)
    frames = write_frames(options.output)
    bare = BareLoop(model, threads, options.provider)
    bare_hz = bare.rate_hz(2.0)
    camera_hz = options.camera_rate or min(1.5 * bare_hz, _FASTEST_CAMERA_HZ)
    camera: dict[str, Any] = {"source": frames, "loop": "true", "preload": "true"}
    node: dict[str, Any] = {"model": model, "intra_op_threads": threads, "providers": f"[{options.provider}]"}
    rounds: list[Round] = []
    threads_text = f"{threads} threads" if threads else "a thread a core"
    print(f"\n{options.backbone}, {threads_text}; camera {WIDTH}x{HEIGHT} rgb8 at {camera_hz:.0f} Hz")
    with running("perception_node", **node):
        client = NodeClient([_TOPIC])
        client.node.create_subscription(Image, f"{NODE}/activation", lambda _: None, 10)
        latencies = StageLatencies(client)
        with running("camera_node", rate_hz=camera_hz, **camera):
            for number in range(options.rounds):
                client.set_active(NODE, False)
                client.spin(_SETTLING_S)
                bare_hz = bare.rate_hz(options.seconds)
                client.set_active(NODE, True)
                client.spin(_SETTLING_S)
                rounds.append(Round(client.rates_hz(options.seconds)[_TOPIC], bare_hz))
                last = rounds[-1]
                print(f"  round {number + 1}: node {last.node_hz:6.2f}/s, bare {last.bare_hz:6.2f}/s, {last.ratio:.3f}")
            fast_camera_ms = latencies.medians_ms
        with running("camera_node", rate_hz=bare_hz / 2, **camera):
            client.spin(2 * _SLOW_FRAMES / bare_hz)
        result = Result(rounds, fast_camera_ms, latencies.medians_ms)
        rclpy.shutdown()
    bare.close()
    return result


def _report(result: Result, options: argparse.Namespace) -> None:
    target = _TARGETS.get(options.backbone)
    print(f"node / bare loop, frames a second: {summary([r.ratio for r in result.rounds], target)}")
    print(f"node {statistics.median(r.node_hz for r in result.rounds):.1f} frames/s on {options.provider}")
    print("Where a frame's time goes in the node (median, ms)         that camera   one half as fast as the model")
    for name in ("decode", "preprocess", "inference", "postprocess", "publish"):
        print(f"  {name:<55} {result.fast_camera_ms[name]:10.2f} {result.slow_camera_ms[name]:10.2f}")
    stages_ms = (result.fast_camera_ms, result.slow_camera_ms)
    own_ms = [stages["callback_to_publish"] - stages["inference"] for stages in stages_ms]
    shares = [own / stages["inference"] for own, stages in zip(own_ms, stages_ms, strict=True)]
    print(f"  {'callback to publish, less the inference':<55} {own_ms[0]:10.2f} {own_ms[1]:10.2f}")
    print(f"  {'  over the inference':<55} {shares[0]:10.3f} {shares[1]:10.3f}", end="")
    print(f", {_OWN_TIME.verdict(shares[1])}" if options.backbone == "resnet18" else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser(
        "node_rate", __doc__, backbone="resnet18", rounds=5, seconds=6.0, provider=CPU, output=OUTPUT
    )
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[max(1, (os.cpu_count() or 1) - 1), 0],
        help="intra-op threads of both; 0: one a core (default: one core left to the rest, then 0)",
    )
    parser.add_argument("--camera-rate", type=float, default=0.0, help="Hz (default: 1.5 times the bare loop's rate)")
    options = parser.parse_args(argv)
    print(machine())
    for threads in options.threads:
        _report(measure(options, threads), options)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

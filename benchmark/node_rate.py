"""The rate at which the node classifies frames, over that of the model alone on the same machine.

    python -m benchmark.node_rate
    python -m benchmark.node_rate --threads 1 --size 1920x1080 --transport raw compressed

One camera process publishes images throughout, faster than they can be answered. The node (active, classification and
activation subscribed) and a bare ONNX Runtime loop (while the node is inactive) take turns; the ratio is taken pair by
pair, because the speed of a shared machine drifts. Frames that take longer to decode than the model takes are compared
with their decoding on one core instead. Of a camera faster than the model the newest frame waits for the end of the
inference under way, so what the node adds to a frame's time is taken with a slower one, too. A ledger
says who kept the cores busy: what camera, transport and the node's own work take, no inference can have.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image

from benchmark.support.node_client import NodeClient
from benchmark.support.options import CPU, OUTPUT, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import HEIGHT, WIDTH, BareLoop, draw_images, export_model, running, write_frames
from benchmark.support.processor_time import Ledger, Watch
from cnn_perception.errors import EXIT_OK
from cnn_perception.image.jpeg_encoding import VIEWER_QUALITY, encode_jpeg
from cnn_perception.image.messages import EncodedFile, decode
from cnn_perception.ros import transport
from demo.diagnostics import diagnostic_values, median_latencies_ms

NODE = "/perception_node"
_TOPIC = f"{NODE}/classification"
_TARGETS = {"resnet18": Target(0.97, is_lower_bound=True), "resnet50": Target(0.98, is_lower_bound=True)}
"""With one core left to the rest."""
_ALL_CORES = Target(0.92, is_lower_bound=True)
_SIZE_TARGETS = {
    "1280x720": Target(0.95, is_lower_bound=True),
    "1920x1080": Target(0.95, is_lower_bound=True),
    "3840x2160": Target(0.9, is_lower_bound=True),
}
_OWN_SHARES = (Target(0.1), Target(0.08))
"""Of the inference, with a camera faster than the model and one half as fast."""
_OWN_MS = Target(5.0)
"""Of `_LARGE`."""
_DECODING_S = 0.5
_SETTLING_S = 1.0
"""After a switch, before counting: discovery, and the frames under way."""
_FASTEST_CAMERA_HZ = 1000.0
"""What `camera_node` admits; a GPU may be faster."""
_PERCENTILES_FRAMES = 300
"""More than the diagnostics' percentiles look back,"""
_STARTING_FRAMES = 400
"""and with the camera's start."""


@dataclass(frozen=True)
class View:
    """What the camera publishes.

    Attributes:
        size: WIDTHxHEIGHT.
        transport: `raw` for rgb8, or `compressed` for JPEG.
    """

    size: str
    transport: str

    @property
    def height_and_width(self) -> tuple[int, int]:
        """Its rows and columns."""
        width, height = map(int, self.size.split("x"))
        return height, width

    def decoding_hz(self) -> float:
        """Returns how many frames a second one core decodes; without an end for what need not be decoded."""
        if self.transport == "raw":
            return math.inf
        file = _drawn_file(*self.height_and_width)
        decode(file)
        count = 0
        started = time.perf_counter()
        while (elapsed_s := time.perf_counter() - started) < _DECODING_S:
            decode(file)
            count += 1
        return count / elapsed_s


@lru_cache
def _drawn_file(height: int, width: int) -> EncodedFile:
    (image,) = draw_images(height, width, count=1)
    return EncodedFile(encode_jpeg(image, VIEWER_QUALITY), "jpeg")


@dataclass(frozen=True)
class Round:
    """One pair.

    Attributes:
        node_hz: Frames a second of the node.
        limit_hz: Of the bare loop or of decoding, whichever is slower.
        ledger: Who kept the cores busy meanwhile: `node`, `camera`, `client`.
        bare_s: Processor time of an inference in the bare loop.
    """

    node_hz: float
    limit_hz: float
    ledger: Ledger = field(default_factory=lambda: Ledger({}, 0.0))
    bare_s: float = 0.0

    @property
    def ratio(self) -> float:
        """What the node keeps of the rate that is possible."""
        return self.node_hz / self.limit_hz


_REFERENCE = View(f"{WIDTH}x{HEIGHT}", "raw")
_LARGE = View("1920x1080", "raw")


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
    """What was measured of a view.

    Attributes:
        rounds: All pairs.
        fast_camera_ms: Of each round the median milliseconds of the node's stages, with a camera faster than the model.
        slow_camera_ms: The same with one half as fast as it.
    """

    rounds: list[Round]
    fast_camera_ms: list[dict[str, float]]
    slow_camera_ms: list[dict[str, float]]


def own_times_ms(stages: Sequence[dict[str, float]]) -> list[float]:
    """Returns of each round what a frame takes in the node beside its inference, in milliseconds."""
    return [one["callback_to_publish"] - one["inference"] for one in stages]


def measure(options: argparse.Namespace, threads: int, view: View) -> Result:
    """Runs all rounds, then as many of the node alone with a camera of half the model's rate."""
    os.environ.update(transport.environment())
    model = export_model(options.output, options.backbone)
    frames = write_frames(options.output, *view.height_and_width)
    decoding_hz = view.decoding_hz()
    bare = BareLoop(model, threads, options.provider)
    limit_hz = min(bare.rate_hz(2.0), decoding_hz)
    camera_hz = options.camera_rate or min(1.5 * limit_hz, _FASTEST_CAMERA_HZ)
    camera: dict[str, Any] = {"source": frames, "loop": "true", "preload": "true", "image_transport": view.transport}
    node: dict[str, Any] = {"model": model, "intra_op_threads": threads, "providers": f"[{options.provider}]"}
    node["image_transport"] = view.transport
    result = Result([], [], [])
    print(f"\n{circumstances(options.backbone, threads, view)}; camera at {camera_hz:.0f} Hz")
    if decoding_hz < math.inf:
        print(f"  one core decodes {decoding_hz:.1f} frames/s")
    with running("perception_node", **node) as node_process:
        client = NodeClient([_TOPIC])
        client.node.create_subscription(Image, f"{NODE}/activation", lambda _: None, 10)
        latencies = StageLatencies(client)
        with running("camera_node", rate_hz=camera_hz, **camera) as camera_process:
            processes = {"node": node_process.pid, "camera": camera_process.pid, "client": os.getpid()}
            for number in range(options.rounds):
                client.set_active(NODE, False)
                client.spin(_SETTLING_S)
                loop = Watch({"bare": bare.pid})
                bare_hz = bare.rate_hz(options.seconds)
                bare_s = loop.ledger().cores["bare"] / bare_hz
                limit_hz = min(bare_hz, view.decoding_hz())
                client.set_active(NODE, True)
                client.spin(_SETTLING_S)
                watch = Watch(processes)
                last = Round(client.rates_hz(options.seconds)[_TOPIC], limit_hz, watch.ledger(), bare_s)
                result.rounds.append(last)
                result.fast_camera_ms.append(latencies.medians_ms)
                print(
                    f"  round {number + 1}: node {last.node_hz:6.2f}/s, bare {last.limit_hz:6.2f}/s, {last.ratio:.3f}",
                    flush=True,
                )
        with running("camera_node", rate_hz=limit_hz / 2, **camera):
            has_target = view == _LARGE or _is_reference(options.backbone, view)
            for number in range(options.rounds if has_target else 1):
                client.spin(2 * (_PERCENTILES_FRAMES if number else _STARTING_FRAMES) / limit_hz)
                result.slow_camera_ms.append(latencies.medians_ms)
        rclpy.shutdown()
    bare.close()
    return result


def circumstances(backbone: str, threads: int, view: View) -> str:
    """Returns what tells a measurement from the others, in words."""
    threads_text = f"{threads} thread{'s' if threads > 1 else ''}" if threads else "a thread a core"
    return f"{backbone}, {threads_text}, {view.size} {'rgb8' if view.transport == 'raw' else 'JPEG'}"


def _target(backbone: str, threads: int, view: View) -> Target | None:
    if view.size in _SIZE_TARGETS:
        return _SIZE_TARGETS[view.size]
    return _TARGETS.get(backbone) if threads else _ALL_CORES


def _is_reference(backbone: str, view: View) -> bool:
    """Returns whether there is a target for what the node adds to a frame's time, as a share of the inference."""
    return backbone == "resnet18" and view == _REFERENCE


def busy_cores(rounds: Sequence[Round]) -> str:
    """Returns in words how many cores were busy with what (medians): the limit that the machine itself sets."""

    def median(values: Iterable[float]) -> float:
        return statistics.median(list(values))

    inference = median(one.node_hz * one.bare_s for one in rounds)
    node = median(one.ledger.cores["node"] for one in rounds)
    camera, client = (median(one.ledger.cores[name] for one in rounds) for name in ("camera", "client"))
    others = median(one.ledger.others for one in rounds)
    return (
        f"of {os.cpu_count()} cores: the node {node:.2f} (as many inferences in the bare loop {inference:.2f}), camera "
        f"{camera:.2f}, this client {client:.2f}, all else {others:.2f}"
    )


def _report(result: Result, backbone: str, threads: int, view: View) -> None:
    where = circumstances(backbone, threads, view)
    report(
        where,
        "node / bare loop, frames a second",
        [one.ratio for one in result.rounds],
        _target(backbone, threads, view),
    )
    print(f"  node {statistics.median(one.node_hz for one in result.rounds):.1f} frames/s")
    print("  " + busy_cores(result.rounds))
    print("  Where a frame's time goes in the node (median, ms)       that camera   one half as fast")
    cameras = (result.fast_camera_ms, result.slow_camera_ms)
    for name in ("take", "decode", "preprocess", "inference", "postprocess", "publish"):
        fast_ms, slow_ms = (statistics.median(one[name] for one in rounds) for rounds in cameras)
        print(f"  {name:<55} {fast_ms:10.2f} {slow_ms:10.2f}")
    fast_ms, slow_ms = (statistics.median(own_times_ms(rounds)) for rounds in cameras)
    print(f"  {'taken to published, less the inference':<55} {fast_ms:10.2f} {slow_ms:10.2f}")
    for name, rounds, target in zip(("faster", "half as fast"), cameras, _OWN_SHARES, strict=True):
        shares = [own / one["inference"] for own, one in zip(own_times_ms(rounds), rounds, strict=True)]
        report(where, f"own time / inference, camera {name}", shares, target if _is_reference(backbone, view) else None)
    if view.size == "1920x1080":
        own_ms = own_times_ms(result.slow_camera_ms)
        report(where, "own time, ms", own_ms, _OWN_MS if view == _LARGE else None)


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
    parser.add_argument("--size", nargs="+", default=[_REFERENCE.size], help="WIDTHxHEIGHT (default: %(default)s)")
    parser.add_argument(
        "--transport", nargs="+", choices=("raw", "compressed"), default=[_REFERENCE.transport], help="(default: raw)"
    )
    parser.add_argument("--camera-rate", type=float, default=0.0, help="Hz (default: 1.5 times the bare loop's rate)")
    options = parser.parse_args(argv)
    print(f"{machine()}, {options.provider}")
    for threads, size, name in itertools.product(options.threads, options.size, options.transport):
        view = View(size, name)
        _report(measure(options, threads, view), options.backbone, threads, view)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

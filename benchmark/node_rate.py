"""`make bench`: how many frames a second the node answers, over what the bare model does on the same machine.

One camera process publishes 640x480 rgb8 images throughout, faster than they can be answered. The node (active,
classification and activation subscribed) and a bare ONNX Runtime loop (while the node is inactive) take turns; the
ratio is taken pair by pair, because the speed of a shared machine drifts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification

from cnn_perception import transport
from cnn_perception.errors import EXIT_OK
from demo.draw import CLASSES, draw_sample

NODE = "/perception_node"
HEIGHT, WIDTH = 480, 640
_SETTLE_S = 1.0
"""After a switch, before counting: discovery, and the frames under way."""


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
        self.stages: dict[str, str] = {}
        self.node.create_subscription(Classification, f"{NODE}/classification", self._count, 10)
        self.node.create_subscription(Image, f"{NODE}/activation", lambda _: None, 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10)
        self._transitions = self.node.create_client(ChangeState, f"{NODE}/change_state")

    def _count(self, _: Classification) -> None:
        self.answers += 1

    def _diagnose(self, message: DiagnosticArray) -> None:
        values = {pair.key: pair.value for status in message.status for pair in status.values}
        stages = {key: value for key, value in values.items() if key.endswith("p50/p95 (ms)")}
        self.stages = {key.split()[0]: value.split()[0] for key, value in stages.items()} or self.stages

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


class BareLoop:
    """The other process."""

    def __init__(self, model: Path, threads: int, provider: str) -> None:
        command = [sys.executable, "-m", "benchmark.bare_loop", str(model), str(threads), provider]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_clean()
        )
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def rate_hz(self, seconds: float) -> float:
        """Runs the model for this long; returns frames a second."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}


@contextlib.contextmanager
def _running(module: str, **parameters: object) -> Iterator[None]:
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    command = [sys.executable, "-m", f"cnn_perception.{module}", "--ros-args", "--log-level", "warn", *words]
    process = subprocess.Popen(command, env=_clean())
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _model(folder: Path, backbone: str) -> Path:
    """Exports the backbone with untrained weights and 1000 classes: the time does not depend on the weights."""
    path = folder / f"{backbone}.onnx"
    command = [sys.executable, "-m", "training.export", "--backbone", backbone, "--weights", "none"]
    subprocess.run([*command, "--classes", "1000", "--output", str(path)], check=True, env=_clean())
    return path


def _frames(folder: Path) -> Path:
    frames = folder / "frames"
    frames.mkdir(exist_ok=True)
    for number, name in enumerate(CLASSES):
        picture = draw_sample(name, np.random.default_rng(number), HEIGHT, WIDTH)
        cv2.imwrite(str(frames / f"{number:02}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return frames


def measure(options: argparse.Namespace, threads: int) -> tuple[list[Round], dict[str, float]]:
    """Runs all rounds; returns them and the median milliseconds of the node's stages."""
    os.environ.update(transport.environment())
    options.output.mkdir(parents=True, exist_ok=True)
    model, frames = _model(options.output, options.backbone), _frames(options.output)
    bare = BareLoop(model, threads, options.provider)
    camera_hz = options.camera_rate or 1.5 * bare.rate_hz(2.0)
    camera: dict[str, Any] = {"source": frames, "rate_hz": camera_hz, "loop": "true", "preload": "true"}
    node: dict[str, Any] = {"model": model, "intra_op_threads": threads, "providers": f"[{options.provider}]"}
    rounds: list[Round] = []
    words = f"{threads} threads" if threads else "a thread a core"
    print(f"\n{options.backbone}, {words}; camera {WIDTH}x{HEIGHT} rgb8 at {camera_hz:.0f} Hz")
    with _running("camera", **camera), _running("node", **node):
        observer = Observer()
        observer.switch(active=False)
        for number in range(options.rounds):
            observer.spin(_SETTLE_S)
            bare_hz = bare.rate_hz(options.seconds)
            observer.switch(active=True)
            observer.spin(_SETTLE_S)
            rounds.append(Round(observer.rate_hz(options.seconds), bare_hz))
            stages = {name: float(value) for name, value in observer.stages.items()}
            if number < options.rounds - 1:
                observer.switch(active=False)
            last = rounds[-1]
            print(f"  round {number + 1}: node {last.node_hz:6.2f}/s, bare {last.bare_hz:6.2f}/s, {last.ratio:.3f}")
        rclpy.shutdown()
    bare.close()
    return rounds, stages


def _report(rounds: Sequence[Round], stages: dict[str, float], provider: str) -> None:
    ratios = sorted(r.ratio for r in rounds)
    print(f"node / bare loop: median {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})")
    print(f"node {statistics.median(r.node_hz for r in rounds):.1f} frames/s on {provider}")
    print("Where a frame's time goes in the node (median, ms):")
    shown = ("decode", "preprocess", "inference", "postprocess", "publish")
    for name in shown:
        print(f"  {name:<12} {stages[name]:7.2f}")
    own = stages["callback_to_publish"] - stages["inference"]
    print(f"  {'own time':<12} {own:7.2f}  = {own / stages['inference']:.3f} of the inference")


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
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for threads in options.threads:
        rounds, stages = measure(options, threads)
        _report(rounds, stages, options.provider)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

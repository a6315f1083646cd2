"""How long the node takes from the start of its process to its first answer, with a camera that is already running.

    python -m benchmark.start

Each start is a process of its own; a process that stays receives the answers. Then it is said where the time goes,
step by step in fresh processes: the interpreter, the imports (the dearest of them), the model. What is left is ROS:
the node's topics and parameters, discovery, and the first frame.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.node import Node
from vision_msgs.msg import Classification

from benchmark.pairs import Target, machine
from benchmark.processes import clean, drawn_frames, exported, running
from cnn_perception.errors import EXIT_OK
from cnn_perception.ros import transport

_TARGET = Target(2.0)
_PATIENCE_S = 60.0
_DEAREST = 8
_LOAD = """
import sys, time
from pathlib import Path
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
started = time.perf_counter()
OnnxModel(Path(sys.argv[1]), SessionOptions(providers=[sys.argv[2]]))
print(time.perf_counter() - started)
"""


_TOPIC = "/perception_node/classification"


class Observer:
    """Waits for the first answer."""

    def __init__(self) -> None:
        rclpy.init()
        self._node = Node("benchmark")
        self._answered = False
        self._node.create_subscription(Classification, _TOPIC, self._note, 10)

    def _note(self, _: Classification) -> None:
        self._answered = True

    def start_s(self, model: Path, provider: str) -> float:
        """Starts the node and ends it; returns the seconds to its first answer."""
        while self._node.count_publishers(_TOPIC) or self._answered:
            self._answered = False  # by what is left of the node before
            rclpy.spin_once(self._node, timeout_sec=0.1)
        started = time.perf_counter()
        with running("perception_node", model=model, providers=f"[{provider}]") as process:
            while not self._answered:
                rclpy.spin_once(self._node, timeout_sec=0.5)
                if process.poll() is not None or time.perf_counter() - started > _PATIENCE_S:
                    raise SystemExit("error: the node does not answer; see its log above")
            return time.perf_counter() - started


def _seconds(*words: str) -> float:
    """Returns how long a fresh Python takes with these arguments."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, env=clean(), capture_output=True)
    return time.perf_counter() - started


def _imports() -> dict[str, float]:
    """Returns the milliseconds by package, without what it imports of others, of everything the node imports."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-c",
        "import cnn_perception.entry_points, cnn_perception.perception_node.node",
    ]
    text = subprocess.run(command, check=True, env=clean(), capture_output=True, text=True).stderr
    # With ROS from wheels, Python starts a second time; the second one does the work.
    text = text[text.rindex("import time: self [us]") :]
    times: dict[str, float] = {}
    for own_us, name in re.findall(r"import time: +(\d+) \| +\d+ \| +([\w.]+)", text):
        package = name.partition(".")[0]
        times[package] = times.get(package, 0.0) + int(own_us) / 1e3
    return times


def _explain(model: Path, provider: str, total_s: float, rounds: int) -> None:
    imports = "import cnn_perception.entry_points, cnn_perception.perception_node.node"
    bare_s, both_s = (statistics.median(_seconds("-c", text) for _ in range(rounds)) for text in ("", imports))
    imported_s = both_s - bare_s
    command = [sys.executable, "-c", _LOAD, str(model), provider]
    runs = [subprocess.run(command, check=True, env=clean(), capture_output=True, text=True) for _ in range(rounds)]
    load_s = statistics.median(float(run.stdout) for run in runs)
    rest_s = total_s - bare_s - imported_s - load_s
    named = [("interpreter", bare_s), ("imports", imported_s), ("model: load, verify, warm up", load_s)]
    for name, seconds in [*named, ("ROS, discovery and the first frame", rest_s)]:
        print(f"  {name:<36}{seconds:6.2f} s")
    times = _imports()
    dearest = sorted(times.items(), key=lambda item: -item[1])[:_DEAREST]
    print(f"  imports by package (ms): {', '.join(f'{name} {ms:.0f}' for name, ms in dearest)}")
    print(f"  torch imported: {'YES' if 'torch' in times else 'no'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.start", description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18", help="torchvision name (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="starts (default: %(default)s)")
    parser.add_argument("--provider", default="CPUExecutionProvider", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark"), help="folder (default: %(default)s)")
    options = parser.parse_args(argv)
    os.environ.update(transport.environment())
    model, frames = exported(options.output, options.backbone), drawn_frames(options.output)
    print(f"{machine()}, {options.backbone} on {options.provider}; camera 640x480 rgb8 at 30 Hz")
    with running("camera_node", source=frames, rate_hz=30.0, loop="true", preload="true"):
        observer = Observer()
        observer.start_s(model, options.provider)  # the files are in memory from now on
        starts = [observer.start_s(model, options.provider) for _ in range(options.rounds)]
        rclpy.shutdown()
    middle = statistics.median(starts)
    spread = f"({min(starts):.2f} to {max(starts):.2f})"
    print(f"start to first answer: {middle:.2f} s {spread}, {_TARGET.verdict(middle)}")
    _explain(model, options.provider, middle, 3)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

"""The time from the start of the node's process to its first classification, while a camera is already running.

    python -m benchmark.start

Each start is a process of its own; a process that stays receives the answers. Then it is said where the time goes,
step by step in fresh processes: the interpreter, the imports (the slowest of them), the model. What is left is ROS:
the node's topics and parameters, discovery, and the first frame.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy

from benchmark.support.node_client import NodeClient
from benchmark.support.options import CPU, OUTPUT, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import export_model, running, write_frames
from cnn_perception.errors import EXIT_OK
from cnn_perception.import_path import python_command
from cnn_perception.ros import transport
from demo.processes import child_environment

_TARGET = Target(1.2)
_TIMEOUT_S = 60.0
_MOST_PACKAGES = 8
_LOAD_MODEL = """
import sys, time
from pathlib import Path
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
started = time.perf_counter()
OnnxModel(Path(sys.argv[1]), SessionOptions(providers=[sys.argv[2]]))
print(time.perf_counter() - started)
"""
_IMPORTS = "import cnn_perception.entry_points, cnn_perception.perception_node.node"
_TOPIC = "/perception_node/classification"


def start_s(client: NodeClient, model: Path, provider: str) -> float:
    """Returns the seconds from the start of the node to its first classification; ends the node."""
    while client.node.count_publishers(_TOPIC) or client.counts[_TOPIC]:
        client.counts[_TOPIC] = 0  # by what is left of the node before
        rclpy.spin_once(client.node, timeout_sec=0.1)
    started_s = time.perf_counter()
    with running("perception_node", model=model, providers=f"[{provider}]") as process:
        while not client.counts[_TOPIC]:
            rclpy.spin_once(client.node, timeout_sec=0.5)
            if process.poll() is not None or time.perf_counter() - started_s > _TIMEOUT_S:
                raise SystemExit("error: the node does not answer; see its log above")
        return time.perf_counter() - started_s


def _python_s(code: str) -> float:
    """Returns the seconds that a fresh Python takes for some code."""
    started = time.perf_counter()
    subprocess.run(python_command(code), check=True, env=child_environment(), capture_output=True)
    return time.perf_counter() - started


def _import_times_ms() -> dict[str, float]:
    """Returns the milliseconds of each package that the node imports, without what that imports of others."""
    python, *rest = python_command(_IMPORTS)
    command = [python, "-X", "importtime", *rest]
    text = subprocess.run(command, check=True, env=child_environment(), capture_output=True, text=True).stderr
    # With ROS from wheels, Python starts a second time; the second one does the work.
    text = text[text.rindex("import time: self [us]") :]
    times: dict[str, float] = {}
    for own_us, name in re.findall(r"import time: +(\d+) \| +\d+ \| +([\w.]+)", text):
        package = name.partition(".")[0]
        times[package] = times.get(package, 0.0) + int(own_us) / 1e3
    return times


def _load_s(model: Path, provider: str) -> float:
    """Returns the seconds that a fresh Python takes to load a model, without its imports."""
    command = python_command(_LOAD_MODEL, str(model), provider)
    return float(subprocess.run(command, check=True, env=child_environment(), capture_output=True, text=True).stdout)


def _print_parts(model: Path, provider: str, total_s: float, rounds: int) -> None:
    """Prints what the time from the start to the first classification consists of."""
    bare_s = statistics.median(_python_s("") for _ in range(rounds))
    imported_s = statistics.median(_python_s(_IMPORTS) for _ in range(rounds)) - bare_s
    load_s = statistics.median(_load_s(model, provider) for _ in range(rounds))
    rest_s = total_s - bare_s - imported_s - load_s
    parts = [("interpreter", bare_s), ("imports", imported_s), ("model: load, verify, warm up", load_s)]
    for name, seconds in [*parts, ("ROS, discovery and the first frame", rest_s)]:
        print(f"  {name:<36}{seconds:6.2f} s")
    times_ms = _import_times_ms()
    slowest = sorted(times_ms.items(), key=lambda item: -item[1])[:_MOST_PACKAGES]
    print(f"  imports by package (ms): {', '.join(f'{name} {ms:.0f}' for name, ms in slowest)}")
    print(f"  torch imported: {'YES' if 'torch' in times_ms else 'no'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("start", __doc__, backbone="resnet18", provider=CPU, output=OUTPUT)
    parser.add_argument("--rounds", type=int, default=7, help="starts (default: %(default)s)")
    options = parser.parse_args(argv)
    os.environ.update(transport.environment())
    model = export_model(options.output, options.backbone)
    frames = write_frames(options.output)
    print(f"{machine()}, {options.backbone} on {options.provider}; camera 640x480 rgb8 at 30 Hz")
    with running("camera_node", source=frames, rate_hz=30.0, loop="true", preload="true"):
        client = NodeClient([_TOPIC])
        start_s(client, model, options.provider)  # the files are in memory from now on
        starts = [start_s(client, model, options.provider) for _ in range(options.rounds)]
        rclpy.shutdown()
    middle = statistics.median(starts)
    report("start", "seconds to the first answer", starts, _TARGET)
    _print_parts(model, options.provider, middle, 3)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

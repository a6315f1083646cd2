"""A camera driver of somebody else: how many of its frames are answered, and whether a stopped node of ours slows it.

    python -m benchmark.stranger

The driver is reliable, as most are, and its process has none of this package's settings for the middleware; the node
has its defaults. Counted are the answers to what is published once the first one has come, the model being fast enough;
for comparison, without a target, also those to a driver that is best effort.
Then the node is stopped by SIGSTOP while the driver goes on; the rate of its publishing then is divided by that without
our node, for a driver that keeps its ten newest images and for one that keeps all. Where ROS 2 and the package are
sourced, the first is measured once more at 30 Hz with the node that `ros2 launch` starts, none of whose frames may be
lost.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy

from benchmark.support.node_client import NodeClient
from benchmark.support.options import CPU, OUTPUT, at_least_one, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import export_model, running
from benchmark.support.stranger_camera import BEST_EFFORT, HISTORIES
from cnn_perception.errors import EXIT_OK
from cnn_perception.ros import transport
from demo import processes
from demo.processes import child_environment, module_command

_TOPIC = "/perception_node/classification"
_SIZES = ((640, 480), (1280, 720), (1920, 1080))
_ANSWERED = Target(0.99, is_lower_bound=True)
_UNSLOWED = Target(0.95, is_lower_bound=True)
_NONE_LOST = Target(1.0, is_lower_bound=True)
_LAUNCHED_HZ = 30
_SETTLING_S = 2.0
_WARM_UP_S = 1.0
_MOST_WARM_UPS = 60


@dataclass(frozen=True)
class Published:
    """What the driver did in some seconds; `longest_ms` is of one call of `publish`."""

    count: int
    seconds: float
    longest_ms: float

    @property
    def rate_hz(self) -> float:
        """Images a second."""
        return self.count / self.seconds


class Driver:
    """The process of the driver, see `benchmark.support.stranger_camera`."""

    def __init__(self, width: int, height: int, rate_hz: float, history: str) -> None:
        command = module_command("benchmark.support.stranger_camera", "/image_raw", width, height, rate_hz, history)
        ours = transport.environment()
        environment = {name: value for name, value in child_environment().items() if name not in ours}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("error: the driver does not run; see its message above")
        return line

    def begin(self, seconds: float) -> None:
        """Has it publish for some seconds, without waiting for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def end(self) -> Published:
        """Waits until it is done; returns what it did."""
        return Published(**json.loads(self._read()))

    def close(self) -> None:
        """Ends the process, which goes when there is nothing more to read."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def _driver(width: int, height: int, rate_hz: float, history: str) -> Iterator[Driver]:
    driver = Driver(width, height, rate_hz, history)
    try:
        yield driver
    finally:
        driver.close()


def _publish(client: NodeClient, driver: Driver, seconds: float) -> Published:
    driver.begin(seconds)
    client.spin(seconds)
    done = driver.end()
    client.spin(_SETTLING_S)
    return done


def _until_answered(client: NodeClient, driver: Driver) -> None:
    before = client.counts[_TOPIC]
    for _ in range(_MOST_WARM_UPS):
        _publish(client, driver, _WARM_UP_S)
        if client.counts[_TOPIC] > before:
            return
    raise SystemExit("error: the node answers nothing; see its log above")


def _shares(
    client: NodeClient, options: argparse.Namespace, size: tuple[int, int], rate_hz: float, history: str
) -> list[float]:
    """Returns the share of a driver's frames that is answered, by round."""
    shares = []
    for _ in range(options.rounds):
        with _driver(*size, rate_hz, history) as driver:
            _until_answered(client, driver)
            before = client.counts[_TOPIC]
            done = _publish(client, driver, options.seconds)
            shares.append((client.counts[_TOPIC] - before) / done.count)
    return shares


def measure_answers(
    client: NodeClient, options: argparse.Namespace, size: tuple[int, int], history: str, target: Target | None
) -> None:
    """Reports the share of the frames of one size that is answered."""
    width, height = size
    shares = _shares(client, options, size, options.rate_hz, history)
    kind = "best effort, " if history == BEST_EFFORT else ""
    circumstances = f"a stranger's camera, {kind}{width}x{height} at {options.rate_hz:g} Hz"
    print(circumstances, flush=True)
    report(circumstances, "answered / published", shares, target)


def measure_launched(client: NodeClient, options: argparse.Namespace, model: Path) -> None:
    """Reports the share that is answered where the shipped launch file starts the node, with its settings."""
    ros2 = shutil.which("ros2")
    if ros2 is None:
        print("not measured: the launch file, for there is no ros2 here; source ROS 2 and the built package")
        return
    command = [ros2, "launch", "cnn_perception", "perception.launch.py", f"model:={model.absolute()}"]
    with processes.running(command, child_environment()):
        shares = _shares(client, options, _SIZES[0], _LAUNCHED_HZ, "keep_last")
    width, height = _SIZES[0]
    circumstances = f"perception.launch.py, {width}x{height} at {_LAUNCHED_HZ} Hz"
    print(circumstances, flush=True)
    report(circumstances, "answered / published", shares, _NONE_LOST)


def measure_stopped(node: Mapping[str, Any], options: argparse.Namespace, history: str) -> None:
    """Reports what becomes of the driver's rate while our node is stopped."""
    width, height = _SIZES[0]
    ratios, longest_ms = [], 0.0
    client = NodeClient([_TOPIC], "benchmark_of_stopped")
    for _ in range(options.rounds):
        with _driver(width, height, options.rate_hz, history) as driver:
            alone = _publish(client, driver, options.seconds)
            with running("perception_node", **node) as process:
                _until_answered(client, driver)
                process.send_signal(signal.SIGSTOP)
                try:
                    stopped = _publish(client, driver, options.seconds)
                finally:
                    process.send_signal(signal.SIGCONT)
        ratios.append(stopped.rate_hz / alone.rate_hz)
        longest_ms = max(longest_ms, stopped.longest_ms)
    client.node.destroy_node()
    rclpy.shutdown()
    circumstances = f"a stranger's camera, {history}, our node stopped"
    print(circumstances, flush=True)
    report(circumstances, "rate stopped / without us", ratios, _UNSLOWED)
    print(f"  longest call of publish {longest_ms:.0f} ms")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser(
        "stranger", __doc__, backbone="resnet18", rounds=3, seconds=10.0, threads=0, provider=CPU, output=OUTPUT
    )
    parser.add_argument("--rate-hz", type=at_least_one, default=15, help="of the camera (default: %(default)s)")
    options = parser.parse_args(argv)
    model = export_model(options.output, options.backbone)
    node: dict[str, Any] = {"model": model, "intra_op_threads": options.threads, "providers": f"[{options.provider}]"}
    print(f"{machine()}; {options.backbone}", flush=True)
    client = NodeClient([_TOPIC])
    with running("perception_node", **node):
        for size in _SIZES:
            measure_answers(client, options, size, "keep_last", _ANSWERED)
        measure_answers(client, options, _SIZES[1], BEST_EFFORT, None)
    measure_launched(client, options, model)
    client.node.destroy_node()
    rclpy.shutdown()
    for history in HISTORIES:
        measure_stopped(node, options, history)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

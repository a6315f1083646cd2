"""`make soak`: perception_node under everything a robot does to it, for minutes or hours, and whether it grows.

    python -m benchmark.soak --minutes 2

camera_node publishes 640x480 rgb8 images at 30 Hz. Meanwhile bad frames are published among them, parameters are set to
good and to nonsense values, subscribers of every topic come and go, the node is deactivated and activated, and its
model is loaded again. Memory, threads and file handles are sampled every second; the exit code is 3 when one of them
grows over the second half of the run by more than `growth.LIMITS`, when the node no longer answers, or does not end
quietly.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification

from benchmark.growth import LIMITS, Sample, growth, look
from benchmark.pairs import machine
from benchmark.processes import clean, drawn_frames, exported, node_command, running
from cnn_perception.errors import EXIT_BELOW_TARGET, EXIT_INTERRUPTED, EXIT_OK
from cnn_perception.ros import transport

NODE = "/perception_node"
_TOPICS = {"activation": Image, "activation/overlay": Image, "activation/overlay/compressed": CompressedImage}
_PATIENCE_S = 60.0
_STEP_S = 1.0
_BAD = (
    {"encoding": "rgb8", "height": 480, "width": 640, "step": 1920, "data": bytes(1000)},
    {"encoding": "jpeg", "height": 480, "width": 640, "step": 640, "data": bytes(640 * 480)},
    {"encoding": "rgb8", "height": 0, "width": 0, "step": 0, "data": b""},
    {"encoding": "32FC1", "height": 10, "width": 10, "step": 40, "data": b"\xff" * 400},
)
"""Truncated, of an unknown encoding, empty, and full of NaN."""
_SETTINGS: tuple[tuple[str, Any], ...] = (
    ("threshold", 0.3),
    ("threshold", 7.0),
    ("top_k", 3),
    ("top_k", -1),
    ("model", "/no/such/model.onnx"),
    ("threshold", 0.0),
)
"""Set in turn; those out of range must be refused, and cost nothing."""


class SoakError(Exception):
    """The node does not do what it should."""


class Robot:
    """What uses the node, and what goes wrong around it; `steps` yields one disturbance after the other."""

    def __init__(self) -> None:
        rclpy.init()
        self._node = Node("soak")
        self.answers = 0
        self.is_active = True
        self._node.create_subscription(Classification, f"{NODE}/classification", self._count, 10)
        self._bad = self._node.create_publisher(Image, "/image_raw", 5)
        self._guests: list[Any] = []
        self._transitions = self._node.create_client(ChangeState, f"{NODE}/change_state")
        self._parameters = self._node.create_client(SetParameters, f"{NODE}/set_parameters")
        self._reload = self._node.create_client(Trigger, f"{NODE}/reload_model")

    def _count(self, _: Classification) -> None:
        self.answers += 1

    def spin(self, seconds: float) -> None:
        """Receives for this long."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            rclpy.spin_once(self._node, timeout_sec=left)

    def _call(self, client: Any, request: Any) -> Any:  # noqa: ANN401 services are untyped
        future = client.call_async(request)
        rclpy.spin_until_future_complete(self._node, future, timeout_sec=_PATIENCE_S)
        if not future.done():
            raise SoakError(f"{client.srv_name} is not answered within {_PATIENCE_S:g} s")
        return future.result()

    def wait(self) -> None:
        """Waits for the first answer.

        Raises:
            SoakError: If there is none.
        """
        deadline, before = time.perf_counter() + _PATIENCE_S, self.answers
        while self.answers == before:
            if time.perf_counter() > deadline:
                raise SoakError(f"no frame is answered within {_PATIENCE_S:g} s")
            self.spin(0.1)

    def steps(self) -> Iterator[Callable[[], None]]:
        """Yields what is done to the node, second after second, for ever."""
        settings = itertools.cycle(_SETTINGS)
        while True:
            yield self._come
            yield self._publish_bad
            yield lambda: self._set(*next(settings))
            yield self._go
            yield lambda: self._set(*next(settings))
            yield lambda: self._switch(Transition.TRANSITION_DEACTIVATE)
            yield lambda: self._switch(Transition.TRANSITION_ACTIVATE)
            yield self.wait
            yield self._load_again

    def _expect(self, success: bool, what: str) -> None:
        if not success:
            raise SoakError(f"{what} failed; see the node's log")

    def _load_again(self) -> None:
        self._expect(self._call(self._reload, Trigger.Request()).success, "reloading")

    def _come(self) -> None:
        for topic, kind in _TOPICS.items():
            self._guests.append(self._node.create_subscription(kind, f"{NODE}/{topic}", lambda _: None, 2))

    def _go(self) -> None:
        while self._guests:
            self._node.destroy_subscription(self._guests.pop())

    def _publish_bad(self) -> None:
        for fields in _BAD:
            self._bad.publish(Image(**fields))

    def _set(self, name: str, value: object) -> None:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        self._call(self._parameters, request)

    def _switch(self, number: int) -> None:
        request = ChangeState.Request(transition=Transition(id=number))
        self._expect(self._call(self._transitions, request).success, "a transition")
        self.is_active = number == Transition.TRANSITION_ACTIVATE


def soak(pid: int, robot: Robot, seconds: float, table: Path) -> list[Sample]:
    """Disturbs the node for some time; returns what it held, second by second, and leaves that as a CSV file."""
    samples: list[Sample] = []
    steps, started_s, shown_s, answers = robot.steps(), time.perf_counter(), 0.0, robot.answers
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in dataclasses.fields(Sample)])
        while (now_s := time.perf_counter()) - started_s < seconds or not robot.is_active:
            next(steps)()
            robot.spin(_STEP_S)
            try:
                samples.append(look(pid, started_s, time.perf_counter()))
            except (FileNotFoundError, ProcessLookupError):
                raise SoakError("the node has ended; see its log") from None
            writer.writerow(dataclasses.astuple(samples[-1]))
            if (passed_s := now_s - started_s) >= shown_s:
                rate = (robot.answers - answers) / max(passed_s, 1.0)
                print(_row(samples[-1], rate), flush=True)
                shown_s += max(10.0, seconds / 60)
    return samples


def _row(sample: Sample, rate_hz: float) -> str:
    return (
        f"{sample.time_s:8.0f} s {sample.rss_mb:9.1f} MB {sample.pss_mb:9.1f} MB {sample.threads:8d} "
        f"{sample.handles:8d} {rate_hz:9.1f}/s"
    )


def _judge(samples: Sequence[Sample]) -> bool:
    """Prints what grew; returns whether anything did beyond its limit."""
    hours = (samples[-1].time_s - samples[0].time_s) / 2 / 3600
    risen = growth(samples)
    for name, rise in risen.items():
        verdict = "GROWS" if rise > LIMITS[name] else "steady"
        text = f"{rise:+8.2f} in the second half ({rise / hours:+.1f} an hour), limit {LIMITS[name]:g}"
        print(f"  {name:<8} {text}: {verdict}")
    return any(rise > LIMITS[name] for name, rise in risen.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default: %(default)s)")
    parser.add_argument("--backbone", default="resnet18", help="torchvision name (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark"), help="folder (default: %(default)s)")
    options = parser.parse_args(argv)
    if not options.minutes > 0:
        parser.error("--minutes: must be above 0")
    os.environ.update(transport.environment())
    model, frames = exported(options.output, options.backbone), drawn_frames(options.output)
    table, log = options.output / "soak.csv", options.output / "soak.log"
    print(f"{machine()}, {options.backbone}; {options.minutes:g} minutes; {table}, {log}")
    with running("camera_node", source=frames, rate_hz=30.0, loop="true", preload="true"), log.open("wb") as said:
        node = subprocess.Popen(node_command("perception_node", model=model), env=clean(), stdout=said, stderr=said)
        robot = Robot()
        try:
            robot.wait()
            print("    time       resident      shared out  threads  handles    answers")
            samples = soak(node.pid, robot, options.minutes * 60, table)
            robot.wait()
            node.send_signal(signal.SIGINT)
            if (code := node.wait(timeout=10)) != EXIT_OK or "Traceback" in log.read_text(errors="replace"):
                raise SoakError(f"the node ended with exit code {code}; see its log")
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except (SoakError, subprocess.TimeoutExpired) as error:
            print(f"FAILED: {error}")
            return EXIT_BELOW_TARGET
        finally:
            node.kill()
            node.wait()
            rclpy.shutdown()
    return EXIT_BELOW_TARGET if _judge(samples) else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

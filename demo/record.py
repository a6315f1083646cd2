"""Watches the perception node: prints the classes as they arrive and records images and answers to a rosbag2 (mcap).

On a robot, `ros2 bag record -s mcap` does the recording; this needs no more than rclpy and rosbags.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from sensor_msgs.msg import Image
from tqdm import tqdm
from vision_msgs.msg import Classification

from cnn_perception.bag.message_types import typestore
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.ros import transport

NODE = "/perception_node"
_EVERYTHING = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
_FIRST_IMAGE_S, _SILENCE_S = 30.0, 2.0
"""How long to wait for the first image; and how long after the latest message a recording is over."""


class Recorder(Node):
    """Writes every message of three topics as it comes, without decoding it."""

    def __init__(self, writer: Writer, frames: int) -> None:
        super().__init__("recorder")
        self.images = 0
        self.answers = 0
        self.stages: dict[str, str] = {}
        self.last_message_s = time.monotonic()
        self._writer, self._types = writer, typestore()
        self._class = ""
        self._progress = tqdm(total=frames, desc="live", unit="frame")
        self._record(Image, "/image_raw", "sensor_msgs/msg/Image", self._count_image)
        self._record(Image, f"{NODE}/activation", "sensor_msgs/msg/Image", lambda _: None)
        self._record(Classification, f"{NODE}/classification", "vision_msgs/msg/Classification", self._tell)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10)

    @property
    def finished(self) -> bool:
        """Whether the camera has come and gone."""
        silence_s = time.monotonic() - self.last_message_s
        return silence_s > (_SILENCE_S if self.images else _FIRST_IMAGE_S)

    def close(self) -> None:
        """Ends the progress bar."""
        self._progress.close()

    def _record(self, kind: Any, topic: str, name: str, look: Callable[[bytes], None]) -> None:  # noqa: ANN401
        connection = self._writer.add_connection(topic, name, typestore=self._types)

        def write(payload: bytes) -> None:
            self._writer.write(connection, time.time_ns(), payload)
            self.last_message_s = time.monotonic()
            look(payload)

        self.create_subscription(kind, topic, write, _EVERYTHING, raw=True)

    def _count_image(self, _payload: bytes) -> None:
        self.images += 1
        self._progress.update()

    def _tell(self, payload: bytes) -> None:
        self.answers += 1
        results = deserialize_message(payload, Classification).results
        if results and results[0].class_id != self._class:
            self._class = results[0].class_id
            self._progress.write(f"  image {self.images:4}: {self._class} ({results[0].score:.0%})")

    def _diagnose(self, message: DiagnosticArray) -> None:
        values = {pair.key: pair.value for status in message.status for pair in status.values}
        stages = {key.split()[0]: value.split()[0] for key, value in values.items() if key.endswith("p50/p95 (ms)")}
        self.stages = (stages | {"provider": values["provider"]}) if stages else self.stages


def main(argv: Sequence[str] | None = None) -> int:
    """Records until the camera ends; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.record", description=__doc__)
    parser.add_argument("--bag", type=Path, required=True, help="folder of the rosbag2 to write; must not exist")
    parser.add_argument("--frames", type=int, required=True, help="how many images the camera will publish")
    options = parser.parse_args(argv)
    transport.prepare_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rclpy's own handler ends the spin, so that the bag is closed
    rclpy.init()
    with Writer(options.bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        recorder = Recorder(writer, options.frames)
        with contextlib.suppress(ExternalShutdownException):
            while rclpy.ok() and not recorder.finished:
                rclpy.spin_once(recorder, timeout_sec=0.2)
        recorder.close()
    found = {"images": recorder.images, "answers": recorder.answers} | recorder.stages
    options.bag.with_suffix(".json").write_text(json.dumps(found))
    rclpy.try_shutdown()
    if not recorder.images:
        print(f"error: no image came within {_FIRST_IMAGE_S:.0f} s; see the camera's log", file=sys.stderr)
        return EXIT_BAD_INPUT
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

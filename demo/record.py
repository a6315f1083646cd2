"""Records images and results of the perception node to a rosbag2 (mcap), and prints the classes as they arrive.

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
from vision_msgs.msg import Classification

from cnn_perception.bag.message_types import typestore
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.ros import transport
from demo.diagnostics import diagnostic_values, median_latencies_ms

NODE = "/perception_node"
_KEEP_ALL_QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
_FIRST_IMAGE_TIMEOUT_S = 30.0
_END_OF_IMAGES_S = 2.0
"""How long after the latest message a recording is over."""


class TopicRecorder(Node):
    """Writes every message of three topics to a bag as it comes, without deserialising it."""

    def __init__(self, writer: Writer, frames: int) -> None:
        super().__init__("recorder")
        self.images = 0
        self.answers = 0
        self.diagnostics: dict[str, str] = {}
        self.last_message_s = time.monotonic()
        self._writer = writer
        self._types = typestore()
        self._class_name = ""
        self._progress = ProgressBar(total=frames, desc="live", unit="frame")
        self._record(Image, "/image_raw", "sensor_msgs/msg/Image", self._count_image)
        self._record(Image, f"{NODE}/activation", "sensor_msgs/msg/Image", lambda _: None)
        self._record(Classification, f"{NODE}/classification", "vision_msgs/msg/Classification", self._print_class)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    @property
    def finished(self) -> bool:
        """Whether the camera has come and gone."""
        silence_s = time.monotonic() - self.last_message_s
        return silence_s > (_END_OF_IMAGES_S if self.images else _FIRST_IMAGE_TIMEOUT_S)

    def close(self) -> None:
        """Ends the progress bar."""
        self._progress.close()

    def _record(self, message_class: Any, topic: str, message_type: str, handle: Callable[[bytes], None]) -> None:  # noqa: ANN401
        connection = self._writer.add_connection(topic, message_type, typestore=self._types)

        def write(payload: bytes) -> None:
            self._writer.write(connection, time.time_ns(), payload)
            self.last_message_s = time.monotonic()
            handle(payload)

        self.create_subscription(message_class, topic, write, _KEEP_ALL_QOS, raw=True)

    def _count_image(self, _payload: bytes) -> None:
        self.images += 1
        self._progress.update()

    def _print_class(self, payload: bytes) -> None:
        self.answers += 1
        results = deserialize_message(payload, Classification).results
        if results and results[0].class_id != self._class_name:
            self._class_name = results[0].class_id
            self._progress.write(f"  image {self.images:4}: {self._class_name} ({results[0].score:.0%})")

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        values = diagnostic_values(message)
        latencies_ms = median_latencies_ms(values)
        if latencies_ms:
            self.diagnostics = latencies_ms | {"provider": values["provider"]}


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
        recorder = TopicRecorder(writer, options.frames)
        with contextlib.suppress(ExternalShutdownException):
            while rclpy.ok() and not recorder.finished:
                rclpy.spin_once(recorder, timeout_sec=0.2)
        recorder.close()
    found = {"images": recorder.images, "answers": recorder.answers} | recorder.diagnostics
    options.bag.with_suffix(".json").write_text(json.dumps(found))
    rclpy.try_shutdown()
    if not recorder.images:
        print(f"error: no image came within {_FIRST_IMAGE_TIMEOUT_S:.0f} s; see the camera's log", file=sys.stderr)
        return EXIT_BAD_INPUT
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

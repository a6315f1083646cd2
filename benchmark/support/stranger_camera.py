"""A camera driver of somebody else, with none of this package's settings in its process.

    python -m benchmark.support.stranger_camera TOPIC WIDTH HEIGHT RATE_HZ HISTORY

Reads a number of seconds a line from stdin, publishes rgb8 images for so long, and prints as JSON how many it
published, in which time, and how long the longest call of `publish` took. HISTORY is `keep_last` (the ten newest) or
`keep_all` of a reliable driver, or `best_effort`: of the ten newest none is sent again.
"""

from __future__ import annotations

import array
import json
import sys
import time
from collections.abc import Sequence

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from cnn_perception.errors import EXIT_OK

HISTORIES = {"keep_last": HistoryPolicy.KEEP_LAST, "keep_all": HistoryPolicy.KEEP_ALL}
"""Of a reliable driver."""
BEST_EFFORT = "best_effort"


def _image(width: int, height: int) -> Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.frame_id = "camera"
    message.data = array.array("B", pixels.tobytes())
    return message


def publish(node: Node, publisher: Publisher[Image], image: Image, rate_hz: float, seconds: float) -> str:
    """Publishes for some seconds; returns what it did, as JSON."""
    began_s = time.perf_counter()
    count, longest_s = 0, 0.0
    while (now_s := time.perf_counter() - began_s) < seconds:
        image.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(image)
        count += 1
        longest_s = max(longest_s, time.perf_counter() - began_s - now_s)
        # What was late is not made up for, as a camera does not.
        time.sleep(max(0.0, now_s + 1 / rate_hz - (time.perf_counter() - began_s)))
    return json.dumps({"count": count, "seconds": time.perf_counter() - began_s, "longest_ms": longest_s * 1e3})


def main(argv: Sequence[str] | None = None) -> int:
    """Publishes as it is told until stdin closes."""
    topic, width, height, rate_hz, history = sys.argv[1:] if argv is None else argv
    rclpy.init()
    node = Node("stranger")
    reliability = ReliabilityPolicy.BEST_EFFORT if history == BEST_EFFORT else ReliabilityPolicy.RELIABLE
    qos = QoSProfile(depth=10, reliability=reliability, history=HISTORIES.get(history, HistoryPolicy.KEEP_LAST))
    publisher = node.create_publisher(Image, topic, qos)
    image = _image(int(width), int(height))
    print("ready", flush=True)
    for line in sys.stdin:
        print(publish(node, publisher, image, float(rate_hz), float(line)), flush=True)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

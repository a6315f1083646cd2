"""A process that looks at every viewer topic of a node while it is told to; it takes messages as they are, unread.

    python -m benchmark.support.onlooker /perception_node

Reads `on` and `off` from stdin, line by line, and answers with the number of messages seen by topic since the last.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Classification

from cnn_perception.errors import EXIT_OK

TOPICS: dict[str, Any] = {
    "activation": Image,
    "activation/overlay": Image,
    "activation/overlay/compressed": CompressedImage,
    "neighbours": Classification,
    "score_map": Image,
    "score_map/camera_info": CameraInfo,
    "label_map": Image,
    "label_map/overlay": Image,
    "unit_activation": Image,
}


class Onlooker(Node):
    """Subscribes to and leaves the topics of one node."""

    def __init__(self, name: str) -> None:
        """Begins without a subscription."""
        super().__init__("onlooker")
        self._name = name
        self._looking: list[Any] = []
        self._seen: Counter[str] = Counter()

    def obey(self, order: str) -> str:
        """Begins or ends to look; returns what was seen since the last order, as JSON."""
        seen = json.dumps(self._seen)
        self._seen = Counter()
        while self._looking:
            self.destroy_subscription(self._looking.pop())
        if order == "on":
            self._looking = [self._look(topic, kind) for topic, kind in TOPICS.items()]
        return seen

    def _look(self, topic: str, kind: Any) -> Any:  # noqa: ANN401 messages are untyped
        def count(_: bytes) -> None:
            self._seen[topic] += 1

        return self.create_subscription(kind, f"{self._name}/{topic}", count, QoSProfile(depth=1), raw=True)


def main() -> int:
    """Runs until stdin closes; argument: the fully qualified name of the node."""
    rclpy.init()
    node = Onlooker(sys.argv[1])
    orders: list[str] = []

    def obey_all() -> None:
        while orders:
            print(node.obey(orders.pop(0)), flush=True)

    news = node.create_guard_condition(obey_all)

    def read() -> None:
        for line in sys.stdin:
            orders.append(line.strip())
            news.trigger()
        rclpy.shutdown()

    threading.Thread(target=read, daemon=True).start()
    try:
        rclpy.spin(node)
    except ExternalShutdownException:
        return EXIT_OK
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

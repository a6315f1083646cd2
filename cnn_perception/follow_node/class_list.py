"""The classes of the model whose answers are followed, as the node that publishes them lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from vision_msgs.msg import Classification, LabelInfo

from cnn_perception.ros import topics
from cnn_perception.topic_names import LABEL_INFO, below

_LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class ClassList:
    """Subscribes to the `label_info` of whoever publishes the answers, whatever their topic is remapped to.

    A node publishes one for all of its cameras, and once more when it swaps its model.
    """

    def __init__(self, node: Node, answers: str, on_classes: Callable[[frozenset[str]], None]) -> None:
        """Begins without a list.

        Args:
            node: Who subscribes.
            answers: Topic of the answers, as it is before remapping.
            on_classes: Called with the names of the classes; with none where another node publishes the answers,
                whose list is still to come.
        """
        self._node = node
        self._answers = answers
        self._on_classes = on_classes
        self._publisher = ""
        self._subscription: Any = None

    def fit(self) -> None:
        """Subscribes to the list of who publishes the answers now; to be called again and again."""
        infos = self._node.get_publishers_info_by_topic(self._answers)
        wanted = topics.type_name(Classification)
        names = {
            topics.node_of(info)
            for info in infos
            if info.topic_type == wanted and info.node_name != topics.UNNAMED_NODE
        }
        if not names or self._publisher in names:  # who is gone may be swapping its model, or come again
            return
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._on_classes(frozenset())
        self._publisher = min(names)
        topic = below(self._publisher, LABEL_INFO)
        self._subscription = self._node.create_subscription(LabelInfo, topic, self._take, _LATCHED_QOS)

    def _take(self, message: LabelInfo) -> None:
        self._on_classes(frozenset(one.class_name for one in message.class_map))

"""The lifecycle node that answers camera images with classes and activation maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.perception_node.node import PerceptionNode as PerceptionNode

__getattr__, __dir__ = lazy(
    __name__,
    {
        "PerceptionNode": "node",
    },
)

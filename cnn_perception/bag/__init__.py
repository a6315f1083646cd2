"""Reads images, labels and numbers from rosbag2 recordings of either storage format, damaged ones included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.bag.reader import Bag as Bag

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Bag": "reader",
    },
)

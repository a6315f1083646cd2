"""Reads serialised messages as ROS 2 reads them, those included that are not quite as the standard demands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.bag.cdr.messages import CdrReader as CdrReader
    from cnn_perception.bag.cdr.oddities import CdrOddities as CdrOddities

__getattr__, __dir__ = lazy(
    __name__,
    {
        "CdrOddities": "oddities",
        "CdrReader": "messages",
    },
)

"""Keeps the last seconds in memory, and saves them with the seconds that follow as a bag when something happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.black_box.black_box import BlackBox as BlackBox
    from cnn_perception.black_box.settings import BlackBoxSettings as BlackBoxSettings

__getattr__, __dir__ = lazy(
    __name__,
    {
        "BlackBox": "black_box",
        "BlackBoxSettings": "settings",
    },
)

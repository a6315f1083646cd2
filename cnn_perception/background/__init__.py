"""What runs in the background and never delays an answer: a second model that is compared, and a recorder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.background.recorder import Recorder as Recorder
    from cnn_perception.background.shadow import Shadow as Shadow

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Recorder": "recorder",
        "Shadow": "shadow",
    },
)

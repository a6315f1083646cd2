"""What runs beside the answers and never delays one: a second model that is compared, a recorder, what viewers want."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.background.recorder import Recorder as Recorder
    from cnn_perception.background.shadow import Shadow as Shadow
    from cnn_perception.background.viewers import Viewers as Viewers

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Recorder": "recorder",
        "Shadow": "shadow",
        "Viewers": "viewers",
    },
)

"""Makes a verified model file of a checkpoint, or of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from training.export.command import main as main
    from training.export.exporting import export as export
    from training.export.network import network_of as network_of

__getattr__, __dir__ = lazy(__name__, {"export": "exporting", "main": "command", "network_of": "network"})

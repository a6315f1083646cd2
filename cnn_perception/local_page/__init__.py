"""Pages that a program shows in the browser of the person who started it, and to nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.local_page.guard import Guard as Guard
    from cnn_perception.local_page.server import LocalPage as LocalPage

__getattr__, __dir__ = lazy(__name__, {"Guard": "guard", "LocalPage": "server"})

"""Images that cannot be loaded: the process that tries dies, or never comes back."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from typing import Any

from training.batches.loader import Images, Item, Key


@dataclass(frozen=True)
class OddImages(Images):
    """`deed`: die, stall or raise."""

    deed: str = "die"

    def item(self, key: Key, out: Any) -> Item:
        if self.deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.deed == "raise":
            raise RuntimeError("a defect")
        threading.Event().wait()
        raise AssertionError

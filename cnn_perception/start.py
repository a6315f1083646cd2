"""The console scripts: an interrupt that comes while the imports still run ends as quietly as any other."""

from __future__ import annotations

import os
import signal

from cnn_perception.errors import EXIT_INTERRUPTED


def _quietly() -> None:
    """Without this, Ctrl-C in the first second of a program shows the traceback of an import."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))


def perception_node() -> int:
    """Runs `node.main`."""
    _quietly()
    from cnn_perception.node import main

    return main()


def camera_node() -> int:
    """Runs `camera.main`."""
    _quietly()
    from cnn_perception.camera import main

    return main()


def follow_node() -> int:
    """Runs `follow.main`."""
    _quietly()
    from cnn_perception.follow import main

    return main()

"""The console scripts: what has to happen before a program's imports."""

from __future__ import annotations

import os
import signal

from cnn_perception.errors import EXIT_INTERRUPTED
from cnn_perception.ros import transport


def _begin() -> None:
    """Does what the imports must not come before."""
    # Ctrl-C in the first second of a program would show the traceback of an import.
    signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    # numpy is asked for small products only (`resample`); threads that wait for more would take inference's cores
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    transport.prepare_process()  # malloc keeps the arenas that it has once made


def perception_node() -> int:
    """Runs `perception_node.node.main`."""
    _begin()
    from cnn_perception.perception_node.node import main

    return main()


def camera_node() -> int:
    """Runs `camera_node.node.main`."""
    _begin()
    from cnn_perception.camera_node.node import main

    return main()


def follow_node() -> int:
    """Runs `follow_node.node.main`."""
    _begin()
    from cnn_perception.follow_node.node import main

    return main()


def dashboard_node() -> int:
    """Runs `dashboard_node.node.main`."""
    _begin()
    from cnn_perception.dashboard_node.node import main

    return main()

"""A process that computes nothing of use at the lowest priority, until it is ended: what that alone costs others.

python -m benchmark.support.idle_loop
"""

from __future__ import annotations

import os
import sys

from cnn_perception.errors import EXIT_OK


def main() -> int:
    """Runs until Ctrl-C."""
    if sys.platform == "linux":
        # The policy of the threads that compute score maps, see `cnn_perception.background.worker`.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        while True:
            pass
    except KeyboardInterrupt:
        return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

"""A dashboard_node in a process of its own, for as long as somebody wants its page."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from cnn_perception.errors import ConfigError
from cnn_perception.ros import transport
from demo.processes import child_environment, node_command


@contextmanager
def serving_dashboard() -> Iterator[str]:
    """Runs dashboard_node; gives the address of its page, and ends it as Ctrl-C does.

    Raises:
        ConfigError: If it does not start; it has said why.
    """
    command = node_command("dashboard_node", {})
    command[command.index("--log-level") + 1] = "info"  # by which it says the address
    environment = child_environment() | transport.environment()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        address = _address(process.stderr)
        if address is None:
            raise ConfigError("dashboard_node did not start")
        # What it says later is read, too: a full pipe would hold it up.
        reading = threading.Thread(target=_pass_on, args=(process.stderr,), daemon=True)
        reading.start()
        try:
            yield address
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
            reading.join()


def _address(log: IO[str]) -> str | None:
    """Returns where the page is once the log says it; None where it ends before."""
    for line in log:
        print(line, end="", file=sys.stderr)
        found = re.search(r"open (http://\S+)", line)
        if found:
            return found[1]
    return None


def _pass_on(log: IO[str]) -> None:
    for line in log:
        print(line, end="", file=sys.stderr)

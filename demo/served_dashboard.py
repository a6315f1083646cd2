"""A dashboard_node in a process of its own, for as long as somebody wants its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cnn_perception.ros import transport
from demo.processes import START_S, announcing, child_environment, node_command


@contextmanager
def serving_dashboard(start_s: float = START_S, variables: Mapping[str, str] | None = None) -> Iterator[str]:
    """Runs dashboard_node; gives the address of its page, and ends it as Ctrl-C does.

    Args:
        start_s: Seconds within which it has to say the address.
        variables: Of its environment, beside those of this process.

    Raises:
        ConfigError: If it does not start in time.
    """
    command = node_command("dashboard_node", {})
    command[command.index("--log-level") + 1] = "info"  # by which it says the address
    environment = child_environment() | transport.environment() | dict(variables or {})
    with announcing("dashboard_node", command, environment, "stderr", r"open (http://\S+)", start_s) as address:
        yield address

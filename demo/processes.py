"""Command lines and environments of the programs that the demo and the benchmarks start as child processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence


def child_environment() -> dict[str, str]:
    """Returns the environment for child processes: the guard of ROS's wheels is for one process and its libraries."""
    return {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}


def module_command(module: str, *arguments: object) -> list[str]:
    """Returns the command line of `python -m MODULE ARGUMENTS`."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def node_command(name: str, parameters: Mapping[str, object], remappings: Sequence[str] = ()) -> list[str]:
    """Returns the command line of one of the package's nodes, with ROS parameters and remapping rules.

    Args:
        name: Such as `perception_node`.
        parameters: Values by name.
        remappings: Rules such as `__ns:=/front`.
    """
    arguments = ["--ros-args", "--log-level", "warn"]
    for rule in remappings:
        arguments += ["-r", rule]
    for parameter, value in parameters.items():
        arguments += ["-p", f"{parameter}:={value}"]
    return module_command(f"cnn_perception.{name}", *arguments)

"""Command lines and environments of the programs that the demo and the benchmarks start as child processes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from cnn_perception.import_path import python_command


def child_environment() -> dict[str, str]:
    """Returns the environment for child processes: the guard of ROS's wheels is for one process and its libraries."""
    return {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}


def module_command(module: str, *arguments: object) -> list[str]:
    """Returns the command line of what `python -m MODULE ARGUMENTS` runs, imported from where this process imports."""
    code = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return python_command(code, *map(str, arguments))


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

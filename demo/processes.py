"""The programs that the demo and the benchmarks start as child processes: commands, environments, and how they end."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Literal

from cnn_perception.errors import ConfigError
from cnn_perception.import_path import python_command

START_S = 60.0
"""Seconds within which a program has to say its address, on a machine that does much else."""
_END_S = 10.0
"""Seconds within which a program has to end after Ctrl-C; one that hangs is killed."""


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


@contextlib.contextmanager
def announcing(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    stream: Literal["stdout", "stderr"],
    address: str,
    start_s: float = START_S,
) -> Iterator[str]:
    """Runs a program for the length of a block, and gives the address that it says.

    Args:
        name: How one starts it by itself, for messages.
        command: Its command line.
        environment: Its environment.
        stream: On which of its outputs it says the address. What it writes on the other one, and on its error output,
            is seen as it comes.
        address: Regular expression that finds the address in a line, as its first group.
        start_s: Seconds within which it has to say it.

    Raises:
        ConfigError: If it ends, or says no address in time.
    """
    out, err = (subprocess.PIPE if stream == one else None for one in ("stdout", "stderr"))
    with subprocess.Popen(command, stdout=out, stderr=err, text=True, env=environment) as process:
        log = process.stdout or process.stderr
        assert log is not None
        said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # What it says later is read, too: a full pipe would hold it up.
        reading = threading.Thread(target=_follow, args=(log, address, said, stream == "stderr"), daemon=True)
        reading.start()
        try:
            yield _said(said, name, start_s)
        finally:
            end(process)
            reading.join(_END_S)  # a program that it started may keep the pipe open


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program for the length of a block, and ends it as Ctrl-C does; its log goes to the terminal."""
    process = subprocess.Popen(command, env=environment)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Ends a program as Ctrl-C does, and one that hangs by force."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _follow(log: IO[str], address: str, said: queue.SimpleQueue[str | None], is_shown: bool) -> None:
    """Reads a program's output to its end, and tells the addresses in it, and at last None."""
    for line in log:
        if is_shown:
            print(line, end="", file=sys.stderr)
        if found := re.search(address, line):
            said.put(found[1])
    said.put(None)


def _said(said: queue.SimpleQueue[str | None], name: str, start_s: float) -> str:
    why = "has ended before it said an address"
    try:
        address = said.get(timeout=start_s)
    except queue.Empty:
        address, why = None, f"has said no address within {start_s:g} s"
    if address is None:
        raise ConfigError(f"{name} {why}; see what it says above, or start it by itself")
    return address

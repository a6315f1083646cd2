"""Nodes that meet an exception, or hang, at a place that is chosen; forked from a process that has imported all of it.

So a start costs no imports: what is there to inject has some seventy places, each in a process of its own.
"""

from __future__ import annotations

import faulthandler
import functools
import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros import OF_EVERY_FRAME, TIMEOUT_S

_NODES = ("camera_node", "dashboard_node", "follow_node", "perception_node")
_MODULES = [f"cnn_perception.{node}.node" for node in _NODES]


class MadeOnPurpose(Exception):  # noqa: N818 no error of anything
    """What nobody foresees."""


@dataclass(frozen=True)
class Injection:
    """Where something goes wrong.

    Attributes:
        place: `module:Class.function` below `cnn_perception`, or of rclpy.
        when: Only calls count one of whose arguments is this text.
        error: What is raised; None hangs, until the node is disarmed.
        before: Whether it goes wrong before the node is ready, not only from then on.
        once: Whether it goes wrong no second time.
        constants: Numbers of `module:NAME` that would make the test long.
    """

    place: str
    when: str = ""
    error: type[BaseException] | None = MadeOnPurpose
    before: bool = False
    once: bool = False
    constants: Sequence[tuple[str, float]] = ()


class InjectedNode:
    """A node in a process of its own in which something goes wrong once `arm` is called, until `disarm` is."""

    def __init__(
        self, node: str, domain: int, folder: Path, injection: Injection, arguments: Sequence[str], **parameters: object
    ) -> None:
        """Starts it."""
        self.log_path = folder / "log"
        self._armed = folder / "armed"
        if injection.before:
            self.arm()
        parameters = OF_EVERY_FRAME.get(node, {}) | parameters
        settings = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        words = ["--ros-args", *settings, *arguments]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_MODULES)
        self.process = context.Process(target=_run, args=(node, domain, words, injection, self.log_path, self._armed))
        self.process.start()

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def runs(self) -> bool:
        return self.process.is_alive()

    def arm(self) -> None:
        self._armed.touch()

    def disarm(self) -> None:
        """What hangs goes on."""
        self._armed.unlink()

    def terminate(self) -> None:
        self.process.terminate()

    def code(self) -> int | None:
        """The exit code; None if it does not end."""
        self.process.join(TIMEOUT_S)
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def _run(node: str, domain: int, arguments: Sequence[str], injection: Injection, log: Path, armed: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    faulthandler.enable()  # what a signal such as SIGSEGV ends says where it was
    os.environ |= {"ROS_DOMAIN_ID": str(domain), "ROS_LOG_DIR": str(log.parent / "ros_log")}
    for name, value in injection.constants:
        module, _, attribute = name.partition(":")
        setattr(importlib.import_module(module), attribute, value)
    _inject(injection, armed)
    sys.argv = [node, *arguments]
    from cnn_perception import entry_points

    code: int = getattr(entry_points, node)()
    sys.exit(code)


def _inject(injection: Injection, armed: Path) -> None:
    owner, name = _found(injection.place)
    sound = getattr(owner, name)
    done: list[bool] = []

    def meets(arguments: Sequence[Any]) -> bool:
        is_meant = not injection.when or injection.when in [one for one in arguments if isinstance(one, str)]
        return is_meant and armed.exists() and not (injection.once and done)

    @functools.wraps(sound)
    def broken(*arguments: Any, **options: Any) -> Any:
        if meets(arguments):
            done.append(True)
            _go_wrong(injection.error, armed)
        return sound(*arguments, **options)

    setattr(owner, name, broken)


def _found(place: str) -> tuple[Any, str]:
    """The module or class, and the name of the function in it."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    return owner, name


def _go_wrong(error: Callable[..., BaseException] | None, armed: Path) -> None:
    if error is not None:
        raise error("as planned")
    while armed.exists():
        time.sleep(0.01)

"""The console scripts: what has to happen before a program's imports."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from collections.abc import Iterator, Sequence

from cnn_perception.commands import bad_input, end_at_once, program
from cnn_perception.commands.for_scripts import Main
from cnn_perception.errors import EXIT_INTERRUPTED, ConfigError
from cnn_perception.ros import transport

_WAYS = {"onnxruntime": 'pip install "cnn_perception[cpu]", or [gpu] or [openvino] in place of [cpu]'}
"""What brings a library that no environment has by itself."""


def _begin() -> None:
    """Does what the imports must not come before."""
    # Ctrl-C in the first second of a program would show the traceback of an import.
    signal.signal(signal.SIGINT, lambda *_: end_at_once(EXIT_INTERRUPTED, "interrupted"))
    _multiply_in_one_thread()
    transport.prepare_process()  # malloc keeps the arenas that it has once made


def _multiply_in_one_thread() -> None:
    """Has numpy compute a product in the thread that asks for it; to be called before numpy is imported.

    It is asked for small ones only (`resample`); threads that wait for more would take inference's cores.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _without(error: ModuleNotFoundError) -> int:
    """Returns the exit code where a library is missing: pip, apt and colcon each bring only a part of them."""
    missing = (error.name or "").partition(".")[0]
    if missing == __package__:
        raise error
    way = _WAYS.get(missing, "source ROS 2, then `doctor` says what installs it")
    return bad_input(ConfigError(f"this Python finds no {missing}; {way}"))


def _main_of(module: str, argv: Sequence[str] | None) -> int:
    """Returns the exit code of a module's `main`, which is imported only now."""
    try:
        main: Main = importlib.import_module(module).main
    except ModuleNotFoundError as error:
        return _without(error)
    return main(argv)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Has SIGTERM interrupt a command as Ctrl-C does, so that nothing is left in temporary folders."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:  # in the first second, while the program is imported
        end_at_once(EXIT_INTERRUPTED, "interrupted")
    finally:
        signal.signal(signal.SIGTERM, before)


@program("evaluate_bag")
def evaluate_bag(argv: Sequence[str] | None = None) -> int:
    """Runs `evaluation.cli.main`."""
    _multiply_in_one_thread()
    with _interruptible():
        return _main_of("cnn_perception.evaluation.cli", argv)


@program("perception_node")
def perception_node(argv: Sequence[str] | None = None) -> int:
    """Runs `perception_node.node.main`."""
    _begin()
    return _main_of("cnn_perception.perception_node.node", argv)


@program("camera_node")
def camera_node(argv: Sequence[str] | None = None) -> int:
    """Runs `camera_node.node.main`."""
    _begin()
    return _main_of("cnn_perception.camera_node.node", argv)


@program("follow_node")
def follow_node(argv: Sequence[str] | None = None) -> int:
    """Runs `follow_node.node.main`."""
    _begin()
    return _main_of("cnn_perception.follow_node.node", argv)


@program("dashboard_node")
def dashboard_node(argv: Sequence[str] | None = None) -> int:
    """Runs `dashboard_node.node.main`."""
    _begin()
    return _main_of("cnn_perception.dashboard_node.node", argv)

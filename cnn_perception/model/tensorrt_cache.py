"""A cache of TensorRT's engines on disk, built once for a model, a GPU and a set of versions.

TensorRT's provider names an engine by the shape of the graph, not by its weights: two models of one architecture would
share one engine and give each other's answers. So each model has a folder of its own, by the digest of its file. A
marker is written when all went well; a folder without one is what a killed process left, and is built again. Engines
that were not used for long are removed, so that the cache does not grow with every model, driver and version.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from cnn_perception.errors import one_line
from cnn_perception.model.nvidia import Gpu

T = TypeVar("T")
_COMPLETE = "complete"
_TIMINGS = "*.timing"
_MOST_ENGINES = 20
"""So many models' engines are kept in a cache, those that were used last; one has some hundred megabytes at most."""


def folder_of(root: Path, gpu: Gpu, versions: str, model: str) -> Path:
    """Returns the folder of one model's engines.

    Args:
        root: The cache.
        gpu: What they run on.
        versions: Of the software that builds them.
        model: What tells one engine from another on the same machine: digest, batch size.
    """
    machine = f"{versions}_cuda{gpu.cuda}_{gpu.name}_sm{gpu.compute_capability}"
    return root / re.sub(r"[^A-Za-z0-9._-]+", "-", machine) / model


def start_with_engines(
    folder: Path,
    start: Callable[[Path | None], T],
    errors: tuple[type[Exception], ...],
    log: Callable[[str], None],
) -> T:
    """Starts a session with the engines in a folder, and builds them first where needed.

    Args:
        folder: From `folder_of`. One process at a time works in it: nodes that start together build once.
        start: Takes the folder, or None to work without; reads engines there, or builds and writes them.
        errors: What `start` raises; with engines that were complete they are then built again, once.
        log: Is told what happens, before it takes minutes.

    Returns:
        What `start` returns.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(folder.with_name(f"{folder.name}.lock"), log))
            if (folder / _COMPLETE).exists():
                _mark_used(folder)
                try:
                    return start(folder)
                except errors as error:
                    log(f"the engine in {folder} cannot be used ({one_line(error, 200)})")
            _prepare_folder(folder)
        except OSError as error:
            log(f"TensorRT builds its engine at each start, for minutes: {folder} cannot be used ({error.strerror})")
            return start(None)
        log(f"TensorRT builds its engine, which takes minutes the first time; it will be kept in {folder}")
        result = start(folder)
        _mark_complete(folder, log)
        _prune(folder.parent.parent)
        return result


def _mark_used(folder: Path) -> None:
    """Sets the time of the marker, which says when the engines were used last; a cache may be there to read only."""
    with contextlib.suppress(OSError):
        (folder / _COMPLETE).touch()


def _prune(root: Path) -> None:
    """Removes the engines that were not used for longest; those in use by a process that starts stay."""
    by_age = sorted(root.glob(f"*/*/{_COMPLETE}"), key=lambda marker: marker.stat().st_mtime_ns)
    for marker in by_age[:-_MOST_ENGINES]:
        folder = marker.parent
        with contextlib.suppress(OSError), folder.with_name(f"{folder.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            marker.unlink()  # first: half a folder without it is built again
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock, which the system releases however the process ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"waiting for another process that builds the same engine ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare_folder(folder: Path) -> None:
    """Empties the folder, and copies the timings of other models' layers into it: the same layers build faster."""
    shutil.rmtree(folder)
    folder.mkdir()
    for timing in folder.parent.glob(_TIMINGS):
        shutil.copy(timing, folder)


def _mark_complete(folder: Path, log: Callable[[str], None]) -> None:
    """Marks the engines as complete, and moves the layers' timings to where other models find them."""
    try:
        for timing in folder.glob(_TIMINGS):
            timing.replace(folder.parent / timing.name)
        (folder / _COMPLETE).touch()
    except OSError as error:
        log(f"the engine in {folder} cannot be kept ({error.strerror})")

"""Processes that load batches: no more than the shared memory holds, and watched while the run waits for them."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.context
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import cv2
from torch.utils.data import DataLoader

from cnn_perception.errors import ConfigError
from cnn_perception.import_path import start_forkserver

T_co = TypeVar("T_co", covariant=True)

SHARED = Path("/dev/shm")
AHEAD = 2
"""Batches that each process prepares ahead."""
STALL_S = 300.0
"""How long a run waits for a batch before it gives up."""
LAST_BATCH_S = 30.0
"""How long a run that was asked to stop waits for the batch with which it would finish its step and save."""
POLL_S = 5.0
"""How often it looks meanwhile whether its processes live, and whether Ctrl-C was pressed."""


class Loader(DataLoader[T_co]):
    """Batches of a DataLoader; a process that dies or stalls ends the iteration with an error.

    `when_late` is what a run sets that notes a Ctrl-C and finishes its step: while no batch comes, there is none. It is
    called then, and ends the wait by raising.
    """

    when_late: Callable[[], None] = staticmethod(lambda: None)

    def __iter__(self) -> Iterator[T_co]:  # type: ignore[override]  # torch names its own class of iterators
        """Yields the batches.

        Raises:
            ConfigError: If a process died, or gave no batch within `STALL_S`.
            BaseException: What `when_late` raises, from `LAST_BATCH_S` on.
        """
        batches = super().__iter__()
        return self._watched(batches) if self.num_workers else batches

    def _watched(self, batches: Iterator[T_co]) -> Iterator[T_co]:
        waited_s = 0.0
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
                waited_s += POLL_S
                if not _is_late(error) or waited_s >= STALL_S:
                    _give_up(error)
                if waited_s >= LAST_BATCH_S:
                    self._end_if_asked()
                continue
            waited_s = 0.0
            yield batch

    def _end_if_asked(self) -> None:
        try:
            self.when_late()
        except BaseException:
            _kill_processes()
            raise


def _is_late(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader timed out")


def _give_up(error: Exception) -> NoReturn:
    """Raises what is to be said of a batch that did not come; what a process itself raised is a defect, as it is."""
    text = str(error)
    is_dead = "exited unexpectedly" in text or not isinstance(error, RuntimeError)
    if text.startswith("Caught ") or not (is_dead or _is_late(error)):
        raise error
    _kill_processes()
    if is_dead:
        raise ConfigError(
            f"a process that loads images died, perhaps for want of memory{_room()}; lower --workers (0: none) or "
            "--batch-size (a run goes on from its last checkpoint with --resume)"
        ) from None
    raise ConfigError(
        f"the processes that load images gave no batch for {STALL_S:g} s{_room()}; see whether the disk answers, or "
        "take --workers 0 (a run goes on from its last checkpoint with --resume)"
    ) from None


def _kill_processes() -> None:
    """Ends the processes whatever they do: Python waits for each at its own end, and a stopped one heeds no less."""
    for process in multiprocessing.active_children():
        process.kill()


def _room() -> str:
    free = _free_bytes()
    return "" if free is None else f" ({SHARED} has {free / 1e6:.0f} MB free)"


def _free_bytes() -> int | None:
    """Free bytes of shared memory; None where the system has no such place."""
    try:
        return shutil.disk_usage(SHARED).free
    except OSError:
        return None


def affordable(wanted: int, batch_shape: Sequence[int]) -> int:
    """Returns how many processes may load batches, and says it where they are fewer than wanted.

    Each has `AHEAD` batches in shared memory, and the run two: the one it learns from and the next.

    Args:
        wanted: How many are asked for.
        batch_shape: Of the float32 batches, those of all processes that train together.
    """
    batch_bytes = 4 * math.prod(batch_shape)
    free = _free_bytes()
    if wanted == 0 or free is None:
        return wanted
    fitting = max(0, (free // batch_bytes - 2) // AHEAD)
    if fitting >= wanted:
        return wanted
    room = f"{SHARED} has {free / 1e6:.0f} MB free, for batches of {batch_bytes / 1e6:.0f} MB"
    print(f"{room}: {fitting} instead of {wanted} processes load images (docker run --shm-size gives more)")
    return fitting


def processes(preload: Sequence[str]) -> multiprocessing.context.BaseContext:
    """Returns where workers come from: a fresh process that has imported some modules and has no threads.

    A fork of this one would inherit the locks of OpenCV's and torch's threads, and hang on the first it needs.
    """
    # Of numpy, which the fresh process imports: its products for a large photograph (`resample`) would take, on two
    # cores, nearly four times the processor time, for threads that wait for more.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    start_forkserver([*preload])
    return multiprocessing.get_context("forkserver")


def start_worker(_worker: int) -> None:
    """Prepares a process that loads images."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    """Ends this worker when the run was killed: torch only watches the process that forked it, which lives on."""
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os._exit(1)

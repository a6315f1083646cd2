"""Several processes that train one network: what they agree on, and who writes. One process is the simple case.

    torchrun --nproc-per-node 2 -m training.train ...

Each process takes its share of every batch, so a run gives the same network by one process and by many, but for what
looks at a share alone: batch normalisation, dropout and the mixing of images. The first process alone validates,
writes files and shows progress.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from cnn_perception.errors import ConfigError

T = TypeVar("T")

PATIENCE = datetime.timedelta(hours=6)
"""How long processes wait for the first one: it validates while they do."""


def rank() -> int:
    """Returns the number of this process; 0 is the first, which writes."""
    return dist.get_rank() if _joined() else 0


def count() -> int:
    """Returns the number of processes."""
    return dist.get_world_size() if _joined() else 1


def local_rank() -> int:
    """Returns the number of the GPU of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def chosen_device(wanted: str) -> torch.device:
    """Returns what this process computes on.

    Args:
        wanted: `cpu`, `cuda`, or `auto` for a GPU if there is one.

    Raises:
        ConfigError: If a GPU is wanted and torch sees none.
    """
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise ConfigError("--device cuda: torch sees no GPU here; take auto or cpu")
    if not found or wanted == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", local_rank()) if count() > 1 else torch.device("cuda")


@contextlib.contextmanager
def processes(use_gpu: bool) -> Iterator[None]:
    """Joins the processes that torchrun started, and silences all but the first; does nothing without torchrun.

    Args:
        use_gpu: Whether each of them computes on a GPU, where there are any.

    Raises:
        ConfigError: If the GPUs of this machine do not suffice.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    gpus = torch.cuda.device_count() if use_gpu else 0
    if 0 < gpus <= local_rank():
        raise ConfigError(f"torchrun started more processes than there are GPUs ({gpus}); lower --nproc-per-node")
    if gpus:
        torch.cuda.set_device(local_rank())
    dist.init_process_group("nccl" if gpus else "gloo", timeout=PATIENCE)
    try:
        with contextlib.ExitStack() as stack:
            if rank() > 0:
                nowhere = stack.enter_context(open(os.devnull, "w"))  # noqa: PTH123
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(nowhere))
            yield
    finally:
        dist.destroy_process_group()


def total(values: list[float], device: torch.device) -> list[float]:
    """Adds up each number over all processes; every process must ask."""
    if not _joined():
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=_meeting_place(device))
    dist.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]


def from_first(value: T, device: torch.device) -> T:
    """Returns what the first process has; every process must ask."""
    if not _joined():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=_meeting_place(device))
    return box[0]


def from_all(value: T) -> list[T]:
    """Returns what each process has, in the order of their numbers; every process must ask."""
    if not _joined():
        return [value]
    boxes: list[Any] = [None] * count()
    dist.all_gather_object(boxes, value)
    return boxes


@contextlib.contextmanager
def first_alone_first(device: torch.device) -> Iterator[None]:
    """Has the first process through before the others; every process must pass."""
    if rank() > 0:
        from_first(None, device)
    yield
    if rank() == 0:
        from_first(None, device)


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _meeting_place(device: torch.device) -> torch.device:
    """Where tensors are exchanged: nccl knows GPUs only."""
    return device if dist.get_backend() == "nccl" else torch.device("cpu")

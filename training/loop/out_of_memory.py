"""Running out of memory is a setting too large, not a defect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from cnn_perception.errors import ConfigError
from training.config import TrainConfig

_SIGNS = ("out of memory", "DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
"""What torch writes into a RuntimeError; CUDA's libraries have their own beside torch.OutOfMemoryError."""


@contextlib.contextmanager
def enough(config: TrainConfig) -> Iterator[None]:
    """Says in one line which setting to lower where the memory does not suffice.

    Raises:
        ConfigError: If memory ran out; the last checkpoint is intact.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in _SIGNS)):
            raise
        last = Path(config.output) / "last.pt"
        left = f"{last} is intact" if last.exists() else "nothing was saved yet"
        raise ConfigError(
            f"out of memory with --batch-size {config.batch_size}; halve it and double --accumulate, or lower "
            f"--input-size, with another --output ({left})"
        ) from None

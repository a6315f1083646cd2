"""Runs on drawn images for tests: LeNet-5, which has no batch normalisation, at 32 x 40 pixels, on one thread."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tiny_images import write_folder

from training import checkpoint
from training.batches.loader import Images, Item, Key
from training.config import make
from training.loop.run import Run, open_run
from training.loop.step import BatchPosition

SETTINGS: dict[str, Any] = {
    "mode": "scratch", "backbone": "lenet5", "dropout": 0.0, "input_size": (32, 40), "batch_size": 8,
    "workers": 0, "device": "cpu", "epochs": 2, "augment": (), "cache_gb": 0.0, "lr": 1e-3, "warmup_epochs": 0.0,
    "amp": "off",  # else float32 on one machine and bf16 on another
}  # fmt: skip
ALONE = BatchPosition(first=True, last=True, images=8, weight=8.0)
"""Of a batch of 8 images that is a step by itself."""


def write_photos(root: Path) -> Path:
    """32 training and 8 validation images of three colours."""
    return write_folder(root, {"go": 12, "stop": 15, "turn": 13})


def tiny_run(data: Path, folder: Path, **changes: Any) -> Run:
    torch.set_num_threads(1)
    return open_run(make(data=str(data), output=str(folder), **{**SETTINGS, **changes}))


def command_line(data: Path, folder: Path, **changes: Any) -> list[str]:
    """The same run as arguments of `python -m training.train`."""
    words = ["--data", str(data), "--output", str(folder)]
    for name, value in {**SETTINGS, **changes}.items():
        text = {"input_size": "32x40", "augment": "none"}.get(name, str(value))
        words += [f"--{name.replace('_', '-')}", text]
    return words


def random_batch(count: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and their classes."""
    made = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 32, 40, generator=made), torch.arange(count) % 3


@dataclass(frozen=True)
class OddImages(Images):
    """Images that cannot be loaded: the process that tries dies, raises, or never comes back."""

    deed: str = "die"

    def item(self, key: Key, out: Any) -> Item:
        if self.deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.deed == "raise":
            raise RuntimeError("a defect")
        threading.Event().wait()
        raise AssertionError


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Those of a checkpoint."""
    return checkpoint.load(path).model


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor], **tolerance: float) -> bool:
    """Whether two networks have the same weights, bit by bit or within the `rtol` and `atol` of torch.allclose."""
    close = functools.partial(torch.allclose, **tolerance) if tolerance else torch.equal
    return one.keys() == other.keys() and all(close(tensor, other[name]) for name, tensor in one.items())

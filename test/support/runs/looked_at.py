"""Networks of random weights and drawn images, to be looked at."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from checkpoints import checkpoint_of
from torch import nn

from training.data.records import Part, Sample
from training.look.subject import Options, Subject
from training.networks import backbones

PARTS: tuple[Part, ...] = ("train", "train", "train", "val")


def samples_of(root: Path) -> list[Sample]:
    """Images of a folder of class folders; of each class every fourth is for validation."""
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    return [
        Sample(path, label, PARTS[index % 4])
        for label, folder in enumerate(folders)
        for index, path in enumerate(sorted(folder.iterdir()))
    ]


def subject_of(name: str, size: int, photos: Path, model: nn.Module | None = None, **options: Any) -> Subject:
    """A network of random weights by its name, or `model` with its own, over a folder of images."""
    torch.manual_seed(0)
    classes = sorted(path.name for path in photos.iterdir() if path.is_dir())
    network = backbones.build(name, len(classes)) if model is None else model
    saved = checkpoint_of(name, network, (size, size), classes)
    return Subject(saved, samples_of(photos), dataclasses.replace(Options(), **options), torch.device("cpu"))

"""Networks of random weights and drawn images, to be looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from checkpoints import checkpoint_of
from torch import nn

from training.checkpoint import Checkpoint
from training.data.records import Part, Sample
from training.graphs import trace
from training.look.subject import Options, Subject
from training.networks import backbones

PARTS: tuple[Part, ...] = ("train", "train", "train", "val")

_graphs: dict[tuple[str, int], Any] = {}
"""By network and size: of the graph a subject only reads the layers, and exporting it takes longer than most tests."""


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
    chosen = dataclasses.replace(Options(), **options)
    if model is not None:
        return Subject(saved, samples_of(photos), chosen, torch.device("cpu"))
    return opened(saved, samples_of(photos), chosen)


def opened(saved: Checkpoint, samples: Sequence[Sample], options: Options) -> Subject:
    """A network that is built by its name, with its layers as they were found before."""
    with mock.patch.object(trace, "to_onnx", _exported_once(saved.backbone, saved.input.height)):
        return Subject(saved, samples, options, torch.device("cpu"))


def _exported_once(name: str, size: int) -> Any:
    export = trace.to_onnx

    def once(*arguments: Any) -> Any:
        if (name, size) not in _graphs:
            _graphs[name, size] = export(*arguments)
        return _graphs[name, size]

    return once

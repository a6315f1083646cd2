"""What a candidate would cost on the robot: its model file in the wanted precision, made and timed on this machine."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnn_perception.model.onnx_model import OnnxModel
from training import checkpoint, config
from training.auto.asked import Precision
from training.auto.candidate import Candidate
from training.auto.trial import open_fold
from training.checkpoint import Checkpoint
from training.data.records import LabelledImages
from training.export import export
from training.graphs.quantise import Reduction

_SECONDS = 3.0
"""For the timing of all files together, as far as the fewest rounds allow."""
_FEWEST, _MOST = 7, 51
_IMAGES = 8
"""Training images that stand for all where only the time of a graph is wanted."""
_ANY_DIFFERENCE = 1e9
"""A network that has learned nothing need not answer alike in a smaller precision."""


def model_file(
    candidate: Candidate, given: Mapping[str, Any], data: LabelledImages, precision: Precision, folder: Path
) -> Path:
    """Returns the model file of a candidate before it learns: the time of an image does not depend on what it knows.

    Raises:
        PerceptionError: If the network cannot be had or exported.
    """
    path = folder / f"{candidate.graph}.onnx"
    work = folder / candidate.graph
    chosen = config.make(**{**candidate.settings, **given, "output": str(work)}, unknown="none")
    run = open_fold(chosen, data)
    run.save(["best.pt"], {}, None)
    saved = _few_images(checkpoint.load(work / "best.pt"))
    shutil.rmtree(work)
    reduction = None if precision == "fp32" else Reduction(precision, calibration_images=_IMAGES, max_loss=1.0)
    export(saved, path, tolerance=_ANY_DIFFERENCE, parity_images=2, reduction=reduction)
    return path


def _few_images(saved: Checkpoint) -> Checkpoint:
    """The checkpoint with a few training images in place of all, and none of the validation part."""
    few = saved.train_images[:_IMAGES]
    targets = saved.train_targets[:_IMAGES]
    return dataclasses.replace(saved, train_images=few, train_targets=targets, val_images=few, val_targets=targets)


def latencies_ms(paths: Mapping[str, Path]) -> dict[str, float]:
    """Returns the median milliseconds of an image by each model file; they are run in turn, as the machine drifts."""
    models = {name: OnnxModel(path) for name, path in paths.items()}
    images = {name: _image(model) for name, model in models.items()}
    first = {name: _once_ms(model, images[name]) for name, model in models.items()}
    rounds = int(np.clip(1000 * _SECONDS / max(sum(first.values()), 1e-6), _FEWEST, _MOST))
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            times[name].append(_once_ms(model, images[name]))
    return {name: statistics.median(found) for name, found in times.items()}


def _image(model: OnnxModel) -> np.ndarray[Any, np.dtype[np.float32]]:
    size = model.spec.input
    return np.random.default_rng(0).standard_normal((1, 3, size.height, size.width), np.float32)


def _once_ms(model: OnnxModel, image: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    started_s = time.perf_counter()
    model.run(image)
    return 1000 * (time.perf_counter() - started_s)

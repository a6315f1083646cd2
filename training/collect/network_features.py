"""Pictures as the frozen backbone of a checkpoint, or of published weights, sees them: what a probe learns from."""

from __future__ import annotations

import threading
from pathlib import Path

import torch
from torch import nn

from cnn_perception.image.messages import RgbImage
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint
from training.checkpoint import Checkpoint
from training.collect.description import Features, Vector, unit
from training.config.preparation import Preparation
from training.networks import backbones
from training.networks.build import restore
from training.networks.untrained import untrained


def of_checkpoint(path: Path) -> Features:
    """Returns what computes the features of a training run's network.

    Raises:
        DataError: If it is no checkpoint of this package.
        ConfigError: If the network cannot be cut before its last layer.
    """
    return _features(checkpoint.load(path))


def of_backbone(name: str, weights: str, classes: str | None) -> Features:
    """Returns what computes the features of a network with published weights.

    Args:
        name: As for `backbones.build`.
        weights: As for `backbones.load_weights`.
        classes: How many classes the weights are for; None where they say it themselves.

    Raises:
        ConfigError: If the network or its weights cannot be had.
    """
    return _features(untrained(name, weights, classes, Preparation()))


def _features(saved: Checkpoint) -> Features:
    cut = backbones.split(restore(saved), saved.input.height, saved.input.width)
    network = nn.Sequential(cut.body, cut.neck).eval()
    lock = threading.Lock()  # torch has threads of its own

    @torch.inference_mode()
    def features(image: RgbImage) -> Vector:
        pixels = torch.from_numpy(preprocess(image, saved.input)).unsqueeze(0)
        with lock:
            found = network(pixels)
        return unit(found.flatten().numpy())

    return features

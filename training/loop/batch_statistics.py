"""Batch normalisation by the statistics of new images, for a network whose weights stay as they are.

A pretrained network normalises by means and variances of the images that it was trained on. They are estimated anew
from the training images of a run, without their labels, and kept where cross-validation on these images says that a
linear layer on the features is better for it.

Source: Li et al. 2017, Revisiting Batch Normalization For Practical Domain Adaptation: statistics of the new images
    with the weights of the old.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # what the public ones, of one to three dimensions, share
from torch.utils.data import DataLoader

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.comparison.difference import Difference, Series, Unit, difference
from cnn_perception.errors import ConfigError, DataError
from training.batches.loader import Batch
from training.config import TrainConfig
from training.data.records import Sample
from training.loop import linear_solver
from training.loop.linear_solver import Features, Scale
from training.networks.backbones import public_name
from training.run_files import write_text
from training.tasks.by_name import task_of
from training.tasks.probabilities import Doubles
from training.tasks.task import Flags, Meaning

FILE = "adapted_norm.json"
"""What was compared and what was kept, in the folder of a run."""
_TOO_FEW_GROUPS = (
    "warning: the training images are of too few groups to compare on other groups; weight decay and normalisation are "
    "chosen on other times of the same: record more groups"
)

Statistics = dict[str, Tensor]
"""Mean, variance and number of batches of each layer, by the number of the layer and the name of the buffer."""


def require(model: nn.Module, backbone: str) -> None:
    """Checks that a network normalises by statistics that can be estimated.

    Raises:
        ConfigError: If it has none.
    """
    if not _layers(model):
        raise none_of(backbone)


def none_of(backbone: str) -> ConfigError:
    """Returns the error of a network without statistics to be estimated."""
    return ConfigError(
        f"--adapt-norm: {public_name(backbone)} has no batch normalisation whose statistics could be adapted; leave it "
        "out"
    )


def of(model: nn.Module) -> Statistics:
    """Returns copies of the statistics by which a network normalises now."""
    return {name: buffer.clone() for name, buffer in _buffers(model).items()}


@torch.no_grad()
def restore(model: nn.Module, statistics: Statistics) -> None:
    """Gives a network statistics that `of` has copied, all or those of some layers."""
    buffers = _buffers(model)
    for name, kept in statistics.items():
        buffers[name].copy_(kept)


def digest(model: nn.Module) -> str:
    """Returns what tells these statistics from all others."""
    found = hashlib.sha256()
    for name, buffer in _buffers(model).items():
        found.update(name.encode())
        found.update(buffer.detach().cpu().numpy().tobytes())
    return found.hexdigest()


@torch.no_grad()
def estimate(model: nn.Module, loader: DataLoader[Batch], device: torch.device) -> int:
    """Estimates the statistics of a network anew from images, in one pass; its weights and all else stay.

    While that lasts its batch normalisation, and nothing else of it, is in training mode: each batch is normalised by
    its own statistics, whose mean is kept. A batch counts by its images, so that a short last one weighs no more than
    it should.

    Source: torch.optim.swa_utils.update_bn, here with batches weighed by their images; variances are the unbiased ones.

    Args:
        model: The network, which is in evaluation mode afterwards.
        loader: The images, in an order that mixes their classes; a batch of a single image is left out.
        device: Where the network is.

    Returns:
        How many layers have new statistics; one that the images do not pass keeps its own.

    Raises:
        DataError: If no batch holds two images that can be read.
    """
    layers = _layers(model)
    before = of(model)
    momenta = [layer.momentum for layer in layers]
    passed = dict.fromkeys(layers, 0)
    images = 0

    def weigh(layer: _BatchNorm, _given: tuple[Any, ...]) -> None:
        passed[layer] += images  # at each call: a layer may be used in several places
        layer.momentum = images / passed[layer]

    model.eval()
    handles = [layer.register_forward_pre_hook(weigh) for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.training = True  # of the layer alone: `train` would reach what it holds, such as timm's dropout
        with ProgressBar(total=len(loader), desc="statistics", unit="batch", leave=False) as bar:
            for batch in loader:
                if len(batch.rows) > 1:
                    images = len(batch.rows)
                    model(batch.images.to(device))
                bar.update()
    finally:
        for layer, handle, momentum in zip(layers, handles, momenta, strict=True):
            handle.remove()
            layer.momentum = momentum
        model.eval()
    if not images:
        restore(model, before)
        raise DataError("--adapt-norm: no two training images can be read together; start again when they are back")
    alone = {str(number) for number, layer in enumerate(layers) if not passed[layer]}
    restore(model, {name: kept for name, kept in before.items() if name.partition(".")[0] in alone})
    return len(layers) - len(alone)


@dataclass(frozen=True)
class HeldOut:
    """How linear layers that were fitted to the other folds answer to the images of each.

    Attributes:
        decay: Their penalty.
        metric: Of all answers together, see `LearningTask.metric`.
        loss: Mean of the images' losses, see `LearningTask.image_losses`.
    """

    decay: float
    metric: float
    loss: float


@dataclass(frozen=True)
class Comparison:
    """What cross-validation says of the features with both statistics, image by image.

    Attributes:
        images: How many were held out.
        title: The metric, in words.
        adapted: With the statistics of the training images.
        before: With those that the network had.
        right: By how much more images are right with the new ones, as a share; None where that cannot be said of one.
        loss: By how much the loss is lower with them.
    """

    images: int
    title: str
    adapted: HeldOut
    before: HeldOut
    right: Difference | None
    loss: Difference

    @property
    def is_better(self) -> bool:
        """Whether the loss is lower beyond chance, and the share of right answers not lower beyond chance."""
        return self.loss.low > 0 and (self.right is None or self.right.high >= 0)

    def in_words(self, origin: str) -> str:
        """Returns what was compared and what is kept, in one line.

        Args:
            origin: What the network was before, such as `as pretrained`.
        """
        scores = f"{self.adapted.metric:.3f} with statistics of these images, {self.before.metric:.3f} {origin}"
        points = ""
        if self.right is not None:
            value, low, high = (100 * share for share in (self.right.value, self.right.low, self.right.high))
            points = f"{value:+.1f} points (95 %: {low:+.1f} to {high:+.1f}), "
        change, low, high = (0.0 - drop for drop in (self.loss.value, self.loss.high, self.loss.low))
        losses = f"loss {change:+.3g} (95 %: {low:+.3g} to {high:+.3g})"
        kept = "taken" if self.is_better else f"kept {origin}"
        return f"adapted normalisation: held-out {self.title} {scores}, {points}{losses}: {kept}"

    def as_json(self) -> dict[str, Any]:
        """Returns what report.json keeps."""
        return {
            "images": self.images,
            "metric": self.title,
            "adapted": dataclasses.asdict(self.adapted),
            "before": dataclasses.asdict(self.before),
            "right": None if self.right is None else dataclasses.asdict(self.right),
            "loss": dataclasses.asdict(self.loss),
        }


def compare(
    adapted: Features, before: Features, samples: Sequence[Sample], meaning: Meaning, config: TrainConfig
) -> Comparison | str:
    """Compares features with both statistics by cross-validation on the training images, each at its best penalty.

    The folds are those by which a probe's penalty is chosen. Images that were recorded together are one event, and so
    are neighbours where the end of a recording is held out.

    What bias remains: the penalty of each is the best one on the very images whose answers are compared, which makes
    both figures, and not one of them alone, a little too good. The new statistics are of all training images, as are
    the means and deviations by which both kinds of features are standardised. They know no label, but each image that
    is held out is one part in n of them; the old statistics do not know it. That favours the new ones a little where
    there are few images.

    Args:
        adapted: Of the n training images, with the new statistics.
        before: Of the same, with those that the network had.
        samples: These images.
        meaning: What the targets mean.
        config: The settings of the run; its penalty, if it has one, is that of both.

    Returns:
        The comparison, or why there is none.
    """
    kinds = (adapted, before)
    if not all(bool(features.embeddings.isfinite().all()) for features in kinds):
        return "the features are not finite"
    folds = linear_solver.usable_folds(samples, config, _TOO_FEW_GROUPS)
    if folds is None:
        return "too few training images to hold any out"
    ours, theirs = (_answers(features, meaning, config, folds) for features in kinds)
    if ours is None or theirs is None:
        return "the answers are not finite"
    unit = _unit(samples, config)
    shown = [samples[row] for row in ours.rows]
    right = None
    if task_of(meaning.task).one_class:
        right = _difference(ours.right.astype(np.float64) - theirs.right, shown, unit, is_share=True)
    loss = _difference(theirs.losses - ours.losses, shown, unit, is_share=False)
    return Comparison(len(shown), task_of(meaning.task).metric_title, ours.summary, theirs.summary, right, loss)


def note(folder: Path, found: Comparison | str, origin: str) -> str:
    """Leaves in a run's folder what was compared and what is kept, and returns it in one line.

    Args:
        folder: Of the run.
        found: What `compare` returned.
        origin: See `Comparison.in_words`.
    """
    if isinstance(found, str):
        facts: dict[str, Any] = {"taken": False, "in_words": f"adapted normalisation: {found}: kept {origin}"}
    else:
        facts = {"taken": found.is_better, "in_words": found.in_words(origin), **found.as_json()}
    write_text(folder / FILE, json.dumps(facts, indent=2) + "\n")
    return str(facts["in_words"])


def noted(folder: Path) -> dict[str, Any]:
    """Returns what `note` has left in a run's folder, for its report."""
    found: dict[str, Any] = json.loads((folder / FILE).read_text())
    return found


@dataclass(frozen=True, eq=False)
class _Answers:
    """Of the images held out, which are `rows` (m,): the summary, the losses (m,), and which are right (m,)."""

    rows: npt.NDArray[np.int64]
    summary: HeldOut
    losses: Doubles
    right: Flags


def _answers(
    features: Features, meaning: Meaning, config: TrainConfig, folds: npt.NDArray[np.int64]
) -> _Answers | None:
    """The answers to images held out, at the best penalty; None where they are not finite."""
    task = task_of(meaning.task)
    outputs = len(meaning.class_names)
    data = Scale.of(features)(features)
    decay = config.weight_decay
    if decay is None:
        decay = linear_solver.best_decay(data, task.name, outputs, folds)
    if decay is None:
        return None
    rows, answers = linear_solver.held_out(data, task.name, outputs, folds, decay)
    logits = answers.cpu().numpy()
    truth = features.targets.cpu().numpy()[rows]
    losses = task.image_losses(task.probabilities(logits, 1.0), truth)
    if not np.isfinite(losses).all():
        return None
    right = logits.argmax(axis=1) == truth if task.one_class else np.zeros(len(rows), np.bool_)
    return _Answers(rows, HeldOut(decay, task.score(logits, truth), float(losses.mean())), losses, right)


def _unit(samples: Sequence[Sample], config: TrainConfig) -> Unit:
    """What of the images is independent of its like."""
    groups = len({sample.group or str(row) for row, sample in enumerate(samples)})
    if groups < len(samples):
        return "bag" if linear_solver.can_validate(samples, linear_solver.folds(samples, config)) else "time"
    return "time" if config.split == "tail" else "frame"


def _difference(values: Doubles, samples: Sequence[Sample], unit: Unit, *, is_share: bool) -> Difference:
    """The mean of differences (m,) of images, in their order."""
    parts = [np.arange(len(values))]
    if unit == "bag":
        names = np.array([sample.group or f"/{row}" for row, sample in enumerate(samples)])
        parts = [np.flatnonzero(names == name) for name in np.unique(names)]
    # a second apart: neighbours are one event for as long as their differences are alike
    series = [Series(values[rows], rows.astype(np.float64)) for rows in parts]
    return difference(series, unit, max_loss=0.0, is_share=is_share)


def _layers(model: nn.Module) -> list[_BatchNorm]:
    """The layers of batch normalisation that keep statistics; those of timm and of users derive from torch's."""
    found = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return [layer for layer in found if layer.track_running_stats]


def _buffers(model: nn.Module) -> Statistics:
    """The statistics themselves."""
    return {
        f"{number}.{name}": buffer
        for number, layer in enumerate(_layers(model))
        for name, buffer in layer.named_buffers(recurse=False)
    }

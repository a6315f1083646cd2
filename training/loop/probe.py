"""A linear probe: features of the frozen backbone, computed once, and a linear layer on them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError, DataError
from training import frozen
from training.batches import feature_cache
from training.batches.feature_cache import FeatureCache
from training.config import MODE_DEFAULTS
from training.data.records import Part, Sample
from training.loop import batch_statistics, linear_solver
from training.loop.linear_solver import Features, Linear, Scale
from training.loop.run import EpochRecord, Run
from training.networks import backbones, build
from training.run_files import replacing
from training.scoring.predict import predict
from training.scoring.scores import ScoredLogits
from training.tasks.by_name import task_of
from training.tasks.task import Meaning

Embedded = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]
"""Embeddings of n images, (n, D), zeros for those that could not be read, and which could, (n,)."""
ITERATIONS = MODE_DEFAULTS["probe"]["epochs"]
"""Most steps of L-BFGS for a head that fine-tuning begins with."""


def fit(run: Run) -> list[EpochRecord]:
    """Trains the last layer alone, and leaves best.pt, last.pt, history.csv and embeddings.npz.

    The penalty is chosen on the training images only; validation images are looked at, never learned from. With
    `adapt_norm` the statistics of the network's batch normalisation are those of the training images where that is
    better, see `batch_statistics`, which leaves adapted_norm.json.

    Args:
        run: What to train on what; its model gets the new last layer, and perhaps new statistics.

    Returns:
        What happened, one record for each iteration of L-BFGS; one in all for numbers.

    Raises:
        ConfigError: If the architecture does not end in a linear layer, or has no statistics to adapt.
        DataError: If the images can no longer be read.
    """
    cut = cut_of(run)
    known, decay = _adapted(run, cut) if run.config.adapt_norm else (None, run.config.weight_decay)
    train, val, samples = _features(run, cut, known)
    scale = Scale.of(train)
    train = scale(train)
    val = scale(val)
    if decay is None:
        decay = _choose_decay(train, samples, run)
    if task_of(run.data.task).least_squares and run.config.epochs != ITERATIONS:
        print("warning: --epochs has no effect: the layer of numbers is computed in one iteration")
    history = _History(run.data, train, val)
    classes = len(run.data.class_names)
    print(f"fitting the last layer to {len(train.targets)} images, weight decay {decay:g}", flush=True)
    layer = linear_solver.fit(train, run.data.task, classes, decay, run.config.epochs, history.add)
    scale.fold_into(cut.classifier, layer)
    print(f"probe: weight decay {decay:g}, {len(history.records)} iterations")
    run.write_history(history.records)
    run.save(["best.pt", "last.pt"], _evaluate(layer, val, run.data).summary(), {})
    return history.records


class _History:
    """How good the layer was after each iteration, on the training and on the validation images."""

    def __init__(self, meaning: Meaning, train: Features, val: Features) -> None:
        self.records: list[EpochRecord] = []
        self._meaning = meaning
        self._train = train
        self._val = val
        self._started_s = time.perf_counter()

    def add(self, layer: Linear) -> None:
        """Evaluates the layer of one more iteration."""
        on_train = _evaluate(layer, self._train, self._meaning)
        on_val = _evaluate(layer, self._val, self._meaning)
        now_s = time.perf_counter()
        record = EpochRecord(
            epoch=len(self.records) + 1,
            phase="probe",
            lr=1.0,
            train_loss=on_train.loss,
            train_metric=on_train.metric,
            val_loss=on_val.loss,
            val_metric=on_val.metric,
            seconds=now_s - self._started_s,
            metric=task_of(self._meaning.task).metric,
        )
        self.records.append(record)
        self._started_s = now_s


def start_head(run: Run) -> None:
    """Gives the last layer of a network what a probe of the training images finds, before anything below it learns.

    A random last layer sends gradients into the features that spoil them until it has learned itself.
    Source: Kumar et al. 2022, Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution: LP-FT.

    Args:
        run: What to train on what; its model gets the new last layer.

    Raises:
        ConfigError: If the architecture does not end in a linear layer.
        DataError: If the images can no longer be read.
    """
    cut = cut_of(run)
    task = run.data.task
    train, samples = readable(run, run.data.part("train"), *_embed(run, cut, "train"))
    if not samples:
        raise _unreadable(run)
    scale = Scale.of(train)
    train = scale(train)
    decay = _choose_decay(train, samples, run)
    layer = linear_solver.fit(train, task, len(run.data.class_names), decay, ITERATIONS)
    scale.fold_into(cut.classifier, layer)
    found = _evaluate(layer, train, run.data)
    print(f"head: a probe of weight decay {decay:g}, training {task_of(task).metric} {found.metric:.3f}")


def cut_of(run: Run) -> backbones.Split:
    """The network, cut before its last layer.

    Raises:
        ConfigError: If that is no linear one.
    """
    cut = backbones.split(run.model, *run.config.input_size)
    if not isinstance(cut.classifier, nn.Linear) or cut.classifier.bias is None:
        what = "--mode finetune" if run.config.mode == "probe" else "--head-init random"
        raise ConfigError(f"{run.config.backbone} does not end in a linear layer with bias; use {what}")
    return cut


def _choose_decay(train: Features, samples: Sequence[Sample], run: Run) -> float:
    """The penalty with the lowest loss by cross-validation on the training images; the middle one without any."""
    task = run.data.task
    folds = linear_solver.usable_folds(samples, run.config)
    decay = None
    if folds is not None:
        decay = linear_solver.best_decay(train, task, len(run.data.class_names), folds)
    if decay is None:
        decay = linear_solver.middle_decay(task)
        print(f"warning: too few training images to choose the weight decay; it is {decay:g}, or give --weight-decay")
    return decay


def _evaluate(layer: Linear, data: Features, meaning: Meaning) -> ScoredLogits:
    return ScoredLogits(layer(data.embeddings).cpu().numpy(), data.targets.cpu().numpy(), meaning)


def _adapted(run: Run, cut: backbones.Split) -> tuple[Embedded, float | None]:
    """Gives the network the statistics of the training images where they are better, says so, and notes it.

    Returns:
        The embeddings of the training images by the network as it is then, and the penalty; None if none was chosen.
    """
    part = run.data.part("train")
    own = batch_statistics.of(run.model)
    before = features_of(run, cut, part)
    if not before[1].any():
        raise _unreadable(run)
    if not batch_statistics.estimate(run.model, run.batches_of(part, run.config.seed), run.device):
        raise batch_statistics.none_of(run.config.backbone)
    after = features_of(run, cut, part)  # it shares the statistics with the network
    both = before[1] & after[1]
    samples = [sample for sample, here in zip(part, both, strict=True) if here]
    targets = torch.from_numpy(task_of(run.data.task).targets(samples)).to(run.device)
    new, old = (Features(torch.from_numpy(rows[both]).to(run.device), targets) for rows, _ in (after, before))
    found = batch_statistics.compare(new, old, samples, run.data, run.config)
    origin = "as initialised" if run.config.weights == "none" else "as pretrained"
    print(batch_statistics.note(run.folder, found, origin), flush=True)
    if not isinstance(found, str) and found.is_better:
        return after, found.adapted.decay
    batch_statistics.restore(run.model, own)
    return before, run.config.weight_decay if isinstance(found, str) else found.before.decay


def _features(
    run: Run, cut: backbones.Split, known: Embedded | None = None
) -> tuple[Features, Features, tuple[Sample, ...]]:
    """The embeddings of the training and of the validation images, from the run's cache where it has them.

    Args:
        run: The run.
        cut: Its network.
        known: Embeddings of the training images; None where they are still to be computed.

    Returns:
        Both, and the training images that could be read.
    """
    path = run.folder / "embeddings.npz"
    key = _key(run)
    cached = _read_cache(path, key)
    if cached is None:
        cached = _embed(run, cut, "train", "val") if known is None else _joined(known, _embed(run, cut, "val"))
        with replacing(path) as file:
            np.savez(file, key=np.array(key), embeddings=cached[0], kept=cached[1])
    embeddings, kept = cached
    everything, samples = readable(run, (*run.data.part("train"), *run.data.part("val")), embeddings, kept)
    training = np.array([sample.part == "train" for sample in samples], np.bool_)
    train = everything.rows(np.flatnonzero(training))
    val = everything.rows(np.flatnonzero(~training))
    if not len(train.targets) or not len(val.targets):
        raise _unreadable(run)
    return train, val, tuple(sample for sample in samples if sample.part == "train")


def _unreadable(run: Run) -> DataError:
    return DataError(f"{run.data.where}: its images can no longer be read; start again when they are back")


def _joined(first: Embedded, second: Embedded) -> Embedded:
    """Embeddings of some images, and of others after them."""
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])


def readable(
    run: Run, samples: Sequence[Sample], embeddings: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]
) -> tuple[Features, tuple[Sample, ...]]:
    """Embeddings (n, D) with the targets of their images, and these images, without those that were not read."""
    if lost := [str(sample.path) for sample, here in zip(samples, kept, strict=True) if not here]:
        ProgressBar.write(f"left out, no longer readable: {', '.join(lost)}")
    read = [sample for sample, here in zip(samples, kept, strict=True) if here]
    targets = torch.from_numpy(task_of(run.data.task).targets(read))
    return Features(torch.from_numpy(embeddings[kept]).to(run.device), targets.to(run.device)), tuple(read)


def _embed(run: Run, cut: backbones.Split, *parts: Part) -> Embedded:
    """Features of the images of some parts, as `features_of` gives them."""
    return features_of(run, cut, tuple(sample for part in parts for sample in run.data.part(part)))


class _Mirror(nn.Module):
    """Exchanges left and right of preprocessed images, (N, 3, height, width)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flip(-1)


def features_of(run: Run, cut: backbones.Split, samples: tuple[Sample, ...], *, mirrored: bool = False) -> Embedded:
    """Returns what the frozen backbone makes of images, from other runs where they had the same.

    Args:
        run: The run, whose network is put into evaluation mode.
        cut: Its network.
        samples: The n images.
        mirrored: Whether left and right are exchanged.

    Returns:
        (n, D) embeddings, and (n,) whether the image could be read.
    """
    run.model.eval()  # what the cut network shares with it and what it does not
    backbone = nn.Sequential(cut.body, cut.neck)
    key = feature_cache.key_of(backbone, [*_facts(run), mirrored], run.device)
    cache = FeatureCache(feature_cache.folder(), key)
    digests = feature_cache.digests_of(samples)
    embeddings, kept = cache.read(digests, cut.classifier.weight.shape[1])
    if found := int(kept.sum()):
        print(f"features of {found} of {len(samples)} images are known from earlier runs")
    new = np.flatnonzero(~kept)
    if len(new):
        loader = run.batches_of(tuple(samples[row] for row in new))
        network = nn.Sequential(_Mirror(), backbone) if mirrored else backbone
        title = "features of mirror images" if mirrored else "features"
        accelerated = frozen.accelerated(network, run.config.input, len(new), run.device)
        for batch in predict(accelerated, loader, run.device, title, keep_bar=True):
            rows = new[batch.rows.numpy()]
            embeddings[rows] = batch.outputs.numpy()
            kept[rows] = True
        read = [row for row in new if kept[row] and digests[row]]
        cache.add([digests[row] for row in read], embeddings[read])
    return embeddings, kept


def _facts(run: Run) -> list[Any]:
    """What the features of images follow from beside the images and the weights."""
    config = run.config
    return [
        build.identity(config.backbone),
        config.feature_layer,
        config.grid,
        config.channels_last,
        dataclasses.asdict(config.input),
    ]


def cached(run: Run) -> Embedded | None:
    """Returns what `fit` left of the training and then the validation images: embeddings (n, D), and which are read."""
    return _read_cache(run.folder / "embeddings.npz", _key(run))


def _key(run: Run) -> str:
    """All that the embeddings depend on."""
    config = run.config
    parts = [s.part for s in run.data.samples]
    seed = config.seed if config.weights == "none" else None
    head = [config.feature_layer, config.grid]
    facts = [
        run.data.sha256,
        parts,
        run.weights,
        build.identity(config.backbone),
        head,
        dataclasses.asdict(config.input),
        seed,
    ]
    if config.adapt_norm:  # the images have decided which statistics the network has now
        facts.append(batch_statistics.digest(run.model))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read_cache(path: Path, key: str) -> Embedded | None:
    """The cached embeddings, None if there are none or they belong to other images or weights."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            if str(saved["key"]) == key:
                return saved["embeddings"], saved["kept"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        pass
    return None

"""What the labels of images are compared by: features of a frozen network, of a model file, or made by hand.

Those of a network and of a model file are kept by the content of the images, as a probe keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.image.messages import read_image
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.spec import InputSpec
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint, config, distributed, learned
from training.baselines import pictures
from training.baselines.features import COLOURS, HOG
from training.batches import feature_cache
from training.batches.feature_cache import FeatureCache
from training.batches.workers import affordable
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.data.records import LabelledImages, Sample
from training.label_errors.options import OF_HEAD
from training.loop import probe
from training.loop.run import Run
from training.networks import backbones, build

Rows = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
_WHOLE = InputSpec(224, 224, "squash", 1.0, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""What features made by hand see of an image: all of it."""


@dataclass(frozen=True, eq=False)
class Described:
    """Features of images.

    Attributes:
        rows: (n, D), zeros where an image could not be read.
        known: (n,) whether it could.
        source: What made them, in words.
        notes: What has to be said of them, a line each.
    """

    rows: Rows
    known: Flags
    source: str
    notes: tuple[str, ...] = ()


Describe = Callable[[LabelledImages], Described]
"""Computes the features of all images of a data set."""


def by_hand(data: LabelledImages) -> Described:
    """Computes colour histograms and histograms of oriented gradients, see `training.baselines.features`."""
    kinds = (COLOURS, HOG)
    specs = {kind: kind.spec(_WHOLE) for kind in kinds}
    found: dict[Path, Rows] = {}
    for chunk in pictures.read(data.samples, list(dict.fromkeys(specs.values())), "features"):
        columns = np.concatenate([kind.compute(chunk.pixels[specs[kind]]) for kind in kinds], axis=1)
        found |= {sample.path: row for sample, row in zip(chunk.samples, columns, strict=True)}
    size = len(next(iter(found.values()))) if found else 1
    rows = np.zeros((len(data.samples), size), np.float32)
    known = np.array([sample.path in found for sample in data.samples], np.bool_)
    for row in np.flatnonzero(known).tolist():
        rows[row] = found[data.samples[row].path]
    return Described(rows, known, "colours and edges (no network was given)")


def of_network(chosen: TrainConfig) -> Describe:
    """Returns how features of a network with published weights are computed, once these are loaded.

    Raises:
        ConfigError: If the network or its weights cannot be had.
    """
    model, loaded = build.start(chosen, 2)
    print(*loaded.lines(chosen.input), sep="\n", end="\n" * bool(loaded.note))
    return lambda data: _seen(chosen, model, data, chosen.backbone)


def of_checkpoint(path: Path, chosen: TrainConfig) -> Describe:
    """Returns how features of a trained network are computed.

    Args:
        path: Of the checkpoint.
        chosen: The settings; those of the network are the checkpoint's.

    Raises:
        DataError: If it cannot be read.
    """
    saved = checkpoint.load(path)
    head = {name: saved.config[name] for name in OF_HEAD if saved.config.get(name) is not None}
    own = config.make(
        output="-",
        mode="probe",
        data=chosen.data,
        backbone=saved.backbone,
        weights="none",
        input_size=(saved.input.height, saved.input.width),
        resize_mode=saved.input.resize_mode,
        crop_fraction=saved.input.crop_fraction,
        interpolation=saved.input.interpolation,
        mean=saved.input.mean,
        std=saved.input.std,
        batch_size=chosen.batch_size,
        workers=chosen.workers,
        device=chosen.device,
        **{name: tuple(value) if isinstance(value, list) else value for name, value in head.items()},
    )
    model = build.restore(saved)

    def describe(data: LabelledImages) -> Described:
        described = _seen(own, model, data, f"{saved.backbone} of {path}")
        return Described(described.rows, described.known, described.source, tuple(_learned_from(saved, data)))

    return describe


def _learned_from(saved: Checkpoint, data: LabelledImages) -> Iterator[str]:
    """Says that a network has learned from what it shall judge, or that this cannot be told."""
    if count := int(learned.among(saved, data.samples, data).sum()):
        yield (
            f"the network has learned from {count} of these images, wrong labels included: it may have bent its "
            "features to them; published weights find more"
        )
    if count := learned.untold(saved, data):
        yield f"the network may have learned from these images, wrong labels included: {learned.why_untold(count)}"


def of_model(path: Path) -> Describe:
    """Returns how the embeddings of a model file are computed.

    Raises:
        ModelError: If it cannot be used.
    """
    model = OnnxModel(path)

    def describe(data: LabelledImages) -> Described:
        cache = FeatureCache(feature_cache.folder(), f"onnx{model.sha256[:28]}")
        digests = feature_cache.digests_of(data.samples)
        size = len(
            model.run(np.zeros((1, 3, model.spec.input.height, model.spec.input.width), np.float32))[0].embedding
        )
        rows, known = cache.read(digests, size)
        new = np.flatnonzero(~known)
        for row in ProgressBar(new.tolist(), "features", unit="img", leave=False):
            found = _embedding(model, data.samples[row])
            known[row] = found is not None
            rows[row] = 0 if found is None else found
        read = [row for row in new.tolist() if known[row] and digests[row]]
        cache.add([digests[row] for row in read], rows[read])
        return Described(rows, known, f"embedding of {path}")

    return describe


def _embedding(model: OnnxModel, sample: Sample) -> Rows | None:
    try:
        tensor = preprocess(read_image(sample.path), model.spec.input)
        return model.run(np.ascontiguousarray(tensor[None]), activation=False)[0].embedding
    except FrameError:
        return None


def _seen(chosen: TrainConfig, model: torch.nn.Module, data: LabelledImages, source: str) -> Described:
    device = distributed.chosen_device(chosen.device)
    layout = torch.channels_last if chosen.channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=layout)
    workers = affordable(chosen.workers or 0, (chosen.batch_size, 3, *chosen.input_size))
    run = Run(chosen, Path("-"), data, model, "", device, workers)
    rows, known = probe.features_of(run, backbones.split(model, *chosen.input_size), data.samples)
    return Described(rows, known, source)


def chosen_by(given: dict[str, Any], chosen: TrainConfig, trained: Path | None, model: Path | None) -> Describe:
    """Returns how the features are computed that the user asked for.

    Args:
        given: Settings that the user gave.
        chosen: All settings.
        trained: A checkpoint; None without one.
        model: A model file; None without one.

    Raises:
        ConfigError: If several are named, or a network without weights.
    """
    named = [flag for flag, value in (("--checkpoint", trained), ("--model", model)) if value is not None]
    named += ["--weights"] * ("weights" in given)
    if len(named) > 1:
        raise ConfigError(f"{named[0]} and {named[1]}: both give features; leave one of them out")
    lonely = [name for name in ("backbone", *OF_HEAD) if name in given and "weights" not in given]
    if lonely:
        flag = lonely[0].replace("_", "-")
        raise ConfigError(f"--{flag} has no effect without --weights; give both or neither")
    if trained is not None:
        return of_checkpoint(trained, chosen)
    if model is not None:
        return of_model(model)
    return of_network(chosen) if "weights" in given else by_hand

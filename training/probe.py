"""A linear probe: features of the frozen backbone, computed once, and a linear layer on them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.metrics import accuracy
from training import backbones
from training.answers import Answers
from training.checkpoint import replacing
from training.run import EpochRecord, Run

WEIGHT_DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""L2 penalties tried by cross-validation, on standardised features and the mean loss of an image."""
FOLDS = 5
CROSS_VALIDATED = 5000
"""Images beyond which cross-validation takes a random part: the penalty depends little on more."""


@dataclass(frozen=True, eq=False)
class Features:
    """Embeddings (n, D) float32 and labels (n,) int64 of the images that could be read."""

    embeddings: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Linear:
    """logits = embeddings @ weight.T + bias, with weight (K, D) and bias (K,), float32."""

    weight: Tensor
    bias: Tensor

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Returns logits (n, K) of embeddings (n, D)."""
        return embeddings @ self.weight.T + self.bias


def fit(run: Run) -> list[EpochRecord]:
    """Trains the last layer alone, and leaves best.pt, last.pt, history.csv and embeddings.npz.

    The penalty is chosen on the training images only; validation images are looked at, never learned from.

    Args:
        run: What to train on what; its model gets the new last layer.

    Returns:
        What happened, one record for each iteration of L-BFGS.

    Raises:
        ConfigError: If the architecture does not end in a linear layer.
    """
    cut = backbones.split(run.model, *run.config.input_size)
    if not isinstance(cut.classifier, nn.Linear) or cut.classifier.bias is None:
        raise ConfigError(f"{run.config.backbone} does not end in a linear layer with bias; use --mode finetune")
    train, val = _features(run, cut)
    centre, spread = train.embeddings.mean(dim=0), train.embeddings.std(dim=0)
    spread[spread < 1e-6] = 1.0  # a feature that never changes tells nothing, and must not be blown up
    train, val = (Features((part.embeddings - centre) / spread, part.labels) for part in (train, val))
    classes, decay = len(run.data.class_names), run.config.weight_decay
    if decay is None:
        losses = cross_validate(train, classes, run.config.seed)
        decay = min(losses, key=lambda candidate: losses[candidate])
    history: list[EpochRecord] = []
    started = time.perf_counter()

    def note(layer: Linear) -> None:
        nonlocal started
        on_train, on_val = (_answers(layer, part) for part in (train, val))
        scores = on_train.loss, accuracy(on_train.confusion), on_val.loss, accuracy(on_val.confusion)
        now = time.perf_counter()
        history.append(EpochRecord(len(history) + 1, "probe", 1.0, *scores, now - started))
        started = now

    layer = fit_linear(train, classes, decay, run.config.epochs, note)
    # The last layer sees raw embeddings: w ((x - centre) / spread) + b, written as one linear layer.
    folded = Linear(layer.weight / spread, layer.bias - (layer.weight / spread) @ centre)
    with torch.no_grad():
        cut.classifier.weight.copy_(folded.weight)
        cut.classifier.bias.copy_(folded.bias)
    print(f"probe: weight decay {decay:g}, {len(history)} iterations")
    run.write_history(history)
    run.save(["best.pt", "last.pt"], _answers(layer, val).summary(), {})
    return history


def fit_linear(
    data: Features,
    classes: int,
    weight_decay: float,
    iterations: int,
    note: Callable[[Linear], None] | None = None,
) -> Linear:
    """Minimises the mean cross-entropy plus weight_decay / 2 x |weight|^2 (the bias is free) by full-batch L-BFGS.

    The problem is convex, so the result depends on nothing but the data and the penalty.

    Args:
        data: Standardised embeddings and labels.
        classes: K.
        weight_decay: The penalty, at least 0.
        iterations: When to stop at the latest.
        note: Called with the layer after each iteration.
    """
    x, y = data.embeddings, data.labels
    weight = torch.zeros(classes, x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(classes, device=x.device, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=1, history_size=20, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        total = cross_entropy(x @ weight.T + bias, y) + weight_decay / 2 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    before = float("inf")
    for _ in range(iterations):
        total = solver.step(objective).item()  # type: ignore[no-untyped-call]  # before the step
        if note is not None:
            note(Linear(weight.detach(), bias.detach()))
        if before - total < 1e-6 * max(total, 1e-3):
            break
        before = total
    return Linear(weight.detach(), bias.detach())


def cross_validate(data: Features, classes: int, seed: int) -> dict[float, float]:
    """Returns the mean loss on held-out folds of the training images for each of `WEIGHT_DECAYS`."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(data.labels))[:CROSS_VALIDATED]
    labels = data.labels.cpu().numpy()[rows]
    # dealing out the images class by class gives every fold its share of each
    folds = np.empty(len(rows), np.int64)
    folds[np.argsort(labels, kind="stable")] = np.arange(len(rows)) % FOLDS
    losses: dict[float, float] = {}
    for decay in tqdm(WEIGHT_DECAYS, "cross-validating", leave=False):
        held_out = 0.0
        for fold in range(FOLDS):
            inside, outside = (
                Features(data.embeddings[r], data.labels[r]) for r in (rows[folds != fold], rows[folds == fold])
            )
            layer = fit_linear(inside, classes, decay, iterations=50)
            held_out += cross_entropy(layer(outside.embeddings), outside.labels, reduction="sum").item()
        losses[decay] = held_out / len(rows)
    return losses


def _answers(layer: Linear, data: Features) -> Answers:
    return Answers(layer(data.embeddings).cpu().numpy(), data.labels.cpu().numpy())


def _features(run: Run, cut: backbones.Split) -> tuple[Features, Features]:
    """The embeddings of the training and of the validation images, from the run's cache where it has them."""
    path, key = run.folder / "embeddings.npz", _key(run)
    cached = _read_cache(path, key)
    if cached is None:
        cached = _embed(run, cut)
        with replacing(path) as file:
            np.savez(file, key=np.array(key), embeddings=cached[0], kept=cached[1])
    embeddings, kept = cached
    samples = (*run.data.part("train"), *run.data.part("val"))
    labels, training = np.array([s.label for s in samples]), np.array([s.part == "train" for s in samples])
    if lost := [str(sample.path) for sample, here in zip(samples, kept, strict=True) if not here]:
        tqdm.write(f"left out, no longer readable: {', '.join(lost)}")
    rows = (np.flatnonzero(kept & training), np.flatnonzero(kept & ~training))
    train, val = (Features(torch.from_numpy(embeddings[r]), torch.from_numpy(labels[r])) for r in rows)
    if not len(train.labels) or not len(val.labels):
        raise DataError(f"{run.data.root}: its images can no longer be read; start again when they are back")
    return (
        Features(train.embeddings.to(run.device), train.labels.to(run.device)),
        Features(val.embeddings.to(run.device), val.labels.to(run.device)),
    )


@torch.inference_mode()
def _embed(run: Run, cut: backbones.Split) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Runs the frozen backbone over all images: (n, D) embeddings, and (n,) whether the image could be read."""
    run.model.eval()
    loader = run.evaluation_batches("train", "val")
    count = len(run.data.part("train")) + len(run.data.part("val"))
    embeddings, kept = np.zeros((count, cut.classifier.weight.shape[1]), np.float32), np.zeros(count, np.bool_)
    with tqdm(total=count, desc="features", unit="img") as bar:
        for batch in loader:
            if len(batch.rows):
                embeddings[batch.rows] = cut.neck(cut.body(batch.images.to(run.device))).float().cpu().numpy()
                kept[batch.rows] = True
            bar.update(len(batch.rows) + len(batch.lost))
    return embeddings, kept


def _key(run: Run) -> str:
    """All that the embeddings depend on."""
    config = run.config
    parts = [s.part for s in run.data.samples]
    seed = config.seed if config.weights == "none" else None
    facts = [run.data.sha256, parts, run.weights, config.backbone, dataclasses.asdict(config.input), seed]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read_cache(path: Path, key: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]] | None:
    """The cached embeddings, None if there are none or they belong to other images or weights."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            if str(saved["key"]) == key:
                return saved["embeddings"], saved["kept"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        pass
    return None

"""A linear probe: features of the frozen backbone, computed once, and a linear layer on them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from tqdm import tqdm

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.spec import Task
from training import backbones, tasks
from training.answers import Answers
from training.checkpoint import replacing
from training.config import TrainConfig
from training.dataset import Part, Sample
from training.run import EpochRecord, Run
from training.tasks import METRIC, Meaning

WEIGHT_DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""L2 penalties tried by cross-validation, on standardised features and the mean loss of an image."""
RIDGE_DECAYS = tuple(10 ** (power / 2) for power in range(-6, 9))
"""The same for numbers, whose answer for all of them costs hardly more than for one: 0.001 to 10000."""
FOLDS = 5
CROSS_VALIDATED = 5000
"""Images beyond which cross-validation takes a random part: the penalty depends little on more."""


@dataclass(frozen=True, eq=False)
class Features:
    """Embeddings (n, D) float32 and targets of the images that could be read, as for `tasks.loss`."""

    embeddings: Tensor
    targets: Tensor

    def rows(self, rows: npt.NDArray[Any]) -> Features:
        """Returns some of the images."""
        return Features(self.embeddings[rows], self.targets[rows])


@dataclass(frozen=True, eq=False)
class Linear:
    """logits = embeddings @ weight.T + bias, with weight (K, D) and bias (K,), float32."""

    weight: Tensor
    bias: Tensor

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Returns logits (n, K) of embeddings (n, D)."""
        return embeddings @ self.weight.T + self.bias


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and standard deviation of each feature over the training images, (D,) float32."""

    centre: Tensor
    spread: Tensor

    @classmethod
    def of(cls, train: Features) -> Scale:
        """Measures the training images."""
        spread = train.embeddings.std(dim=0)
        spread[spread < 1e-6] = 1.0  # a feature that never changes tells nothing, and must not be blown up
        return cls(train.embeddings.mean(dim=0), spread)

    def __call__(self, data: Features) -> Features:
        """Returns standardised embeddings."""
        return Features((data.embeddings - self.centre) / self.spread, data.targets)

    @torch.no_grad()
    def fold_into(self, classifier: nn.Linear | nn.Conv2d, layer: Linear) -> None:
        """Makes a network's last layer, which sees embeddings as they are, one that was fitted to standardised ones.

        layer((x - centre) / spread) is itself one linear layer of x.
        """
        assert classifier.bias is not None  # see `_cut`
        weight = layer.weight / self.spread
        classifier.weight.copy_(weight)
        classifier.bias.copy_(layer.bias - weight @ self.centre)


def fit(run: Run) -> list[EpochRecord]:
    """Trains the last layer alone, and leaves best.pt, last.pt, history.csv and embeddings.npz.

    The penalty is chosen on the training images only; validation images are looked at, never learned from.

    Args:
        run: What to train on what; its model gets the new last layer.

    Returns:
        What happened, one record for each iteration of L-BFGS; one in all for numbers.

    Raises:
        ConfigError: If the architecture does not end in a linear layer.
    """
    cut = _cut(run)
    train, val, samples = _features(run, cut)
    scale = Scale.of(train)
    train, val = scale(train), scale(val)
    task, decay = run.data.task, run.config.weight_decay
    if decay is None:
        decay = _choose_decay(train, samples, run)
    history: list[EpochRecord] = []
    started = time.perf_counter()

    def note(layer: Linear) -> None:
        nonlocal started
        on_train, on_val = (_answers(layer, part, run.data) for part in (train, val))
        scores = on_train.loss, on_train.metric, on_val.loss, on_val.metric
        now = time.perf_counter()
        history.append(EpochRecord(len(history) + 1, "probe", 1.0, *scores, now - started, METRIC[task]))
        started = now

    if task == "regression":
        (layer,) = fit_ridge(train, [decay])
        note(layer)
    else:
        layer = fit_linear(train, task, len(run.data.class_names), decay, run.config.epochs, note)
    scale.fold_into(cut.classifier, layer)
    print(f"probe: weight decay {decay:g}, {len(history)} iterations")
    run.write_history(history)
    run.save(["best.pt", "last.pt"], _answers(layer, val, run.data).summary(), {})
    return history


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
    cut, task = _cut(run), run.data.task
    train, samples = _readable(run, run.data.part("train"), *_embed(run, cut, "train"))
    if not samples:
        raise DataError(f"{run.data.root}: its images can no longer be read; start again when they are back")
    scale = Scale.of(train)
    train = scale(train)
    decay = _choose_decay(train, samples, run)
    if task == "regression":
        (layer,) = fit_ridge(train, [decay])
    else:
        layer = fit_linear(train, task, len(run.data.class_names), decay, iterations=100)
    scale.fold_into(cut.classifier, layer)
    found = _answers(layer, train, run.data)
    print(f"head: a probe of weight decay {decay:g}, training {METRIC[task]} {found.metric:.3f}")


def fit_linear(
    data: Features,
    task: Task,
    outputs: int,
    weight_decay: float,
    iterations: int,
    note: Callable[[Linear], None] | None = None,
) -> Linear:
    """Minimises the mean loss plus weight_decay / 2 x |weight|^2 (the bias is free) by full-batch L-BFGS.

    The problem is convex, so the result depends on nothing but the data and the penalty.

    Args:
        data: Standardised embeddings and targets.
        task: What they are, see `tasks.loss`; not for regression.
        outputs: K.
        weight_decay: The penalty, at least 0.
        iterations: When to stop at the latest.
        note: Called with the layer after each iteration.
    """
    x, y = data.embeddings, data.targets
    weight = torch.zeros(outputs, x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(outputs, device=x.device, requires_grad=True)
    # of the evaluations that one step may take, its line search gets what is left: by default none of one iteration
    solver = torch.optim.LBFGS([weight, bias], max_iter=1, max_eval=26, history_size=20, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        total = tasks.loss(x @ weight.T + bias, y, task) + weight_decay / 2 * weight.square().sum()
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


def fit_ridge(data: Features, weight_decays: Sequence[float]) -> list[Linear]:
    """Minimises half of the mean squared error plus weight_decay / 2 x |weight|^2 (the bias is free), exactly.

    Args:
        data: Standardised embeddings, and targets (n, K) float32.
        weight_decays: Penalties above 0.

    Returns:
        One layer a penalty.

    Source: Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, sections 3.4.1 and 18.3.5.
    """
    x, y = data.embeddings.double(), data.targets.double()
    x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
    x, y = x - x_mean, y - y_mean
    wide = x.shape[1] > len(x)  # then the images span all that matters, and there are fewer of them
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    turned = vectors.T @ (y if wide else x.T @ y)
    layers = []
    for decay in weight_decays:
        solved = vectors @ (turned / (values.clamp(min=0) + len(x) * decay)[:, None])
        weight = (x.T @ solved if wide else solved).T
        layers.append(Linear(weight.float(), (y_mean - weight @ x_mean).float()))
    return layers


def folds(samples: Sequence[Sample], config: TrainConfig) -> npt.NDArray[np.int64]:
    """Returns to which of `FOLDS` folds each training image belongs, (n,).

    What was recorded together stays together: images of one group, and neighbours in time where the end of the
    recording is what was held out. Otherwise each fold gets its share of every class.
    """
    if any(sample.group for sample in samples):
        names = [sample.group or str(row) for row, sample in enumerate(samples)]
        _, group = np.unique(names, return_inverse=True)
        return np.random.default_rng(config.seed).permutation(group.max() + 1)[group] % FOLDS
    if config.split == "tail":
        return np.arange(len(samples)) * FOLDS // len(samples)
    rows = np.random.default_rng(config.seed).permutation(len(samples))
    result = np.empty(len(rows), np.int64)
    # dealing out the images class by class gives every fold its share of each
    order = np.argsort([samples[row].label for row in rows], kind="stable")
    result[rows[order]] = np.arange(len(rows)) % FOLDS
    return result


def cross_validate(data: Features, task: Task, outputs: int, folds: npt.NDArray[np.int64]) -> dict[float, float]:
    """Measures each of `WEIGHT_DECAYS`, or for regression of `RIDGE_DECAYS`, on held-out folds.

    Args:
        data: Standardised embeddings and targets of the training images.
        task: What they are.
        outputs: K.
        folds: The fold of each image, (n,).

    Returns:
        By the penalty, the mean loss; of numbers the mean absolute error, standardised.
    """
    decays = RIDGE_DECAYS if task == "regression" else WEIGHT_DECAYS
    rows = np.random.default_rng(0).permutation(len(folds))[:CROSS_VALIDATED]
    losses = dict.fromkeys(decays, 0.0)
    for fold in tqdm(np.unique(folds[rows]), "cross-validating", leave=False):
        inside, outside = data.rows(rows[folds[rows] != fold]), data.rows(rows[folds[rows] == fold])
        if task == "regression":
            layers = fit_ridge(inside, decays)
        else:
            layers = [fit_linear(inside, task, outputs, decay, iterations=50) for decay in decays]
        for decay, layer in zip(decays, layers, strict=True):
            answers = layer(outside.embeddings)
            numbers = task == "regression"
            loss = (answers - outside.targets).abs().mean() if numbers else tasks.loss(answers, outside.targets, task)
            losses[decay] += loss.item() * len(outside.targets) / len(rows)
    return losses


def _cut(run: Run) -> backbones.Split:
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
    """The penalty with the lowest loss by cross-validation on the training images."""
    losses = cross_validate(train, run.data.task, len(run.data.class_names), folds(samples, run.config))
    return min(losses, key=lambda candidate: losses[candidate])


def _answers(layer: Linear, data: Features, meaning: Meaning) -> Answers:
    return Answers(layer(data.embeddings).cpu().numpy(), data.targets.cpu().numpy(), meaning)


def _features(run: Run, cut: backbones.Split) -> tuple[Features, Features, tuple[Sample, ...]]:
    """The embeddings of the training and of the validation images, from the run's cache where it has them.

    Returns:
        Both, and the training images that could be read.
    """
    path, key = run.folder / "embeddings.npz", _key(run)
    cached = _read_cache(path, key)
    if cached is None:
        cached = _embed(run, cut, "train", "val")
        with replacing(path) as file:
            np.savez(file, key=np.array(key), embeddings=cached[0], kept=cached[1])
    embeddings, kept = cached
    everything, samples = _readable(run, (*run.data.part("train"), *run.data.part("val")), embeddings, kept)
    training = np.array([sample.part == "train" for sample in samples], np.bool_)
    train, val = everything.rows(np.flatnonzero(training)), everything.rows(np.flatnonzero(~training))
    if not len(train.targets) or not len(val.targets):
        raise DataError(f"{run.data.root}: its images can no longer be read; start again when they are back")
    return train, val, tuple(sample for sample in samples if sample.part == "train")


def _readable(
    run: Run, samples: Sequence[Sample], embeddings: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]
) -> tuple[Features, tuple[Sample, ...]]:
    """Embeddings (n, D) with the targets of their images, and these images, without those that were not read."""
    if lost := [str(sample.path) for sample, here in zip(samples, kept, strict=True) if not here]:
        tqdm.write(f"left out, no longer readable: {', '.join(lost)}")
    read = [sample for sample, here in zip(samples, kept, strict=True) if here]
    multiclass = run.data.task == "multiclass"
    targets = torch.tensor([s.label for s in read] if multiclass else [s.values for s in read])
    return Features(torch.from_numpy(embeddings[kept]).to(run.device), targets.to(run.device)), tuple(read)


@torch.inference_mode()
def _embed(run: Run, cut: backbones.Split, *parts: Part) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Runs the frozen backbone over images: (n, D) embeddings, and (n,) whether the image could be read."""
    run.model.eval()
    loader = run.evaluation_batches(*parts)
    count = sum(len(run.data.part(part)) for part in parts)
    embeddings, kept = np.zeros((count, cut.classifier.weight.shape[1]), np.float32), np.zeros(count, np.bool_)
    with tqdm(total=count, desc="features", unit="img") as bar:
        for batch in loader:
            if len(batch.rows):
                embeddings[batch.rows] = cut.neck(cut.body(batch.images.to(run.device))).float().cpu().numpy()
                kept[batch.rows] = True
            bar.update(len(batch.rows) + len(batch.lost))
    return embeddings, kept


def cached(run: Run) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]] | None:
    """Returns what `fit` left of the training and then the validation images: embeddings (n, D), and which are read."""
    return _read_cache(run.folder / "embeddings.npz", _key(run))


def _key(run: Run) -> str:
    """All that the embeddings depend on."""
    config = run.config
    parts = [s.part for s in run.data.samples]
    seed = config.seed if config.weights == "none" else None
    head = [config.feature_layer, config.grid]
    facts = [run.data.sha256, parts, run.weights, config.backbone, head, dataclasses.asdict(config.input), seed]
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

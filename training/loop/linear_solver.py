"""Linear layers fitted to the features of images, and how strongly they are held back."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.model.spec import Task
from training.config import TrainConfig
from training.data.records import Sample
from training.tasks.by_name import task_of

WEIGHT_DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""L2 penalties tried by cross-validation, on standardised features and the mean loss of an image."""
RIDGE_DECAYS = tuple(10 ** (power / 2) for power in range(-6, 9))
"""The same for numbers, whose answer for all of them costs hardly more than for one: 0.001 to 10000."""
FOLDS = 5
CROSS_VALIDATED = 5000
"""Images beyond which cross-validation takes a random part: the penalty depends little on more."""
TOO_FEW_GROUPS = (
    "warning: the training images are of too few groups to choose the weight decay on other groups; it is chosen on "
    "other times of the same: record more groups, or give --weight-decay"
)
THREAD_WORK = 10_000_000
"""Multiply-adds of one pass over the features from which a further thread is worth its start."""


@dataclass(frozen=True, eq=False)
class Features:
    """Embeddings (n, D) float32 and targets of the images that could be read, as for `LearningTask.loss`."""

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


Note = Callable[[Linear], None]
"""Called with the layer as it is after an iteration."""


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
        assert classifier.bias is not None  # see `probe.cut_of`
        weight = layer.weight / self.spread
        classifier.weight.copy_(weight)
        classifier.bias.copy_(layer.bias - weight @ self.centre)


def fit(data: Features, task: Task, outputs: int, decay: float, iterations: int, note: Note | None = None) -> Linear:
    """Returns what `fit_linear` finds, or for numbers `fit_ridge` at once; see there."""
    if not task_of(task).least_squares:
        with _threads(data, outputs):
            return fit_linear(data, task, outputs, decay, iterations, note)
    (layer,) = fit_ridge(data, [decay])
    if note is not None:
        note(layer)
    return layer


@contextlib.contextmanager
def _threads(data: Features, outputs: int) -> Iterator[None]:
    """No more threads than the work is worth: hundreds of small steps would else wait for many threads each."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(np.clip(data.embeddings.numel() * outputs // THREAD_WORK, 1, before)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit_linear(
    data: Features, task: Task, outputs: int, weight_decay: float, iterations: int, note: Note | None = None
) -> Linear:
    """Minimises the mean loss plus weight_decay / 2 x |weight|^2 (the bias is free) by full-batch L-BFGS.

    The problem is convex, so the result depends on nothing but the data and the penalty.

    Args:
        data: Standardised embeddings and targets.
        task: What they are; not for regression.
        outputs: K.
        weight_decay: The penalty, at least 0.
        iterations: When to stop at the latest.
        note: Called with the layer after each iteration.
    """
    learning = task_of(task)
    x, y = data.embeddings, data.targets
    weight = torch.zeros(outputs, x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(outputs, device=x.device, requires_grad=True)
    # of the evaluations that one step may take, its line search gets what is left: by default none of one iteration
    solver = torch.optim.LBFGS([weight, bias], max_iter=1, max_eval=26, history_size=20, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        total = learning.loss(x @ weight.T + bias, y) + weight_decay / 2 * weight.square().sum()
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


def usable_folds(
    samples: Sequence[Sample], config: TrainConfig, note: str = TOO_FEW_GROUPS
) -> npt.NDArray[np.int64] | None:
    """Returns folds by which something can be chosen, by groups or else by time; None where nothing can be held out.

    Args:
        samples: The training images.
        config: Says how they were divided from the others.
        note: Printed where the groups are too few.
    """
    by_group = folds(samples, config)
    if can_validate(samples, by_group):
        return by_group
    by_time = folds_in_time(samples)
    if not can_validate(samples, by_time):
        return None
    print(note)
    return by_time


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
        return _blocks(len(samples))
    rows = np.random.default_rng(config.seed).permutation(len(samples))
    result = np.empty(len(rows), np.int64)
    # dealing out the images class by class gives every fold its share of each
    order = np.argsort([samples[row].label for row in rows], kind="stable")
    result[rows[order]] = np.arange(len(rows)) % FOLDS
    return result


def folds_in_time(samples: Sequence[Sample]) -> npt.NDArray[np.int64]:
    """Returns folds of neighbours in the order of the samples, (n,), whatever their groups; of each class its own."""
    labels = np.array([0 if sample.values else sample.label for sample in samples])
    result = np.empty(len(samples), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        result[rows] = _blocks(len(rows))
    return result


def can_validate(samples: Sequence[Sample], folds: npt.NDArray[np.int64]) -> bool:
    """Returns whether most images, held out with their fold, leave others of their class to learn from."""
    rows = _tried(len(folds))
    labels = [(samples[row].label if not samples[row].values else 0) for row in rows]
    everywhere = Counter(labels)
    of_fold = Counter(zip(labels, folds[rows].tolist(), strict=True))
    left = sum(count for (label, _), count in of_fold.items() if everywhere[label] > count)
    return 2 * left > len(rows)


def middle_decay(task: Task) -> float:
    """Returns the penalty in the middle of those that are tried, for data that cannot choose one."""
    decays = _decays(task)
    return decays[len(decays) // 2]


def _decays(task: Task) -> tuple[float, ...]:
    return RIDGE_DECAYS if task_of(task).least_squares else WEIGHT_DECAYS


def _blocks(count: int) -> npt.NDArray[np.int64]:
    """The fold of each of so many neighbours, (count,)."""
    return np.arange(count) * FOLDS // count


def _tried(count: int) -> npt.NDArray[np.int64]:
    """The rows of so many images that cross-validation looks at."""
    return np.random.default_rng(0).permutation(count)[:CROSS_VALIDATED]


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
    learning = task_of(task)
    decays = _decays(task)
    count = len(_tried(len(folds)))
    losses = dict.fromkeys(decays, 0.0)
    for rows, layers in _fitted_to_others(data, task, outputs, folds, decays):
        outside = data.rows(rows)
        for decay, layer in zip(decays, layers, strict=True):
            loss = learning.held_out_loss(layer(outside.embeddings), outside.targets)
            losses[decay] += loss.item() * len(rows) / count
    return losses


def best_decay(data: Features, task: Task, outputs: int, folds: npt.NDArray[np.int64]) -> float | None:
    """Returns the penalty with the lowest loss by `cross_validate`, with its arguments; None if none is finite."""
    losses = cross_validate(data, task, outputs, folds)
    measured = {decay: loss for decay, loss in losses.items() if math.isfinite(loss)}
    return min(measured, key=lambda candidate: measured[candidate]) if measured else None


def held_out(
    data: Features, task: Task, outputs: int, folds: npt.NDArray[np.int64], decay: float
) -> tuple[npt.NDArray[np.int64], Tensor]:
    """Answers to each image by a layer that was fitted to the other folds.

    Args:
        data: As for `cross_validate`.
        task: What they are.
        outputs: K.
        folds: The fold of each image, (n,).
        decay: The penalty.

    Returns:
        The rows of the m images that cross-validation looks at, (m,) in ascending order, and their outputs, (m, K).
    """
    found = [
        (rows, layer(data.embeddings[rows]))
        for rows, (layer,) in _fitted_to_others(data, task, outputs, folds, [decay])
    ]
    rows = np.concatenate([each for each, _ in found])
    order = np.argsort(rows)
    return rows[order], torch.cat([answers for _, answers in found])[order]


def _fitted_to_others(
    data: Features, task: Task, outputs: int, folds: npt.NDArray[np.int64], decays: Sequence[float]
) -> Iterator[tuple[npt.NDArray[np.int64], list[Linear]]]:
    """Yields the rows of each fold that are looked at, and of each penalty the layer fitted to those of all others."""
    tried = _tried(len(folds))
    for fold in ProgressBar(np.unique(folds[tried]), "cross-validating", leave=False):
        inside = data.rows(tried[folds[tried] != fold])
        with _threads(inside, outputs):
            if task_of(task).least_squares:
                layers = fit_ridge(inside, decays)
            else:
                layers = [fit_linear(inside, task, outputs, decay, iterations=50) for decay in decays]
        yield tried[folds[tried] == fold], layers

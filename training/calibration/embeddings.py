"""What a network makes of images before it decides: the embedding, the input of its last layer, beside the logits."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cnn_perception.errors import DataError
from cnn_perception.model.outputs import FloatArray
from training import learned
from training.batches.loader import Batch, Images, Order, data_loader
from training.data.image_folder import every_image
from training.data.records import Sample
from training.loop import probe
from training.loop.run import Run
from training.networks.weights import classifier_name
from training.scoring.predict import predict as predict_batches
from training.scoring.predict import together
from training.tasks.by_name import task_of
from training.tasks.probabilities import Doubles

MOST_TRAINING_IMAGES = 5000
"""Training images, and never fewer than 10 a class, that stand for all of them: more do not move a mean."""
OUTSIDE = "outside"
CHOOSING = "choosing"
"""Images of none of the classes: those on which the unknown rule is measured, and those that choose its method."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits and embeddings of a network on some images.

    Attributes:
        samples: The n images that could be read.
        logits: (n, K) float32.
        embeddings: (n, D) float32.
    """

    samples: tuple[Sample, ...]
    logits: FloatArray
    embeddings: FloatArray

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(n,) class of each image."""
        return np.array([sample.label for sample in self.samples], np.int64)


def of_run(run: Run) -> dict[str, Predictions]:
    """Returns logits and embeddings on `train` (see `for_centres`), on `val`, and on images of none of the classes.

    Of these `OUTSIDE` are those of the user's folder and those of the validation part, `CHOOSING` those of the training
    part; either may be missing. The test part is left alone: it is for `training.evaluate`, once all is decided.

    Args:
        run: The run; its network has the weights to be used.

    Raises:
        DataError: If the images of a part can no longer be read, or the folder of outside images holds none.
    """
    data = run.data
    config = run.config
    found = _from_probe(run) if config.mode == "probe" else {}
    wanted = {
        "train": for_centres(data.part("train"), len(data.class_names)),
        "val": data.part("val"),
        **(_of_none(run) if task_of(data.task).one_class and config.unknown != "none" else {}),
    }
    for part, samples in wanted.items():
        if samples and part not in found:
            order = Order(len(samples), config.batch_size, None)
            loader = data_loader(Images(samples, config.input), order, run.workers, run.device.type == "cuda")
            found[part] = predict(run.model, loader, run.device, part)
    return found


def _of_none(run: Run) -> dict[str, tuple[Sample, ...]]:
    """The images of none of the classes: those on which the unknown rule is measured, and those that only choose it.

    Of the user's folder those are left out that are labelled images, see `loop.run.open_run`, or in a table already.
    """
    labelled = run.data.outside_of("val")
    folder = learned.with_pixels(outside_images(Path(run.config.outside))) if run.config.outside else []
    named = {sample.pixels for sample in run.data.outside} - {None}
    contrary = {sample.pixels for sample in run.data.samples} - {None}
    others = tuple(sample for sample in folder if sample.pixels not in named | contrary)
    if count := sum(sample.pixels in contrary for sample in folder):
        print(f"--outside: {count} of {len(folder)} images are left out: they are labelled ones")
    return {OUTSIDE: (*labelled, *others), CHOOSING: run.data.outside_of("train")}


@torch.inference_mode()
def _from_probe(run: Run) -> dict[str, Predictions]:
    """A probe has kept the embeddings, and its network is the last layer alone."""
    kept = probe.cached(run)
    if kept is None:
        return {}
    embeddings, readable = kept
    layer = run.model.get_submodule(classifier_name(run.model))
    logits = layer(torch.from_numpy(embeddings).to(run.device)).cpu().numpy()
    samples = (*run.data.part("train"), *run.data.part("val"))
    rows = {sample.path: row for row, sample in enumerate(samples) if readable[row]}
    chosen = {"train": for_centres(run.data.part("train"), len(run.data.class_names)), "val": run.data.part("val")}
    found = {}
    for part, wanted in chosen.items():
        there = [rows[sample.path] for sample in wanted if sample.path in rows]
        if there:
            found[part] = Predictions(tuple(samples[row] for row in there), logits[there], embeddings[there])
    return found


def predict(model: nn.Module, loader: DataLoader[Batch], device: torch.device, title: str) -> Predictions:
    """Returns logits and embeddings of a network on images.

    Args:
        model: What `backbones.build` returned.
        loader: The images, of `batches.loader.data_loader`.
        device: Where the network is.
        title: What the progress bar says.

    Raises:
        DataError: If none of the images can be read.
    """
    images = loader.dataset
    assert isinstance(images, Images)
    with _recorded(model) as embeddings:
        found = together(predict_batches(model, loader, device, title), title)
    samples = tuple(images.samples[row] for row in found.rows)
    return Predictions(samples, found.outputs.numpy(), torch.cat(embeddings).numpy())


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what enters the last layer; where that is a convolution, its mean over the cells as in `split`."""
    found: list[Tensor] = []

    def record(_layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        features = given[0].float()
        found.append((features.mean((2, 3)) if features.ndim == 4 else features).cpu())

    handle = model.get_submodule(classifier_name(model)).register_forward_pre_hook(record)
    try:
        yield found
    finally:
        handle.remove()


def for_centres(samples: Sequence[Sample], classes: int) -> tuple[Sample, ...]:
    """Returns the training images that the class centres are made of: all, or of each class as many at random."""
    most = max(10, MOST_TRAINING_IMAGES // classes)
    shuffled = random.Random(0).sample(list(samples), len(samples))
    taken: dict[int, list[Sample]] = {}
    for sample in shuffled:
        of_class = taken.setdefault(sample.label, [])
        if len(of_class) < most:
            of_class.append(sample)
    return tuple(sample for label in sorted(taken) for sample in taken[label])


def outside_images(path: Path) -> tuple[Sample, ...]:
    """Returns all images below a folder, of no class of ours.

    Raises:
        DataError: If there are none.
    """
    files = every_image(path)
    if not files:
        raise DataError(f"{path}: holds no image; name a folder of images that show none of the classes")
    return tuple(Sample(file, 0, "test") for file in files)


def normalised(rows: npt.NDArray[np.floating[Any]]) -> Doubles:
    """Returns (n, D) rows scaled to the length 1; a row of zeros stays as it is."""
    exact = rows.astype(np.float64)
    return np.asarray(exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12))
